"""Make a SoundFont of recorded notes: `python benchmarks/sound_banks/make_soundfont.py NOTES OUT.sf2`.

NOTES holds a folder for every program of General MIDI, such as "040_violin", with a sound file for every note, named
by its pitch: "A#3.wav", "As3.mp3", "Bb3.flac" or a MIDI number; C4 is 60. Notes are tuned by their measured pitch and
levelled, and those of sustained instruments are given a loop. A note that is more than 60 cents away from its name, or
not periodic, is left out.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
from pitch import measure_cents
from scipy.signal import correlate
from soundfont import SUSTAINED, Bank, Zone, meet_halfway, write_soundfont

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTERATIONS = {"#": 1, "s": 1, "b": -1, "": 0}
SPACING = 3  # semitones, the least between two notes that are kept
MAX_CENTS, MIN_CLARITY = 60, 0.3


def note_number(name: str) -> int | None:
    """Return the MIDI number of a note's name, None if it is not one."""
    match = re.fullmatch(r"([A-Ga-g])(#|s|b|)(-?\d)", name)
    if match is None:
        return int(name) if name.isdigit() else None
    step, alteration, octave = match.groups()
    return STEPS[step.upper()] + ALTERATIONS[alteration] + 12 * (int(octave) + 1)


def sustain_loop(x: np.ndarray, rate: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Cut off how a note ends, and loop its steady part, faded over where it is most alike."""
    hop = rate // 50
    level = np.sqrt(np.convolve(x**2, np.ones(hop) / hop, "same"))[::hop]
    steady = np.median(level[level > 0.25 * level.max()])
    end = min(len(x) - 1, int(np.flatnonzero(level > 0.7 * steady)[-1]) * hop)
    fade = min(rate // 12, end // 5)
    window = x[end - fade : end]
    square = np.concatenate([[0.0], np.cumsum(x**2)])
    likeness = correlate(x, window, "valid", "fft") / np.sqrt(square[fade:] - square[:-fade] + 1e-9)
    best = fade + end // 4 + int(np.argmax(likeness[end // 4 : max(end - 3 * fade, end // 4 + 1)]))
    ramp = np.linspace(0, 1, fade)
    x = x[: end + 8].copy()
    x[end - fade : end] = window * (1 - ramp) + x[best - fade : best] * ramp
    x[end:] = x[best : best + len(x) - end]
    return x, (best, end)


def load_zones(folder: Path, rate: int, seconds: float, sustained: bool) -> list[Zone]:
    """Read, tune, level and loop the notes of a program."""
    zones: list[Zone] = []
    paths = {note: path for path in folder.iterdir() if (note := note_number(path.stem)) is not None}
    for note, path in sorted(paths.items()):
        if zones and note - zones[-1].pitch < SPACING - 0.5:
            continue
        audio, source_rate = soundfile.read(path, always_2d=True)
        x = soxr.resample(audio.mean(axis=1), source_rate, rate)
        onset = int(np.argmax(np.abs(x) > 0.3 * np.abs(x).max())) - (rate // 25 if sustained else rate // 200)
        x = x[max(0, onset) :][: int(seconds * rate)]
        x[: rate // 400] *= np.linspace(0, 1, rate // 400)
        x[-rate // 50 :] *= np.linspace(1, 0, rate // 50)
        cents, clarity = measure_cents(x[rate // 5 : 3 * rate // 2] if sustained else x[:rate], rate, note)
        if abs(cents) > MAX_CENTS or clarity < MIN_CLARITY:
            print(f"  left out {path.name}: {cents:+.0f} cents, periodicity {clarity:.2f}")
            continue
        power = np.sqrt(np.convolve(x**2, np.full(rate // 10, 10 / rate), "same").max())
        x *= min(0.16 / power, 0.95 / np.abs(x).max())
        x, loop = sustain_loop(x, rate) if sustained else (x, None)
        zones.append(Zone(x, rate, note + cents / 100, loop=loop))
    return meet_halfway(zones)


def main() -> None:
    """Make a SoundFont from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=int, default=16000, help="of samples, in hertz")
    parser.add_argument("--seconds", type=float, default=1.6, help="longest note that is kept")
    parser.add_argument("--comment", default="", help="where the recordings are from")
    arguments = parser.parse_args()
    bank: Bank = {}
    for folder in sorted(arguments.notes.iterdir()):
        program, title = int(folder.name[:3]), folder.name[4:]
        zones = load_zones(folder, arguments.rate, arguments.seconds, program in SUSTAINED)
        if zones:
            bank[program] = (title, zones)
        print(folder.name, len(zones), "samples")
    write_soundfont(arguments.out, bank, arguments.comment)


if __name__ == "__main__":
    main()
