"""Find and hide what is out of tune: `python benchmarks/sound_banks/check_soundfont.py FONT.sf2 ... --hide`.

Plays every third key of each melodic program's compass. A program passes if at least 85 % of these keys are audible
and within 30 cents, if their median is, and if it sounds on where its instrument does. With `--hide` the presets of
the others are moved to bank 127, where no score asks for them; the recordings stay in the file.
"""

import argparse
from pathlib import Path

import numpy as np
import tinysoundfont
from pitch import measure_cents
from soundfont import SUSTAINED, hide_presets, presets

RATE = 32000
SECONDS = 1.9
LAST_PITCHED = 119
MAX_CENTS, MIN_SHARE, MIN_HOLD = 30, 0.85, 0.1
MIN_LEVEL, MIN_CLARITY = 1e-3, 0.3
# Lowest and highest key of instruments whose compass is not about that of a piano's middle.
COMPASS = {
    8: (60, 100), 9: (72, 100), 10: (60, 96), 11: (53, 89), 12: (45, 93), 13: (65, 100), 14: (60, 77), 22: (60, 88),
    40: (55, 93), 41: (48, 84), 42: (36, 76), 43: (28, 60), 45: (36, 84), 46: (36, 96), 47: (40, 57), 56: (54, 84),
    57: (40, 72), 58: (28, 60), 59: (54, 82), 60: (36, 77), 64: (56, 84), 65: (49, 80), 66: (44, 75), 67: (37, 69),
    68: (58, 88), 69: (52, 81), 70: (34, 72), 71: (50, 88), 72: (74, 100), 73: (60, 93), 74: (60, 93),
}  # fmt: skip


def play(synth: tinysoundfont.Synth, key: int) -> np.ndarray:
    """Return how a key sounds that is held."""
    synth.noteon(0, key, 100)
    stereo = np.frombuffer(bytes(synth.generate(int(SECONDS * RATE))), np.float32).reshape(-1, 2)
    synth.sounds_off(0)
    synth.generate(RATE // 10)
    return stereo.mean(axis=1).astype(float)


def level(x: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(x**2)))


def passes(synth: tinysoundfont.Synth, program: int, name: str) -> bool:
    """Play a program that was selected, and print the pitch of what it plays."""
    low, high = COMPASS.get(program, (40, 84))
    keys = range(low, high + 1, 3)
    begin, end = (0.15, 0.9) if program in SUSTAINED else (0.03, 0.4)
    cents, levels, held, good = [], [], [], 0
    for key in keys:
        x = play(synth, key)
        part = x[int(begin * RATE) : int(end * RATE)]
        levels.append(level(part))
        held.append(level(x[int(1.6 * RATE) :]) / max(levels[-1], 1e-9))
        deviation, clarity = measure_cents(part, RATE, key)
        if levels[-1] > MIN_LEVEL and clarity > MIN_CLARITY:
            cents.append(deviation)
            good += abs(deviation) <= MAX_CENTS
    hold = float(np.median(held))
    middle = float(np.median(cents)) if cents else np.inf
    sounds_on = program not in SUSTAINED or hold > MIN_HOLD
    passed = good >= MIN_SHARE * len(keys) and abs(middle) <= MAX_CENTS and sounds_on
    decibels = 20 * np.log10(np.median(levels) + 1e-9)
    print(
        f"{'' if passed else '!':1}{program:4d} {name:20s} keys {low:3d}-{high:3d}, {good:2d} of {len(keys):2d} in "
        f"tune, median {middle:+6.1f} cents, {decibels:6.1f} dB, holds {hold:.2f}"
    )
    return passed


def check(path: Path) -> tuple[set[int], set[int]]:
    """Return the programs of a SoundFont that pass, and those that do not."""
    synth = tinysoundfont.Synth(samplerate=RATE)
    font = synth.sfload(str(path))
    good, bad = set(), set()
    for program, name in sorted(presets(path.read_bytes()).items()):
        if program <= LAST_PITCHED:
            synth.program_select(0, font, 0, program)
            (good if passes(synth, program, name) else bad).add(program)
    return good, bad


def main() -> None:
    """Check, and hide if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fonts", type=Path, nargs="+")
    parser.add_argument("--hide", action="store_true", help="hide the programs that do not pass")
    arguments = parser.parse_args()
    for path in arguments.fonts:
        print(path.name)
        good, bad = check(path)
        print(f"{len(good)} programs pass, {len(bad)} do not: {', '.join(map(str, sorted(bad)))}")
        if arguments.hide and bad:
            hide_presets(path, bad)


if __name__ == "__main__":
    main()
