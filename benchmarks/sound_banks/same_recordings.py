"""How much of a SoundFont was recorded with another? `python benchmarks/sound_banks/same_recordings.py OTHER FONT...`.

Correlates the attack of every sample with all samples of the other font that are near its pitch, or an octave off. A
copy at another speed, or one that was processed much, escapes it.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from soundfont import read_samples, read_table, to_text

RATE = 11025
ATTACK_SECONDS, SECONDS = 0.15, 1.2
SAME = 0.93
REACH = 0.6  # semitones


class Sample(NamedTuple):
    """A sample of a font, at `RATE`."""

    name: str
    pitch: float
    samples: np.ndarray


def read(path: Path) -> list[Sample]:
    """Return the samples of a font that are long enough."""
    data = path.read_bytes()
    samples = read_samples(data)
    found = []
    for name, start, end, _, _, rate, root, tune, _, _ in read_table(data, "shdr")[:-1]:
        if end - start < 400 or rate < 4000:
            continue
        x = soxr.resample(samples[start : min(end, start + int(SECONDS * rate))] / 32768.0, rate, RATE)
        found.append(Sample(to_text(name), root - tune / 100, x - x.mean()))
    return found


def best_match(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest correlation of the attack of x with any stretch of y."""
    width = int(ATTACK_SECONDS * RATE)
    onset = int(np.argmax(np.abs(x) > 0.2 * np.abs(x).max()))
    x = x[max(0, onset - 60) :][:width]
    if len(x) < width or len(y) < width:
        return 0.0
    size = 1 << int(np.ceil(np.log2(len(y) + width)))
    cross = np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(x, size).conj())[: len(y) - width + 1]
    square = np.concatenate([[0.0], np.cumsum(y**2)])
    energy = square[width:] - square[:-width]
    norm = np.sqrt((x**2).sum() * np.maximum(energy, 0.003 * energy.max() + 1e-9))
    return float(np.abs(cross / norm).max())


def near(first: float, second: float) -> bool:
    """Tell whether two pitches are about the same, or an octave apart."""
    return abs(first - second) < REACH or abs(abs(first - second) - 12) < REACH


def main() -> None:
    """Compare from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the font that is not to be in the others")
    parser.add_argument("fonts", type=Path, nargs="+")
    arguments = parser.parse_args()
    others = read(arguments.other)
    for path in arguments.fonts:
        matches, samples = [], read(path)
        for sample in samples:
            scores = [(best_match(sample.samples, o.samples), o.name) for o in others if near(o.pitch, sample.pitch)]
            score, name = max(scores, default=(0.0, ""))
            if score > SAME:
                matches.append(f"{sample.name} as {name} ({score:.2f})")
        told = f"{len(matches)} of {len(samples)} samples are in {arguments.other.name}"
        print(f"{path.name}: {told}{': ' if matches else ''}{', '.join(matches)}")


if __name__ == "__main__":
    main()
