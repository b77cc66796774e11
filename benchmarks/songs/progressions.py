"""Plain cadences in all keys: `python benchmarks/songs/progressions.py`, or with `--model DIR` those of another model.

Plays I-IV-V-I in every major key and i-iv-V-i in every minor one with additive tones, 12 seconds each, and
estimates their key signatures with `mt2 key --json`. Writes progressions.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from mt2_music.music import KEY_LABELS, fifths_between, parse_key, signature
from mt2_music.train.synth import Note, Score, play_additive

SAMPLING_RATE = 16000
CHORD_SECONDS = 3.0
# Root above the tonic, and third above the root, of the four chords; the dominant of a minor key is major.
CHORDS = {"major": ((0, 4), (5, 4), (7, 4), (0, 4)), "minor": ((0, 3), (5, 3), (7, 4), (0, 3))}


def progression(key: str) -> np.ndarray:
    """Play the four chords of a key, each with its root in the bass; mono float32 at 16 kHz."""
    tonic, mode = parse_key(key)
    notes = []
    for index, (root, third) in enumerate(CHORDS[mode]):
        pitch_classes = [(tonic + root + interval) % 12 for interval in (0, third, 7)]
        for pitch in [36 + pitch_classes[0], *(60 + pitch_class for pitch_class in pitch_classes)]:
            start = CHORD_SECONDS * index
            notes.append(Note(start, start + CHORD_SECONDS, pitch, 90, "chords"))
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), SAMPLING_RATE)


def main() -> None:
    """Play the cadences, estimate their keys, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub name (default: the model that comes with the package)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{key}.wav") for key in KEY_LABELS]
        for key, file in zip(KEY_LABELS, files, strict=True):
            soundfile.write(file, progression(key), SAMPLING_RATE)
        model = ["--model", arguments.model] if arguments.model else []
        command = [sys.executable, "-m", "mt2_music.cli", "key", *files, "--json", *model]
        estimates = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    lines = ["| played | estimated | confidence | signature |", "|---|---|---:|---|"]
    right = 0
    for key, result in zip(KEY_LABELS, estimates, strict=True):
        fifths = fifths_between(signature(key), result["signature"])
        right += fifths == 0
        verdict = f"{abs(fifths)} fifth{'s' * (abs(fifths) > 1)} too {'sharp' if fifths > 0 else 'flat'}"
        name = result.get("key", "-")
        lines.append(f"| {key} | {name} | {result['confidence']:.2f} | {verdict if fifths else 'right'} |")
    lines += ["", f"Signatures right: {right} of {len(KEY_LABELS)}. Written by benchmarks/songs/progressions.py."]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
