"""How long the first answer takes: `python benchmarks/speed/startup.py`, or with `--before` beside an earlier version.

Times whole processes: `mt2 --help`, `mt2 key --help`, `import mt2_music`, and `mt2 key` of one song of ten seconds.
Writes startup.md.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

SAMPLING_RATE, SONG_SECONDS = 16000, 10
CLI = ["-m", "mt2_music.cli"]
COMMANDS = {
    "`mt2 --help`": [*CLI, "--help"],
    "`mt2 key --help`": [*CLI, "key", "--help"],
    "`import mt2_music`": ["-c", "import mt2_music"],
    "`mt2 key song.wav`": [*CLI, "key", "song.wav"],
}


def seconds(command: list[str], folder: str, path: str | None) -> tuple[float, float]:
    """Run a command and return how long it took, by the clock and of CPU time.

    Args:
        command: arguments of Python.
        folder: where to run it.
        path: where the package is imported from; None for the one that is installed.
    """
    environment = os.environ if path is None else {**os.environ, "PYTHONPATH": path}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time every command, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder that an earlier version is imported from")
    parser.add_argument("--repeats", type=int, default=5, help="of which the fastest counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    versions = {"now": None} if arguments.before is None else {"before": str(arguments.before.resolve()), "now": None}
    lines = [
        "| command | " + " | ".join(f"{name}, s | {name}, CPU s" for name in versions) + " |",
        "|---|" + "---:|---:|" * len(versions),
    ]
    with tempfile.TemporaryDirectory() as folder:
        times = np.arange(SONG_SECONDS * SAMPLING_RATE) / SAMPLING_RATE
        chord = sum(np.sin(2 * np.pi * frequency * times) for frequency in (261.6, 329.6, 392.0)) / 6
        soundfile.write(Path(folder) / "song.wav", chord, SAMPLING_RATE)
        for name, command in COMMANDS.items():
            cells = []
            for path in versions.values():
                tries = [seconds(command, folder, path) for _ in range(arguments.repeats)]
                cells += [f"{min(values):.2f}" for values in zip(*tries, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"Whole processes, the fastest of {arguments.repeats}. Written by benchmarks/speed/startup.py."]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
