"""The whole way in a few minutes: music, pre-training, a published folder, embeddings, keys, pictures.

`python -m mt2_music.train.demo` composes its own songs with known keys; `--audio DIR` takes your music instead.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForPreTraining, MT2Model
from mt2_music.embed import MAJOR_TONICS, SIGNATURES, KeyEstimate, embed_audio, estimate_key

from . import pretrain, publish
from .calibrate import calibrate_key
from .config import demo as demo_preset
from .data import find_files, scan
from .plots import plot_profile, plot_training
from .synth import compose, draw_programs, find_soundfont, humanised, play_additive, play_soundfont
from .synth.score import key_name, signature

SAMPLING_RATE = 16000
NUM_TRAINING_SONGS, NUM_HELD_OUT_SONGS = 480, 96
SONG_SECONDS = 24.0
TRAINING_SEED, HELD_OUT_SEED = 1, 2
MAX_SONGS_SHOWN = 48


@dataclass(frozen=True)
class Song:
    """A song of the demo; key and signature are unknown for a user's own music."""

    path: Path
    key: str = "?"
    signature: int | None = None


def make_song(index: int, folder: Path, seed: int, soundfont: Path | None) -> Song:
    """Compose and render song `index`: all 24 keys in turn, everything else random."""
    rng = np.random.default_rng([seed, index])
    tonic, mode = index % 12, ("major", "minor")[index // 12 % 2]
    score = humanised(compose(rng, SONG_SECONDS, tonic, mode), rng)
    if soundfont is None:
        audio = play_additive(score, rng, SAMPLING_RATE)
    else:
        audio = play_soundfont(
            score, draw_programs({note.part for note in score.notes}, rng), soundfont, SAMPLING_RATE
        )
        audio *= rng.uniform(0.3, 0.9) / np.abs(audio).max()
    key = key_name(tonic, mode)
    path = folder / f"{index:03d} {key}.flac"
    soundfile.write(path, audio, SAMPLING_RATE, subtype="PCM_16")
    return Song(path, key, signature(key))


def make_music(folder: Path, count: int, seed: int, soundfont: Path | None) -> list[Song]:
    """Render a folder of songs on all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    make = partial(make_song, folder=folder, seed=seed, soundfont=soundfont)
    with ProcessPoolExecutor() as pool:
        songs = pool.map(make, range(count), chunksize=8)
        return list(tqdm(songs, total=count, unit="song", desc=f"rendering {folder.name}"))


def untrained_model(run_dir: Path, extractor: MT2FeatureExtractor, songs: list[Path]) -> MT2ForPreTraining:
    """Return what the model was before its first step, with the centring it would have on some training songs."""
    model = MT2ForPreTraining(MT2Config.from_pretrained(run_dir)).eval()
    with torch.no_grad():
        logits = torch.cat([model(**extractor([song], return_tensors="pt")).key_logits for song in songs])
    model.key_head.running_mean.copy_(logits.mean(0))
    model.key_head.running_var.copy_(logits.var(0))
    calibrate_key(model, extractor)
    return model


def embed_in_fresh_process(model_dir: Path, songs: list[Song]) -> np.ndarray:
    """Embed songs with nothing but the published folder, in a process that starts elsewhere."""
    script = Path(__file__).with_name("demo_load.py").resolve()
    with tempfile.TemporaryDirectory() as elsewhere:
        output = Path(elsewhere) / "embeddings.npy"
        files = [str(song.path.resolve()) for song in songs]
        command = [sys.executable, "-I", str(script), str(model_dir.resolve()), str(output), *files]
        subprocess.run(command, cwd=elsewhere, check=True)
        return np.load(output)


def print_table(songs: list[Song], estimates: list[KeyEstimate], embeddings: np.ndarray) -> None:
    """Print one line per song: its key, the strongest bins of its profile, and the song that sounds nearest."""
    centred = embeddings - embeddings.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = centred @ centred.T
    np.fill_diagonal(similarity, -np.inf)
    names = [song.path.stem[:32] for song in songs]
    width = max(map(len, names))
    print(f"\n{'song':{width}}  {'true key':9}  {'profile, strongest bins':26}  {'':5}  nearest song")
    for index, (song, estimate) in enumerate(zip(songs, estimates, strict=True)):
        top = np.argsort(-estimate.profile)[:3]
        bins = "  ".join(f"{MAJOR_TONICS[bin_]:>2} {estimate.profile[bin_]:.2f}" for bin_ in top)
        verdict = "" if song.signature is None else "right" if estimate.signature == song.signature else ""
        print(
            f"{names[index]:{width}}  {song.key:9}  {bins:26}  {verdict:5}  {names[int(similarity[index].argmax())]}"
        )
    print("(a bin is named after the major key with its signature: C stands for C major and A minor)\n")


def share_right(songs: list[Song], estimates: list[KeyEstimate]) -> str:
    """Say how many signatures are right, and how many are off by one fifth."""
    pairs = zip(songs, estimates, strict=True)
    steps = [(heard.signature - song.signature) % 12 for song, heard in pairs if song.signature is not None]
    right, fifth = steps.count(0) / len(steps), (steps.count(5) + steps.count(7)) / len(steps)
    return f"{right:.1%} right, {fifth:.1%} a fifth off"


def main(argv: list[str] | None = None) -> None:
    """Run the demo and leave everything it made in one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, help="your own folder of music, instead of composed songs")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything the demo makes")
    parser.add_argument("--max_steps", type=int, help="training steps, instead of about two minutes' worth")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output, own_music = arguments.output, arguments.audio is not None
    run_dir, model_dir = output / "run", output / "model"

    print("1. music")
    if own_music:
        audio_dir = arguments.audio.expanduser()
        tracks = scan(find_files(audio_dir), demo_preset()["window_seconds"])
        songs = [Song(Path(track.source)) for track in tracks.tracks[:MAX_SONGS_SHOWN]]
        data = f"The music in a folder named {audio_dir.name}; its licences are not stated."
    else:
        soundfont = find_soundfont()
        voice = f"through the SoundFont {soundfont.name}" if soundfont else "with plain additive tones"
        print(
            f"composing {NUM_TRAINING_SONGS} songs to train on and {NUM_HELD_OUT_SONGS} held-out ones, played {voice}"
        )
        if soundfont is None:
            print("(no SoundFont player here: these songs have no real instruments and are easier than music)")
        audio_dir = output / "training songs"
        training_songs = make_music(audio_dir, NUM_TRAINING_SONGS, TRAINING_SEED, soundfont)
        songs = make_music(output / "held-out songs", NUM_HELD_OUT_SONGS, HELD_OUT_SEED, soundfont)
        tracks = scan(find_files(audio_dir), demo_preset()["window_seconds"])
        data = f"Songs composed by mt2-music's generator, played {voice}. No rights of others in the compositions."

    print("\n2. pre-training")
    if (run_dir / pretrain.SETTINGS_FILE).is_file():  # of an earlier demo; this one starts anew
        shutil.rmtree(run_dir)
    batch_size = min(demo_preset()["per_device_train_batch_size"], len(tracks))
    training = ["--preset", "demo", "--audio_dir", str(audio_dir), "--output_dir", str(run_dir)]
    training += ["--per_device_train_batch_size", str(batch_size)]
    if arguments.max_steps is not None:
        training += ["--max_steps", str(arguments.max_steps), "--save_steps", str(arguments.max_steps)]
        training += ["--logging_steps", "1"]
    pretrain.main(training)

    print("\n3. publishing")
    if publish.main([str(run_dir), str(model_dir), "--training_data", data, "--replace"]):
        raise SystemExit(1)

    print("\n4. loading the published folder in a fresh process, and embedding")
    embeddings = embed_in_fresh_process(model_dir, songs)
    extractor = MT2FeatureExtractor.from_pretrained(model_dir)
    with_package = embed_audio(MT2Model.from_pretrained(model_dir).eval(), extractor, songs[0].path)["mean"]
    if not np.array_equal(with_package, embeddings[0]):
        raise RuntimeError("the published folder and the package give different embeddings")
    model = MT2ForPreTraining.from_pretrained(model_dir).eval()
    estimates = [estimate_key(model, extractor, song.path) for song in tqdm(songs, unit="song", desc="keys")]
    print_table(songs[:MAX_SONGS_SHOWN], estimates[:MAX_SONGS_SHOWN], embeddings[:MAX_SONGS_SHOWN])

    plot_training(run_dir / "trainer_state.json", output / "loss.png")
    best = max(range(len(songs)), key=lambda index: estimates[index].confidence)
    title = f"{songs[best].path.stem}: heard as {SIGNATURES[estimates[best].signature]}"
    plot_profile(estimates[best].profile, title, output / "profile.png")
    print(f"pictures: {output / 'loss.png'} and {output / 'profile.png'}; model: {model_dir}")
    if not own_music:
        untrained = untrained_model(run_dir, extractor, [song.path for song in training_songs[:96]])
        before = [estimate_key(untrained, extractor, song.path) for song in songs]
        result = {"held_out_songs": len(songs), "trained": share_right(songs, estimates)}
        result["untrained"] = share_right(songs, before)
        (output / "result.json").write_text(json.dumps(result, indent=1))
        print(f"key signatures of {len(songs)} held-out songs: {result['trained']} after training")
        print(f"{'':>35} {result['untrained']} before (a plain chroma); 8.3% by chance")


if __name__ == "__main__":
    main()
