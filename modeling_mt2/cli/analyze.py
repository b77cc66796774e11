"""`mt2 analyze`: key, tuning, tempo, chords and keys over time of songs, in print and as files of other programs."""

import argparse
import csv
import json
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mt2_music.options import PICTURE_SUFFIX

LINE_WIDTH = 100
FIELDS = ("file", "seconds", "key", "reason", "confidence", "tuning_cents", "tempo", "metre", "num_keys", "num_chords")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 analyze` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="write .key.lab, .chords.lab, .beats.txt and .json of every song, and songs.csv; what is there is kept",
    )  # fmt: skip
    parser.add_argument("--plot", action="store_true", help="also draw every song, to DIR as .png")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="one row a song: .csv or .parquet (default: DIR/songs.csv)"
    )
    parser.add_argument("--json", action="store_true", help="print one list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Find key, keys over time, chords, beats and tempo of songs.

    Returns:
        0 when all files could be used, 1 when some could not.

    Raises:
        ValueError: options or the model cannot be used.
    """
    from mt2_music.cli.songs import listed, named_files
    from mt2_music.collection.archive import each_file
    from mt2_music.music_model import load
    from mt2_music.song.analysis import check_analyses

    if arguments.plot and arguments.output is None:
        raise ValueError("--plot needs --output: pictures are files")
    table = arguments.table or (arguments.output and arguments.output / "songs.csv")
    if table is not None:
        _check_table(table, arguments.output)
    model = load(arguments.model, device="cpu")
    check_analyses(model.model)
    files = named_files(arguments.files)
    folder = None if arguments.output is None else _Folder(arguments, files, model)
    results: list[dict[str, Any]] = []
    warned: dict[str, str] = {}

    def work(sound: str) -> dict[str, Any]:
        if folder is None:
            return model.analyze(sound).to_dict()
        return folder.known(sound) or folder.analyze(sound)

    with listed(results, arguments.json):
        for name, found, error in each_file(files, work, warned):
            if found is None:
                results.append({"file": name, "error": error})
                continue
            results.append({"file": name, **found, **({"warning": warned[name]} if name in warned else {})})
            if not arguments.json:
                print(describe(name, found) if len(files) == 1 else _line(name, found))
    if table is not None:
        _write_table(table, [_row(result) for result in results if "error" not in result])
        _write_failures(table, [result for result in results if "error" in result])
    return int(any("error" in result for result in results))


def describe(name: str, found: dict[str, Any]) -> str:
    """Write what was found of one song as lines."""
    key = f"{found['key']} ({found['confidence']:.2f})" if found["key"] else f"no key: {found['reason']}"
    tempo = "no beats" if found["tempo"] is None else f"{found['tempo']:.1f} beats per minute"
    metre = f", {found['metre']} beats in most bars" if found["metre"] else ""
    chords = ", ".join(f"{_minutes(chord['start'])} {chord['seventh']}" for chord in found["chords"])
    lines = [("key", key), ("tuning", f"{found['tuning_cents']:+.0f} cents"), ("tempo", tempo + metre)]
    if len(found["keys"]) > 1:
        keys = ", ".join(f"{_minutes(key['start'])} {key['key'] or 'no key'}" for key in found["keys"])
        lines.append(("keys", keys))
    lines.append(("chords", chords))
    wrapped = [textwrap.wrap(text, LINE_WIDTH) for _, text in lines]
    return "\n".join([name, *(_block(title, text) for (title, _), text in zip(lines, wrapped, strict=True))])


def _block(title: str, lines: list[str]) -> str:
    return "\n".join(f"  {title if not number else '':8}{line}" for number, line in enumerate(lines))


def _line(name: str, found: dict[str, Any]) -> str:
    tempo = "no beats" if found["tempo"] is None else f"{found['tempo']:.1f}"
    return f"{name}\t{found['key'] or 'no key'}\t{found['reason'] or format(found['confidence'], '.2f')}\t{tempo}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def _row(result: dict[str, Any]) -> dict[str, Any]:
    counts = {"num_keys": len(result["keys"]), "num_chords": len(result["chords"])}
    return {name: value for name, value in {**result, **counts}.items() if name in FIELDS}


class _Folder:
    """Where the files of songs are written: beside one another as the songs are, under the songs' names.

    Args:
        arguments: of the command.
        files: names and paths of all songs.
        model: that analyses them.
    """

    def __init__(self, arguments: argparse.Namespace, files: list[tuple[str, str]], model: Any) -> None:
        self.folder, self.plot, self.model = arguments.output, arguments.plot, model
        self.stems = output_names(arguments.files, [path for _, path in files])
        self.folder.mkdir(parents=True, exist_ok=True)

    def known(self, sound: str) -> dict[str, Any] | None:
        """Return what was found of a song before, if neither it nor the model has changed since."""
        try:
            stored = json.loads(self._path(sound, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if stored.pop("source", None) != self._source(sound):
            return None
        return None if self.plot and not self._path(sound, PICTURE_SUFFIX).exists() else stored

    def analyze(self, sound: str) -> dict[str, Any]:
        """Analyse a song and write its files, .json last: with it all others are there."""
        from mt2_music.storage import atomic_path, write_text_atomic

        source = self._source(sound)  # if it changes meanwhile, it is analysed again the next time
        analysis = self.model.analyze(sound)
        found = analysis.to_dict()
        self._path(sound, ".json").parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self._path(sound, ".key.lab"), analysis.keys.to_lab())
        write_text_atomic(self._path(sound, ".chords.lab"), analysis.chords.to_lab())
        write_text_atomic(self._path(sound, ".beats.txt"), analysis.beats.to_lab())
        if self.plot:
            from mt2_music.song.picture import plot_analysis

            with atomic_path(self._path(sound, PICTURE_SUFFIX)) as unfinished:
                plot_analysis(analysis, unfinished)
        write_text_atomic(self._path(sound, ".json"), json.dumps({**found, "source": source}, indent=1))
        return found

    def _path(self, sound: str, suffix: str) -> Path:
        return self.folder / f"{self.stems[sound]}{suffix}"

    def _source(self, sound: str) -> list[Any]:
        from mt2_music.storage import file_state

        return [*self.model.source, *file_state(sound)]


def output_names(places: Iterable[str], paths: Iterable[str]) -> dict[str, str]:
    """Choose names of files for songs: below a folder that was given as in it, without their suffix if one is enough.

    Args:
        places: folders, globs and files that were given.
        paths: of the songs found in them.

    Returns:
        Relative names by path, with slashes and in printable characters; no two are the same.
    """
    from mt2_music.audio.files import printable

    roots = sorted((place for place in places if os.path.isdir(place)), key=len, reverse=True)
    names = {}
    for path in paths:
        root = next((root for root in roots if Path(path).is_relative_to(root)), os.path.dirname(path) or ".")
        names[path] = printable(os.path.relpath(path, root).replace(os.sep, "/"))
    stems = [os.path.splitext(name)[0] for name in names.values()]
    chosen, taken = {}, set()
    for path, name in names.items():
        stem = os.path.splitext(name)[0]
        unique = stem if stems.count(stem) == 1 else name
        number = 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique.casefold())
        chosen[path] = unique
    return chosen


def _check_table(table: Path, output: Path | None) -> None:
    if table.suffix not in (".csv", ".parquet"):
        raise ValueError(f"cannot write {table}: the name must end in .csv or .parquet")
    if table.is_dir() or not (table.parent.is_dir() or table.parent == output):
        raise ValueError(f"cannot write {table}: something else is there, or its folder does not exist")
    if output is not None and output.exists() and not output.is_dir():
        raise ValueError(f"cannot write to {output}: it is not a folder")


def _write_table(table: Path, rows: list[dict[str, Any]]) -> None:
    from mt2_music.storage import atomic_path

    with atomic_path(table) as unfinished:
        if table.suffix == ".csv":
            with unfinished.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows)
            return
        import pyarrow
        from pyarrow import parquet

        columns = pyarrow.Table.from_pylist([{name: row.get(name) for name in FIELDS} for row in rows])
        parquet.write_table(columns, unfinished)


def _write_failures(table: Path, failures: list[dict[str, Any]]) -> None:
    from mt2_music.collection.archive import write_failures

    write_failures(table.with_suffix(".failures.csv"), failures)
