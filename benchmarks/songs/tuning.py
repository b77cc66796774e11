"""Songs that are out of tune: `python benchmarks/songs/tuning.py`, or with `--model NAME` of another model.

Plays progressions of progressions.py in all keys, faster or slower by up to 50 cents, and names their keys and tuning
as `mt2 key` does. Writes tuning.md.
"""

import argparse
from pathlib import Path

import numpy as np
from progressions import SAMPLING_RATE, score, sounds
from tqdm import tqdm

import mt2_music
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.music import KEY_LABELS, parse_key, transpose_key
from mt2_music.options import DEFAULT_MODEL

CENTS = (0, -10, 10, -20, 20, -30, 30, -40, 40, -45, 45, -50, 50)
PROGRESSIONS = {"major": ("I IV V7 I", "I vi ii V"), "minor": ("i iv V7 i", "i VI iv V")}


def main() -> None:
    """Play the progressions, name keys and tuning, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder, Hub name or short name")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    model = mt2_music.load(arguments.model)
    pieces = [
        (key, play(score(progression, key)))  # type: ignore[operator]
        for key in KEY_LABELS
        for progression in PROGRESSIONS[parse_key(key)[1]]
        for play in sounds().values()
    ]
    lines = ["| cents | key right | key right, named from the semitone next to it | error of the tuning |"]
    lines.append("|---:|---:|---:|---:|")
    for cents in sorted(CENTS):
        right = near = 0
        errors = []
        for key, waveform in tqdm(pieces, desc=f"{cents} cents", unit="piece", disable=None):
            played = resample(waveform, SAMPLING_RATE, SAMPLING_RATE * 2 ** (-cents / 1200))
            estimate = model.key(played, SAMPLING_RATE)
            right += estimate.key == key
            # What is 45 cents too high is as well 55 cents too low, in the next key.
            near += abs(cents) >= 45 and estimate.key == transpose_key(key, 1 if cents > 0 else -1)
            errors.append(abs((estimate.tuning_cents - cents + 50) % 100 - 50))
        lines.append(f"| {cents} | {right / len(pieces):.1%} | {near / len(pieces):.1%} | {np.median(errors):.1f} |")
    lines += [
        "",
        f"{len(pieces)} pieces: two progressions in each key with three sounds; the median error is in cents.",
    ]
    lines.append(f"Named by {Path(arguments.model).name}. Written by benchmarks/songs/tuning.py.")
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
