"""Speed and memory of `mt2 key` on one long file: `python benchmarks/speed/keys.py [--before OLD]`.

The file is a composed piece over and over, 44.1 kHz stereo, so that decoding and resampling are part of it. Whole
processes are measured, one after the other; speed also without what a song of one second takes, the start of Python.
Writes keys.md and keys.json. Linux only.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from mt2_music.options import DEFAULT_TRANSPOSITIONS
from mt2_music.train.synth import compose, play_additive

RATE, PIECE_SECONDS = 44100, 60.0
# The peak of the program alone: what the system says of a child includes the process that it was forked from.
PROGRAM = """
import sys
from mt2_music.cli import main
status = main(sys.argv[1:])
sys.stderr.write(open("/proc/self/status").read())
sys.exit(status)
"""


def write_song(path: Path, seconds: float) -> None:
    """Write a file of so many seconds, block by block."""
    rng = np.random.default_rng(0)
    piece = play_additive(compose(rng, min(seconds, PIECE_SECONDS), 0, "major"), rng, RATE)
    block = np.stack([piece, np.roll(piece, 99)], 1)
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while left:
            file.write(block[:left])
            left -= min(left, len(block))


def measure(model: str, song: Path, transpositions: int, threads: int, path: str | None) -> dict[str, float]:
    """Run `mt2 key` in a process of its own; return its seconds, CPU seconds and peak memory in megabytes.

    Args:
        model: folder or short name.
        song: file.
        transpositions: semitones up and down.
        threads: of torch.
        path: where the package is imported from; None for the one that is installed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | ({} if path is None else {"PYTHONPATH": path})
    command = [sys.executable, "-c", PROGRAM, "key", str(song), "--model", model]
    command += ["--transpositions", str(transpositions)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, env=environment, check=True, stderr=subprocess.PIPE, text=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": clock,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "megabytes": int(re.findall(r"VmHWM:\s+(\d+) kB", run.stderr)[-1]) / 2**10,
    }


def main() -> None:
    """Measure every model, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["mt2-small-key", "mt2-base-key"], help="folders or short names")
    parser.add_argument("--before", type=Path, help="folder that an earlier version is imported from")
    parser.add_argument("--minutes", type=float, default=180.0, help="of the song (default: %(default)g)")
    parser.add_argument("--transpositions", type=int, nargs="+", default=[0, DEFAULT_TRANSPOSITIONS])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    versions = {"now": None} if arguments.before is None else {"before": str(arguments.before.resolve()), "now": None}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        song, short = Path(folder) / "song.flac", Path(folder) / "short.flac"
        write_song(song, 60 * arguments.minutes)
        write_song(short, 1.0)
        for model in arguments.model:
            for transpositions in arguments.transpositions:
                for threads in arguments.threads:
                    for version, path in versions.items():
                        row = {"model": Path(model).name, "transpositions": transpositions, "threads": threads}
                        start = measure(model, short, transpositions, threads, path)
                        found = measure(model, song, transpositions, threads, path)
                        seconds = 60 * arguments.minutes
                        row |= {"version": version, **found, "start": start["seconds"]}
                        row["times_real_time"] = seconds / found["seconds"]
                        row["without_start"] = seconds / (found["seconds"] - start["seconds"])
                        row["by_cpu"] = seconds / (found["cpu"] - start["cpu"])
                        results.append(row)
    header = ["model", "version", "transpositions", "threads"]
    header += ["times real time", "without the start", "per CPU second", "peak memory, MB"]
    lines = [f"| {' | '.join(header)} |", "|---|---|" + "---:|" * 6]
    for row in results:
        cells = [row["model"], row["version"], f"±{row['transpositions']}", row["threads"]]
        cells += [f"{row[name]:.0f}" for name in ("times_real_time", "without_start", "by_cpu", "megabytes")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"`mt2 key` of one file of {arguments.minutes:g} minutes, 44.1 kHz stereo, in a process of its own:"]
    lines.append(
        "seconds of audio per second, and without the start of Python per second and per CPU second of a core."
    )
    lines.append("Written by benchmarks/speed/keys.py.")
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {"minutes": arguments.minutes, "rows": results}
    arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
