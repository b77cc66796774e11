"""Consistency of keys on recordings without labels: `python benchmarks/songs/recordings.py MUSIC --models NAME...`.

Two checks that need no labels. The two halves of a track are mostly in one key, so their estimates should agree. A
track played faster or slower by some semitones should be estimated as many semitones higher or lower. Krumhansl's
templates on a chroma are the baseline. The music must not be what the model was trained on. Writes recordings.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

import mt2_music
from mt2_music.feature_extraction.decoding import read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.music import SIGNATURES, key_of_chroma, signature
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.data.tracks import find_files
from mt2_music.train.probing.encoders import SpectrogramStatistics

SAMPLING_RATE = 16000
MIN_SECONDS = 30.0
SEMITONES = (-3, -2, -1, 1, 2, 3)
SignatureEstimator = Callable[[np.ndarray], int]


def check(estimate: SignatureEstimator, tracks: list[np.ndarray]) -> tuple[float, float, float, float]:
    """Return shares of tracks whose halves agree, or nearly, and of transpositions that are followed, or nearly."""
    halves, moved = [], []
    for index, track in enumerate(tqdm(tracks, unit="track")):
        middle = len(track) // 2
        halves.append((estimate(track[middle:]) - estimate(track[:middle])) % 12)
        whole = estimate(track)
        shift = SEMITONES[index % len(SEMITONES)]
        # Samples of a faster rate played at ours: all pitches rise, and the music ends sooner.
        faster = resample(track, round(SAMPLING_RATE * 2 ** (shift / 12)), SAMPLING_RATE)
        moved.append((estimate(faster) - whole - shift) % 12)
    near = (0, 5, 7)
    return (
        float(np.mean(np.array(halves) == 0)),
        float(np.mean(np.isin(halves, near))),
        float(np.mean(np.array(moved) == 0)),
        float(np.mean(np.isin(moved, near))),
    )


def likeliest_signature(model: mt2_music.MusicModel) -> SignatureEstimator:
    """Return what names signatures with a model, as `mt2 key` does, also of tracks without a clear key."""
    return lambda waveform: int(model.key(waveform, SAMPLING_RATE).profile.argmax())


def main() -> None:
    """Check the models and the templates, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, help="folder of recordings")
    parser.add_argument("--models", nargs="+", default=[DEFAULT_MODEL], help="folders, Hub names or short names")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    chroma = SpectrogramStatistics("chroma")
    tracks = []
    for _, path in find_files(arguments.music).found:
        try:
            audio, rate = read_audio(path)
        except (ValueError, OSError) as error:
            print(f"left out {path}: {error}")
            continue
        if len(audio) >= MIN_SECONDS * rate:
            tracks.append(resample(audio, rate, SAMPLING_RATE))
    estimators = {name: likeliest_signature(mt2_music.load(name)) for name in arguments.models}
    estimators["krumhansl"] = lambda waveform: signature(
        key_of_chroma(chroma.embed(waveform).vectors["statistics"][:12])
    )
    lines = [
        "| model | halves agree | or a fifth apart | transposition followed | or a fifth off |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, estimate in estimators.items():
        lines.append(
            f"| {Path(name).name} | " + " | ".join(f"{share:.1%}" for share in check(estimate, tracks)) + " |"
        )
    hours = sum(map(len, tracks)) / SAMPLING_RATE / 3600
    note = (
        f"{len(tracks)} tracks of at least {MIN_SECONDS:g} s, {hours:.1f} hours; key signatures, of which there are "
        f"{len(SIGNATURES)}: chance is 8.3 %, and 25 % within a fifth. Each track is transposed once, by 1 to 3 "
        "semitones up or down, by playing it faster or slower. Written by benchmarks/songs/recordings.py."
    )
    lines += ["", note]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
