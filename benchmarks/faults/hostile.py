"""Embed 200 odd and hostile files: `python benchmarks/faults/hostile.py`.

Every file must be a row or a failure that names it; no row may have less or more seconds than the file has; nothing
may end in a traceback. Writes hostile.md, and returns 1 where that is not so. Needs ffmpeg for some of the files.
"""

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from odd_files import OddFile, make_files

from mt2_music.audio.files import printable
from mt2_music.cli import main as mt2

HEADER = """# Odd and hostile files

`python benchmarks/faults/hostile.py` writes this table. Each file must give a row or a failure that names it, and as
many seconds as there are in it; the generator, `odd_files.py`, says how many.

| what is odd | files | rows | named failures | seconds in | seconds out |
|---|---:|---:|---:|---:|---:|
"""


def judge(file: OddFile, result: dict | None) -> str | None:
    """Return what is wrong with the result of a file, or None."""
    if result is None:
        return "neither a row nor a failure"
    if "error" in result:
        return None if file.seconds is None or file.either else f"refused: {result['error']}"
    if file.seconds is None:
        return f"taken for {result['seconds']} s of sound"
    least, most = file.seconds
    return None if least <= result["seconds"] <= most else f"{result['seconds']} s, not {least:.2f} to {most:.2f} s"


def main() -> int:
    """Make the files, embed the folder, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "music"
        files = make_files(folder)
        output, errors = io.StringIO(), io.StringIO()
        start = time.monotonic()
        with redirect_stdout(output), redirect_stderr(errors):
            code = mt2(["embed", str(folder), "-o", str(Path(place) / "out.npz"), "--json", "--device", "cpu"])
        took = time.monotonic() - start
        results = {Path(result["file"]).as_posix(): result for result in json.loads(output.getvalue())}
        stored = np.load(Path(place) / "out.npz")["files"].tolist()
        link = printable(str(folder / "in the file system" / "again"))
        hidden = next(line for line in errors.getvalue().splitlines() if line.startswith("skipped"))
    wrong, table = [], defaultdict(lambda: [0, 0, 0, 0.0, 0.0])
    expected = set()
    for file in files:
        name = printable(str(file.path)).replace(str(Path(place) / "outside" / "deep"), link)
        expected.add(name)
        result = results.get(name)
        problem = judge(file, result)
        if problem:
            wrong.append(f"{name.replace(place, '')}: {problem}")
        row = table[file.kind]
        row[0] += 1
        if result and "seconds" in result:
            row[1] += 1
            row[3] += file.nominal or sum(file.seconds or (0.0,)) / 2
            row[4] += result["seconds"]
        elif result:
            row[2] += 1
    wrong += [f"{name}: nobody asked for it" for name in results.keys() - expected]
    if sorted(stored) != sorted(name for name, result in results.items() if "seconds" in result):
        wrong.append("the rows of the file are not those that were told")
    tracebacks = errors.getvalue().count("Traceback")
    total = [sum(column) for column in zip(*table.values(), strict=True)]
    lines = [
        f"| {kind} | {row[0]} | {row[1]} | {row[2]} | {row[3]:.1f} | {row[4]:.1f} |"
        for kind, row in [*table.items(), ("all", total)]
    ]
    ffmpeg = "with" if shutil.which("ffmpeg") else "without"
    facts = [
        f"Tracebacks: {tracebacks}. Exit code: {code}. Files that are not as they must be: {len(wrong)}.",
        f'Also, of the files above none is hidden; the command said of others: "{hidden.partition(",")[0]}".',
        f"It took {took:.0f} s, {ffmpeg} ffmpeg.",
    ]
    arguments.out.write_text(HEADER + "\n".join(lines) + "\n\n" + "\n".join(facts) + "\n", encoding="utf-8")
    print("\n".join([*lines, *facts, *wrong]))
    return int(bool(wrong) or tracebacks > 0 or code != 1)


if __name__ == "__main__":
    sys.exit(main())
