"""How long a search takes in large indexes: `python benchmarks/speed/search.py [--rows 10000 1000000]`, on Linux.

Makes indexes of synthetic rows, in parts as `mt2 index` writes them, and searches them: read whole, where they are,
and by the command `mt2 similar`, each in a process of its own. Writes search.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS_PER_PART = 512
COMMAND = ["-m", "mt2_music.cli", "similar"]
SECONDS, KEYS = 10.0, 12  # of the song; readings of it with --any_key
TITLES = {
    "whole": "read whole from Parquet, and searched",
    "there": "opened where it is, and searched",
    "next": "searched for the next song",
    "keys": "for a song in all keys",
    "command": "`mt2 similar song.wav --index index`",
    "copy": "the copy, which `mt2 index` makes",
}


def write_rows(folder: Path, rows: int, size: int, source: tuple[str, ...]) -> tuple[float, float]:
    """Write a synthetic index, and the copy that `mt2 index` keeps of a large one; return (CPU) seconds of that."""
    import pyarrow
    from pyarrow import parquet

    from mt2_music.collection.searchable import write_copy

    rng, names = np.random.default_rng(0), []
    model, revision, front_end = source
    same = {"model": model, "revision": revision, "front_end": front_end, "root": "/music", "root_from_index": ""}
    for start in range(0, rows, ROWS_PER_PART):
        numbers = np.arange(start, min(rows, start + ROWS_PER_PART))
        vectors = pyarrow.array(rng.standard_normal(len(numbers) * size, np.float32))
        columns = {
            "file": [f"artist {number % 9973}/album {number % 97}/song {number}.flac" for number in numbers],
            **{name: [value] * len(numbers) for name, value in same.items()},
            "size": numbers,
            "mtime_ns": numbers,
            "content_hash": [f"{number:064x}" for number in numbers],
            "mean": pyarrow.FixedSizeListArray.from_arrays(vectors, size),
        }
        names.append(f"embeddings-{len(names):05d}.parquet")
        parquet.write_table(pyarrow.table(columns), folder / names[-1], use_dictionary=list(same))
    (folder / "parts.json").write_text(json.dumps(names), encoding="utf-8")
    clock, used = time.perf_counter(), time.process_time()
    write_copy(folder)
    return time.perf_counter() - clock, time.process_time() - used


def memory() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def measure(how: str, folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """Open an index and search it: once, again, and for all keys.

    Args:
        how: "whole" or "there".
        folder: of the index.
        size: of its vectors.
        repeats: how often all of it is done.

    Returns:
        Seconds and CPU seconds of each step, and the peak memory that all added to that of the imports, in MB.
    """
    import pyarrow.compute
    import pyarrow.ipc
    import pyarrow.parquet  # noqa: F401 - what a process does once is not part of the search

    from mt2_music.collection.searchable import open_embeddings
    from mt2_music.collection.similar import nearest
    from mt2_music.collection.tables import read_embeddings

    queries = np.random.default_rng(1).standard_normal((KEYS, size), np.float32)
    before = memory()
    found: dict[str, Any] = {name: [] for name in ("open", "first", "next", "keys")}

    def step(name: str, work: Any) -> Any:
        clock, used = time.perf_counter(), time.process_time()
        result = work()
        found[name].append((time.perf_counter() - clock, time.process_time() - used))
        return result

    for _ in range(repeats):
        index = None  # what was read is given back before it is read again
        index = step("open", lambda: (read_embeddings if how == "whole" else open_embeddings)([folder], ("mean",)))
        step("first", lambda index=index: nearest(index, queries[0]))
        step("next", lambda index=index: nearest(index, queries[1]))
        step("keys", lambda index=index: nearest(index, queries))
    return {**found, "memory": memory() - before}


def run(arguments: list[str], cwd: Path) -> tuple[str, float, float]:
    """Run Python; return what it prints, seconds and CPU seconds."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        text = process.stdout.read() if process.stdout else ""
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{arguments} failed")
    return text, time.perf_counter() - start, used.ru_utime + used.ru_stime


def line(rows: int, what: str, runs: list[tuple[float, float]], megabytes: float | None = None) -> str:
    """Write a line of the table: seconds and CPU seconds, each of the fastest run."""
    seconds = [f"{min(values):.2f}" for values in zip(*runs, strict=True)]
    return f"| {' | '.join([f'{rows:,}', what, *seconds, '' if megabytes is None else f'{megabytes:.0f}'])} |"


def main() -> None:
    """Make indexes, search them, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        how, folder, size, repeats = arguments.measure
        print(json.dumps(measure(how, Path(folder), int(size), int(repeats))))
        return
    import soundfile

    from mt2_music import load
    from mt2_music.collection.searchable import ROWS_WORTH_A_COPY

    model = load()
    size = model.config.hidden_size
    lines = ["| rows | | s | CPU s | MB |", "|---:|---|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as place:
        song = np.sin(2 * np.pi * 220 * np.arange(SECONDS * 16000) / 16000) / 4
        soundfile.write(Path(place) / "song.wav", song, 16000)
        for rows in arguments.rows:
            folder = Path(place) / str(rows)
            folder.mkdir()
            copying = write_rows(folder, rows, size, model.source)
            for how, repeats in (("whole", 1), ("there", arguments.repeats)):
                command = [__file__, "--measure", how, str(folder), str(size), str(repeats)]
                found = json.loads(run(command, Path(place))[0])
                both = [tuple(np.add(*one)) for one in zip(found["open"], found["first"], strict=True)]
                lines.append(line(rows, TITLES[how], both, found["memory"]))
            lines += [line(rows, TITLES[name], found[name]) for name in ("next", "keys")]
            command = [*COMMAND, "song.wav", "--index", str(folder)]
            commands = [run(command, Path(place))[1:] for _ in range(arguments.repeats)]
            lines += [line(rows, TITLES["command"], commands), line(rows, TITLES["copy"], [copying])]
    note = (
        f"Synthetic vectors of {size} float32 numbers, in Parquet parts of {ROWS_PER_PART} rows; {os.cpu_count()} "
        f"cores; the fastest of {arguments.repeats} times, but once where the index is read whole. The files are "
        "in the memory of the system. MB is what the process needs beside its imports. The command includes Python, "
        f"torch, the model and the embedding of a song of {SECONDS:g} s. Below {ROWS_WORTH_A_COPY:,} rows there is "
        "no copy, and the index is read whole. Where the machine does other things, the CPU seconds tell more. "
        "Written by benchmarks/speed/search.py."
    )
    arguments.out.write_text("\n".join([*lines, "", note]) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
