"""Songs of the demo, and the table it prints."""

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

from mt2_music.music import MAJOR_TONICS, key_name, signature
from mt2_music.song.keys import KeyEstimate
from mt2_music.train.synth import compose, draw_programs, humanised, play_additive, play_soundfont

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
    script = Path(__file__).with_name("isolated.py").resolve()
    with tempfile.TemporaryDirectory() as elsewhere:
        output = Path(elsewhere) / "embeddings.npy"
        files = [str(song.path.resolve()) for song in songs]
        command = [sys.executable, "-I", str(script), str(model_dir.resolve()), str(output), *files]
        subprocess.run(command, cwd=elsewhere, check=True)
        return np.load(output)


def print_table(songs: list[Song], estimates: list[KeyEstimate], embeddings: np.ndarray) -> None:
    """Print one line per song: true key, estimated key, the strongest bins of its profile, and the nearest song."""
    centred = embeddings - embeddings.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = centred @ centred.T
    np.fill_diagonal(similarity, -np.inf)
    names = [song.path.stem[:32] for song in songs]
    width = max(map(len, names))
    key_width = max(len("estimated"), *(len(estimate.name) for estimate in estimates))
    titles = f"{'song':{width}}  {'true key':9}  {'estimated':{key_width}}  {'profile, strongest bins':26}"
    print(f"\n{titles}  {'':9}  nearest song")
    for index, (song, estimate) in enumerate(zip(songs, estimates, strict=True)):
        top = np.argsort(-estimate.profile)[:3]
        bins = "  ".join(f"{MAJOR_TONICS[bin_]:>2} {estimate.profile[bin_]:.2f}" for bin_ in top)
        verdict = _verdict(song, estimate)
        nearest = names[int(similarity[index].argmax())]
        print(f"{names[index]:{width}}  {song.key:9}  {estimate.name:{key_width}}  {bins:26}  {verdict:9}  {nearest}")
    print("(a bin is named after the major key with its signature: C stands for C major and A minor)\n")


def _verdict(song: Song, estimate: KeyEstimate) -> str:
    """Say whether a key is right, or its signature alone."""
    if song.signature is None or estimate.signature != song.signature:
        return ""
    return "right" if estimate.key in (song.key, None) else "signature"


def share_right(songs: list[Song], estimates: list[KeyEstimate]) -> str:
    """Say how many signatures are right, how many are off by one fifth, and how many keys, if these are named."""
    pairs = zip(songs, estimates, strict=True)
    steps = [
        None if estimate.signature is None else (estimate.signature - song.signature) % 12
        for song, estimate in pairs
        if song.signature is not None
    ]
    right, fifth = steps.count(0) / len(steps), (steps.count(5) + steps.count(7)) / len(steps)
    said = f"{right:.1%} right, {fifth:.1%} a fifth off"
    if all(estimate.key is None for estimate in estimates):
        return said
    named = [estimate.key == song.key for song, estimate in zip(songs, estimates, strict=True)]
    return f"{said}; keys, major or minor: {np.mean(named):.1%} right"
