"""Try a published model: `python -m mt2_music.train.demo` embeds songs, estimates keys, and finds the nearest songs.

It composes its own songs, one in every key; `--audio DIR` takes your music instead. With `--train` it trains
the model first, in a few minutes: music, pre-training, a published folder, embeddings, keys, pictures.
"""

import argparse
import json
import logging
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mt2_music.interrupts import command
from mt2_music.loading import find_model
from mt2_music.music import KEY_LABELS
from mt2_music.music_model import load
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.data.tracks import find_files, scan
from mt2_music.train.plots.pictures import plot_profile, plot_training
from mt2_music.train.pretrain.__main__ import main as pretrain
from mt2_music.train.pretrain.config import demo as demo_preset
from mt2_music.train.publish.__main__ import main as publish
from mt2_music.train.run_folder import SETTINGS_FILE
from mt2_music.train.synth import find_soundfont

from .songs import (
    HELD_OUT_SEED,
    MAX_SONGS_SHOWN,
    NUM_HELD_OUT_SONGS,
    NUM_TRAINING_SONGS,
    TRAINING_SEED,
    Song,
    embed_in_fresh_process,
    make_music,
    print_table,
    share_right,
)


@command("demo", "start again")
def main(argv: list[str] | None = None) -> None:
    """Run the demo and leave everything it made in one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="your own folder of music, instead of composed songs")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything the demo makes")
    parser.add_argument("--train", action="store_true", help="train a model first, instead of the published one")
    parser.add_argument("--max_steps", type=int, help="training steps (default: about two minutes of training)")
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

    model_dir = Path(find_model(DEFAULT_MODEL))
    if train:
        model_dir = train_model(output, audio, num_tracks, soundfont, voice, arguments.max_steps)

    print("\nloading the published folder in a fresh process, and embedding")
    embeddings = embed_in_fresh_process(model_dir, songs)
    model = load(model_dir, device="cpu")
    # The package decodes in blocks, so the roundings differ.
    if not np.allclose(model.embed(songs[0].path).mean, embeddings[0], atol=1e-4):
        raise RuntimeError("the published folder and the package give different embeddings")
    estimates = [model.key(song.path) for song in tqdm(songs, unit="song", desc="keys")]
    print_table(songs[:MAX_SONGS_SHOWN], estimates[:MAX_SONGS_SHOWN], embeddings[:MAX_SONGS_SHOWN])
    best = max(range(len(songs)), key=lambda index: estimates[index].confidence)
    title = f"{songs[best].path.stem}: estimated as {estimates[best].name}"
    plot_profile(estimates[best].profile, title, output / "profile.png")
    print(f"picture: {output / 'profile.png'}; model: {model_dir}")
    if audio is None:
        result = {"held_out_songs": len(songs), "right": share_right(songs, estimates)}
        (output / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        print(f"key signatures of {len(songs)} held-out songs (8.3% by chance): {result['right']}")


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
    if (run_dir / SETTINGS_FILE).is_file():  # of an earlier demo; this one starts anew
        shutil.rmtree(run_dir)
    batch_size = min(demo_preset()["per_device_train_batch_size"], num_tracks)
    training = ["--preset", "demo", "--audio_dir", str(audio), "--output_dir", str(run_dir)]
    training += ["--per_device_train_batch_size", str(batch_size)]
    if max_steps is not None:
        training += ["--max_steps", str(max_steps), "--save_steps", str(max_steps), "--logging_steps", "1"]
    if pretrain(training):
        raise SystemExit(1)

    print("\npublishing")
    if publish([str(run_dir), str(model_dir), "--training_data", data, "--replace"]):
        raise SystemExit(1)
    plot_training(run_dir / "trainer_state.json", output / "loss.png")
    print(f"picture: {output / 'loss.png'}")
    return model_dir


if __name__ == "__main__":
    main()
