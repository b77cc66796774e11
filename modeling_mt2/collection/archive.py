"""Archives of embeddings: a file that is written at the end, or a folder of parts that can be continued.

A file that cannot be used is reported with its reason, and does not stop the others. Several processes may share a
folder: each takes every so many-th file and writes parts of its own.
"""

import csv
import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mt2_music.audio.files import printable
from mt2_music.feature_extraction.feature_extraction_mt2 import AudioWarning
from mt2_music.feature_extraction.feature_extraction_mt2 import _require as require
from mt2_music.interrupts import check, finishing
from mt2_music.loading import Provenance
from mt2_music.options import TABLE_SUFFIXES
from mt2_music.song.embed import SONG_ERRORS, reason_of
from mt2_music.storage import file_state, write_text_atomic

from .table_formats import Row, read_columns, write_table
from .tables import PARTS_FILE, parts, read_table

# A part is written when one of these is reached: what a run that was interrupted has to do again.
ROWS_PER_PART, BYTES_PER_PART, SECONDS_PER_PART = 512, 64e6, 30.0
PART, SETTINGS_FILE = "embeddings-", "settings.json"  # how names of parts begin; how rows of a folder are made

Source = tuple[str, Any]  # name of a sound, and what `embed_audio` takes


def each_file(
    sources: Iterable[Source], work: Callable[[Any], Any], warned: dict[str, str] | None = None
) -> Iterator[tuple[str, Any, str | None]]:
    """Do the work for every sound; one that cannot be used gives its reason and does not stop the rest.

    Reasons and warnings are printed on the error stream.

    Args:
        sources: the sounds.
        work: what to do.
        warned: takes, by name, what was said of sounds that were used and are not whole.

    Returns:
        Name, result, and reason, of which either is None.

    Raises:
        Stopped: a signal came; the sound at hand was finished if that took a few seconds.
    """
    for name, sound in tqdm(sources, unit="file", disable=not sys.stderr.isatty()):
        with finishing():
            check()
            result, reason, notes = _attempt(work, sound)
        for note in notes:
            tqdm.write(note if note.startswith(name) else f"{name}: {note}", file=sys.stderr)
        if notes and warned is not None:
            warned[name] = "; ".join(notes)
        if reason is not None:
            tqdm.write(f"{name}: {reason}", file=sys.stderr)
        yield name, result, reason
        check()


def _attempt(work: Callable[[Any], Any], sound: Any) -> tuple[Any, str | None, list[str]]:
    """Return result, reason of failure and warnings about its sound; other warnings go their way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        try:
            result, reason = work(sound), None
        except SONG_ERRORS as error:
            result, reason = None, reason_of(error)
    notes = []
    for warning in caught:
        if issubclass(warning.category, AudioWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return result, reason, list(dict.fromkeys(notes))  # a song may be read twice


def check_output(output: Path, shards: int) -> bool:
    """Tell whether the output is a folder, which is made if need be, and refuse what cannot be written."""
    to_folder = output.suffix not in TABLE_SUFFIXES
    if to_folder and output.suffix and not output.is_dir():
        suffixes = ", ".join(TABLE_SUFFIXES)
        raise ValueError(f"cannot write {output}: the name must end in one of {suffixes}, or be that of a folder")
    if not output.parent.is_dir() or (output.is_file() if to_folder else output.is_dir()):
        raise ValueError(f"cannot write {output}: something else is there, or its folder does not exist")
    if not to_folder and shards > 1:
        raise ValueError("several processes cannot write one file: name a folder")
    if output.suffix != ".npz":
        require("pyarrow", "writing anything but npz")
    if to_folder:
        output.mkdir(exist_ok=True)
    return to_folder


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Store in a folder how its rows are made, and refuse a folder whose rows were made in another way."""
    path = folder / SETTINGS_FILE
    if path.is_file() and (before := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise ValueError(f"{folder} holds rows made with {before}, not {settings}: name another folder")
    write_text_atomic(path, json.dumps(settings))


class ArchiveWriter:
    """Rows on their way to a file, or to a folder in parts.

    Args:
        output: file or folder.
        share: of this process, for the names of parts; None for a file.
    """

    def __init__(self, output: Path, share: str | None) -> None:
        self.output = output
        self.share = share
        self.written: list[Path] = []
        self._rows: list[Row] = []
        self._bytes, self._since = 0, time.monotonic()

    def add(self, row: Row) -> None:
        """Take a row, and write a part if there is enough for one."""
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
        seconds = time.monotonic() - self._since
        if self.share and (
            len(self._rows) >= ROWS_PER_PART or self._bytes > BYTES_PER_PART or seconds > SECONDS_PER_PART
        ):
            self.write()

    def write(self) -> None:
        """Write the rows that were added since the last part."""
        if self._rows:
            path = self._next_part() if self.share else self.output
            write_table(path, self._rows)
            self.written.append(path)
        self._rows, self._bytes, self._since = [], 0, time.monotonic()

    def write_unfinished(self) -> str:
        """Write what there is when a run is stopped: to a folder, or to a file of another name than the finished one.

        Returns:
            What is kept and how to go on, for people.
        """
        count = len(self._rows)
        if self.share:
            self.write()
            return f"what was done is in {printable(str(self.output))}; the same command goes on with the others"
        if not count:
            return "no song was finished, and nothing was written"
        path = self.output.with_suffix(f".unfinished{self.output.suffix}")
        write_table(path, self._rows)
        kept = f"songs that were done: {count}, in {printable(str(path))}"
        return f"{kept}; name a folder instead of a file to be able to go on"

    def _next_part(self) -> Path:
        number = 0
        while (path := self.output / f"{PART}{self.share}-{number:05d}.parquet").exists():
            number += 1
        return path


def finished_files(folder: Path, source: Provenance) -> set[str]:
    """Return the names in the parts of a folder, and remove parts that are damaged.

    Raises:
        ValueError: they are another model's, or of an index.
    """
    if (folder / PARTS_FILE).exists():
        raise ValueError(f"{folder} is an index: `mt2 index` adds to it")
    done: set[str] = set()
    changed: list[str] = []
    for path in parts(folder):
        try:
            part = read_table(path, ())
        except ValueError as error:
            if not path.name.startswith(PART):
                raise
            print(f"{error}; it is written again", file=sys.stderr)
            path.unlink(missing_ok=True)  # another process may have done it
            continue
        except FileNotFoundError:
            continue
        if part.files and not part.source.fits(source):
            raise ValueError(f"{folder} holds embeddings of {' '.join(part.source)}, not of {' '.join(source)}")
        done.update(part.files)
        changed += _changed_files(path)
    if changed:
        print(
            f"{len(changed)} files are others than when they were embedded, such as {changed[0]}; their rows stay. "
            "`mt2 index` keeps up with files; here, embed them to another folder",
            file=sys.stderr,
        )
    return done


def _changed_files(part: Path) -> list[str]:
    columns = read_columns(part, ("file", "size", "mtime_ns"))
    if "size" not in columns:  # of a data set, or of an older version
        return []
    changed = []
    for name, *before in zip(columns["file"], columns["size"], columns["mtime_ns"], strict=True):
        with suppress(OSError):  # what is gone is not asked for
            if list(file_state(name)) != before:
                changed.append(name)
    return changed


def failures_file(output: Path, shard: int, shards: int) -> Path:
    """Return where the table of failures goes, beside or in what is written."""
    if output.is_dir():
        return output / f"failures-{shard:05d}-of-{shards:05d}.csv"
    return output.with_suffix(".failures.csv")


def write_failures(path: Path, failures: list[dict[str, Any]]) -> None:
    """Write the table of failures, or remove that of an earlier run that had some."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.DictWriter(text, ["file", "error"], lineterminator="\n")
    table.writeheader()
    table.writerows(failures)
    write_text_atomic(path, text.getvalue())
