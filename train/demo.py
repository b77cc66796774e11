"""What a published model hears: `python -m mt2_music.train.demo` embeds songs, names their keys, finds the nearest.

It composes its own songs, one in every key; `--audio DIR` takes your music instead. With `--train` it goes the whole
way in a few minutes: music, pre-training, a published folder, embeddings, keys, pictures.
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
from tqdm import tqdm

from mt2_music import MT2FeatureExtractor, MT2Model
from mt2_music.cli import DEFAULT_MODEL, key_listener
from mt2_music.embed import embed_audio, load_model
from mt2_music.keys import KEY_LABELS, MAJOR_TONICS, KeyEstimate

from . import pretrain, publish
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
    """Print one line per song: true key, heard key, the strongest bins of its profile, and the nearest song."""
    centred = embeddings - embeddings.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = centred @ centred.T
    np.fill_diagonal(similarity, -np.inf)
    names = [song.path.stem[:32] for song in songs]
    width = max(map(len, names))
    wide = max(len(estimate.name) for estimate in estimates)
    print(
        f"\n{'song':{width}}  {'true key':9}  {'heard':{wide}}  {'profile, strongest bins':26}  {'':5}  nearest song"
    )
    for index, (song, estimate) in enumerate(zip(songs, estimates, strict=True)):
        top = np.argsort(-estimate.profile)[:3]
        bins = "  ".join(f"{MAJOR_TONICS[bin_]:>2} {estimate.profile[bin_]:.2f}" for bin_ in top)
        verdict = "" if song.signature is None else "right" if estimate.signature == song.signature else ""
        nearest = names[int(similarity[index].argmax())]
        print(f"{names[index]:{width}}  {song.key:9}  {estimate.name:{wide}}  {bins:26}  {verdict:5}  {nearest}")
    print("(a bin is named after the major key with its signature: C stands for C major and A minor)\n")


def share_right(songs: list[Song], estimates: list[KeyEstimate]) -> str:
    """Say how many signatures are right, and how many are off by one fifth."""
    pairs = zip(songs, estimates, strict=True)
    steps = [(heard.signature - song.signature) % 12 for song, heard in pairs if song.signature is not None]
    right, fifth = steps.count(0) / len(steps), (steps.count(5) + steps.count(7)) / len(steps)
    return f"{right:.1%} right, {fifth:.1%} a fifth off"


def main(argv: list[str] | None = None) -> None:
    """Run the demo and leave everything it made in one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="your own folder of music, instead of composed songs")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything the demo makes")
    parser.add_argument("--train", action="store_true", help="train a model first, instead of the published one")
    parser.add_argument("--max_steps", type=int, help="training steps, instead of about two minutes' worth")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output, audio, train = arguments.output, arguments.audio, arguments.train
    output.mkdir(parents=True, exist_ok=True)

    print("music")
    soundfont = find_soundfont()
    voice = f"through the SoundFont {soundfont.name}" if soundfont else "with plain additive tones"
    num_tracks = NUM_TRAINING_SONGS
    if audio is not None:
        tracks = scan(find_files(audio.expanduser()), demo_preset()["window_seconds"])
        num_tracks = len(tracks)
        songs = [Song(Path(track.source)) for track in tracks.tracks[:MAX_SONGS_SHOWN]]
    else:
        count = NUM_HELD_OUT_SONGS if train else len(KEY_LABELS)
        print(f"composing {count} songs that no model was trained on, played {voice}")
        songs = make_music(output / "held-out songs", count, HELD_OUT_SEED, soundfont)

    model_dir = DEFAULT_MODEL
    if train:
        model_dir = train_model(output, audio, num_tracks, soundfont, voice, arguments.max_steps)

    print("\nloading the published folder in a fresh process, and embedding")
    embeddings = embed_in_fresh_process(model_dir, songs)
    extractor = MT2FeatureExtractor.from_pretrained(model_dir)
    with_package = embed_audio(load_model(MT2Model, model_dir), extractor, songs[0].path).track["mean"]
    if not np.allclose(with_package, embeddings[0], atol=1e-4):  # which decodes bit by bit: not the same roundings
        raise RuntimeError("the published folder and the package give different embeddings")
    hear = key_listener(model_dir, extractor)
    estimates = [hear(song.path) for song in tqdm(songs, unit="song", desc="keys")]
    print_table(songs[:MAX_SONGS_SHOWN], estimates[:MAX_SONGS_SHOWN], embeddings[:MAX_SONGS_SHOWN])
    best = max(range(len(songs)), key=lambda index: estimates[index].confidence)
    title = f"{songs[best].path.stem}: heard as {estimates[best].name}"
    plot_profile(estimates[best].profile, title, output / "profile.png")
    print(f"picture: {output / 'profile.png'}; model: {model_dir}")
    if audio is None:
        result = {"held_out_songs": len(songs), "right": share_right(songs, estimates)}
        (output / "result.json").write_text(json.dumps(result, indent=1))
        print(f"key signatures of {len(songs)} held-out songs: {result['right']}; by chance 8.3%")


def train_model(
    output: Path, audio: Path | None, num_tracks: int, soundfont: Path | None, voice: str, max_steps: int | None
) -> Path:
    """Pre-train a small model on a folder of music, or on composed songs, and return its published folder."""
    run_dir, model_dir = output / "run", output / "model"
    if audio is not None:
        audio = audio.expanduser()
        data = f"The music in a folder named {audio.name}; its licences are not stated."
    else:
        print(f"composing {NUM_TRAINING_SONGS} songs to train on")
        if soundfont is None:
            print("(no SoundFont player here: these songs have no real instruments and are easier than music)")
        audio = output / "training songs"
        make_music(audio, NUM_TRAINING_SONGS, TRAINING_SEED, soundfont)
        data = f"Songs composed by mt2-music's generator, played {voice}. No rights of others in the compositions."

    print("\npre-training")
    if (run_dir / pretrain.SETTINGS_FILE).is_file():  # of an earlier demo; this one starts anew
        shutil.rmtree(run_dir)
    batch_size = min(demo_preset()["per_device_train_batch_size"], num_tracks)
    training = ["--preset", "demo", "--audio_dir", str(audio), "--output_dir", str(run_dir)]
    training += ["--per_device_train_batch_size", str(batch_size)]
    if max_steps is not None:
        training += ["--max_steps", str(max_steps), "--save_steps", str(max_steps), "--logging_steps", "1"]
    pretrain.main(training)

    print("\npublishing")
    if publish.main([str(run_dir), str(model_dir), "--training_data", data, "--replace"]):
        raise SystemExit(1)
    plot_training(run_dir / "trainer_state.json", output / "loss.png")
    print(f"picture: {output / 'loss.png'}")
    return model_dir


if __name__ == "__main__":
    main()
