"""Chord progressions in all keys: `python benchmarks/songs/progressions.py`, or with `--model NAME` of another model.

Plays 20 progressions in each mode in all keys with three sounds, about ten seconds each, and names their keys as
`mt2 key` does. Writes progressions.md.
"""

import argparse
import collections
from pathlib import Path

import numpy as np
from tqdm import tqdm

import mt2_music
from mt2_music.music import KEY_LABELS, fifths_between, parse_key, signature
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.synth import Note, Score, play_additive, play_soundfont
from mt2_music.train.synth.render import find_soundfont

SAMPLING_RATE = 16000
MIN_SECONDS, CHORD_SECONDS = 10.0, 1.0
# Progressions are played until they have lasted long enough, and end with their first chord, the tonic's.
PROGRESSIONS = {
    "major": (
        "I IV V I", "I V vi IV", "I vi IV V", "I vi ii V", "I ii V I", "I IV V7 I", "I IV ii V", "I iii IV V",
        "I IV V I vi IV V7 I", "I V vi iii IV I IV V", "I iii vi IV V I", "I V7 I IV I V7", "I IV vi V", "I vi IV V7",
        "Imaj7 vi7 ii7 V7", "I ii7 V7 I", "I V I IV V", "I IV I V7", "I vi ii V7 I", "I ii IV V I",
    ),
    "minor": (
        "i iv V i", "i iv v i", "i iv V7 i", "i VI iv V", "i VII VI V", "i VI VII i", "i ii° V i", "i iv i V7",
        "i iv V i VI iv V7 i", "i V i iv", "i V7 i iv", "i VI iv V7", "i7 iv7 V7 i", "i ii° V7 i", "i iv VI V",
        "i iv VII III VI ii° V i", "i v iv i", "i V VI iv V", "i III iv V", "i VII III V",
    ),
}  # fmt: skip
DEGREES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
NUMERALS = ("i", "ii", "iii", "iv", "v", "vi", "vii")


def chord(numeral: str, mode: str) -> tuple[int, ...]:
    """Return semitones above the tonic of a chord such as "V7", the root first."""
    name = numeral.rstrip("°7maj")
    root = DEGREES[mode][NUMERALS.index(name.lower())]
    third, fifth = (4, 7) if name.isupper() else (3, 6 if "°" in numeral else 7)
    seventh = () if "7" not in numeral else (11,) if "maj7" in numeral else (10,)
    return tuple(root + interval for interval in (0, third, fifth, *seventh))


def score(progression: str, key: str) -> Score:
    """Write a progression in a key: chords about middle C, and their roots in the bass."""
    tonic, mode = parse_key(key)
    numerals = progression.split()
    numerals *= -(-int(MIN_SECONDS / CHORD_SECONDS) // len(numerals))
    notes = []
    for index, numeral in enumerate([*numerals, numerals[0]]):
        pitch_classes = [(tonic + interval) % 12 for interval in chord(numeral, mode)]
        for part, pitch in [("bass", 36 + pitch_classes[0]), *(("chords", 60 + one) for one in pitch_classes)]:
            start = CHORD_SECONDS * index
            notes.append(Note(start, start + CHORD_SECONDS, pitch, 90, part))
    return Score(tuple(notes))


def sounds() -> dict[str, object]:
    """Return ways to play a score: plain tones, and two instruments of the SoundFont that is found here."""
    bank = find_soundfont()
    if bank is None:
        raise SystemExit("no SoundFont: install the package with the extra synth, and tinysoundfont")
    return {
        "tones": lambda played: play_additive(played, np.random.default_rng(0), SAMPLING_RATE),
        "piano": lambda played: play_soundfont(played, {"chords": 0, "bass": 0}, bank, SAMPLING_RATE),
        "strings": lambda played: play_soundfont(played, {"chords": 48, "bass": 43}, bank, SAMPLING_RATE),
    }


def verdict(played: str, estimate: mt2_music.KeyEstimate, names_keys: bool) -> str:
    """Say whether a key was named right, or in which direction it is wrong."""
    if estimate.signature is None:
        return "no key"
    steps = fifths_between(signature(played), estimate.signature)
    if steps:
        direction = "sharp" if steps > 0 else "flat"
        return f"a fifth {direction}" if abs(steps) == 1 else "elsewhere"
    return "relative" if names_keys and estimate.key != played else "right"


def main() -> None:
    """Play the progressions, name their keys, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder, Hub name or short name")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    model = mt2_music.load(arguments.model)
    names_keys = bool(model.config.label2id and set(KEY_LABELS) <= set(model.config.label2id))
    counts: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    cases = [(progression, key) for key in KEY_LABELS for progression in PROGRESSIONS[parse_key(key)[1]]]
    for name, play in sounds().items():
        for progression, key in tqdm(cases, desc=name, unit="piece"):
            estimate = model.key(play(score(progression, key)), SAMPLING_RATE)  # type: ignore[operator]
            result = verdict(key, estimate, names_keys)
            counts[f"{parse_key(key)[1]}: {progression}", ""][result] += 1
            counts[f"all in {parse_key(key)[1]}", name][result] += 1
            counts["all", ""][result] += 1
    kinds = ["right", "relative", "a fifth flat", "a fifth sharp", "elsewhere", "no key"]
    lines = [f"| progression | sound | {' | '.join(kinds)} |", "|---|---|" + "---:|" * len(kinds)]
    for (progression, sound), found in sorted(counts.items()):
        shares = " | ".join(f"{found[kind] / found.total():.1%}" for kind in kinds)
        lines.append(f"| {progression} | {sound or 'all'} | {shares} |")
    lines += ["", f"{counts['all', ''].total()} pieces of at least {MIN_SECONDS:g} s, each mode in 12 keys, named by"]
    lines[-1] += f" {Path(arguments.model).name}. Written by benchmarks/songs/progressions.py."
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
