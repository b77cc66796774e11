"""Where an index is kept, and how it changes: a kill at any moment leaves it as it was, or as it is to be.

A file is written as a whole. In a folder, parts are never written over: a refresh writes new ones beside them, and
then the list of the parts that count, which is one file. Without a list, as before the first run is over, all count.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mt2_music.audio.files import printable
from mt2_music.loading import Provenance
from mt2_music.options import VECTORS
from mt2_music.storage import only_process, write_text_atomic

from . import archive
from .archive import PART, ArchiveWriter
from .table_formats import Row, read_columns, read_rows, write_table
from .tables import PARTS_FILE, ROOT_COLUMNS, parts, remove_copies, row_places

logger = logging.getLogger(__name__)

LOCK = ".lock"
SECONDS_TO_COMMIT = 600.0  # of patience with another process that is writing the list of parts


def identity(path: str) -> str:
    """Return what a file is known by, whichever way it was named: its real path, in printable characters."""
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.join(_real_folder(folder), name)
    return os.path.normcase(printable(os.path.realpath(whole) if os.path.islink(whole) else whole))


@lru_cache(maxsize=10_000)
def _real_folder(path: str) -> str:
    return os.path.realpath(path)


forget_folders = _real_folder.cache_clear  # before a refresh: links may lead elsewhere now


class KnownSong(NamedTuple):
    """What an index says of a song, but for its vectors.

    Args:
        identity: see `identity`; its name, if it is no file.
        path: where it is, absolute; empty if it is no file.
        root: folder that was given, absolute.
        size, mtime_ns, content_hash: of the file when it was embedded; see `FACTS` where a table does not say.
        stored: what the columns of its place hold: "file", and `ROOT_COLUMNS`.
    """

    identity: str
    path: str
    root: str
    size: int
    mtime_ns: int
    content_hash: str
    stored: tuple[str, ...]

    @property
    def token(self) -> tuple[str, str]:
        """What a row is known by: its song, and the content that was embedded."""
        return self.identity, self.content_hash


FACTS = {"size": -1, "mtime_ns": -1, "content_hash": ""}  # columns of a row, and what is in them if it is no file


def known_songs(path: Path, source: Provenance | None = None) -> list[KnownSong]:
    """Read what a table says of its songs, in the order of its rows.

    Raises:
        ValueError: it is damaged, or of another model than `source`.
        FileNotFoundError: nothing is there.
    """
    columns = read_columns(path, {"file", *FACTS, *ROOT_COLUMNS, *Provenance._fields})
    number = len(columns["file"])
    try:
        sources = {Provenance(*row) for row in zip(*(columns[name] for name in Provenance._fields), strict=True)}
    except KeyError as error:
        raise ValueError(f"{path} is damaged, or not a table of embeddings: it has no column {error}") from error
    for other in sources:
        if source is not None and not other.fits(source):
            raise OtherModelError(f"{path} holds embeddings of {' '.join(other)}, not of {' '.join(source)}")
    facts = [columns.get(name) or [nothing] * number for name, nothing in FACTS.items()]
    stored = [columns.get(name) or [""] * number for name in ("file", *ROOT_COLUMNS)]
    found = []
    rows = zip(row_places(columns, path.parent), zip(*facts, strict=True), zip(*stored, strict=True), strict=True)
    for (root, name), (size, mtime_ns, content), place in rows:
        if root or content or os.path.isfile(name):
            whole = os.path.abspath(name)
            song = KnownSong(identity(whole), whole, root or os.path.dirname(whole), size, mtime_ns, content, place)
        else:
            song = KnownSong(name, "", "", size, mtime_ns, content, place)
        found.append(song)
    return found


class OtherModelError(ValueError):
    """An index is of another model."""


def place_columns(root: str, file: str, folder: Path) -> dict[str, str]:
    """Return the columns that say where a song is: the root, the way there from the index, and the path below it.

    Args:
        root: absolute; empty if the song is no file.
        file: path below it, with slashes.
        folder: that the table will be in.
    """
    from_index = ""
    if root:
        with suppress(ValueError):  # on another drive of Windows
            from_index = os.path.relpath(_real_folder(root), _real_folder(str(folder))).replace(os.sep, "/")
    return {"file": file, "root": root, "root_from_index": from_index}


@dataclass
class Changes:
    """What becomes of rows, by their tokens; nothing happens to rows that are no longer there.

    Args:
        columns: that change, and what they become.
        moved_to: identity that the song has from now on.
        dropped: rows that go.
    """

    columns: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    moved_to: dict[tuple[str, str], str] = field(default_factory=dict)
    dropped: set[tuple[str, str]] = field(default_factory=set)

    def rows_that_stay(self, songs: list[KnownSong], taken: set[str]) -> tuple[dict[int, Mapping[str, Any]], bool]:
        """Tell which rows of a table stay, with the columns that change, and whether all stay as they are.

        Args:
            songs: of the table.
            taken: identities of songs that have a row already, which these rows are added to.
        """
        stay: dict[int, Mapping[str, Any]] = {}
        for number, song in reversed(list(enumerate(songs))):  # a later row is newer
            target = self.moved_to.get(song.token, song.identity)
            if song.token not in self.dropped and target not in taken:
                taken.add(target)
                stay[number] = self.columns.get(song.token, {})
        return dict(sorted(stay.items())), len(stay) == len(songs) and not any(stay.values())


class IndexFile:
    """An index that is one file."""

    def __init__(self, output: Path, source: Provenance) -> None:
        self.output, self.source, self.folder = output, source, output.parent
        self._new: list[Row] = []
        self._identities: set[str] = set()

    def known(self) -> list[KnownSong]:
        """Read what it holds."""
        return known_songs(self.output, self.source) if self.output.exists() else []

    def left_over(self) -> dict[str, tuple[KnownSong, Row]]:
        """Return songs of a run that was killed: none, as it wrote nothing."""
        return {}

    def add(self, song: str, row: Row) -> None:
        """Take the row of a new song, by its identity; it counts after `commit`."""
        self._new.append(row)
        self._identities.add(song)

    def commit(self, changes: Changes) -> None:
        """Write the index anew, if anything changes."""
        stay, same = changes.rows_that_stay(self.known(), set(self._identities))
        if same and not self._new:
            return
        old = read_rows(self.output) if stay else []
        rows = [{**old[number], **columns} for number, columns in stay.items()] + self._new
        if rows:
            write_table(self.output, [_complete(row) for row in rows])
        else:
            self.output.unlink()


class IndexFolder:
    """An index that is a folder of parts; several processes may each add a share of the songs.

    Args:
        output: the folder, which is there.
        source: what makes the embeddings.
        shard, shards: which share of how many.
    """

    def __init__(self, output: Path, source: Provenance, shard: int = 0, shards: int = 1) -> None:
        self.output, self.source, self.folder = output, source, output
        self.shard, self.shards = shard, shards
        self.writer = ArchiveWriter(output, f"{shard:05d}-of-{shards:05d}")
        self._identities: set[str] = set()
        for unfinished in filter(self._is_ours, output.glob(f"{PART}*.part")):
            unfinished.unlink(missing_ok=True)
        counted = parts(output)
        unlisted = [path for path in output.glob(f"{PART}*.parquet") if path not in counted]
        self._left_over = list(filter(self._is_ours, unlisted))

    def known(self) -> list[KnownSong]:
        """Read what it holds; parts that are damaged are named, and their songs are unknown."""
        with self.alone():
            counted = parts(self.output)
            songs = [song for path in counted for song in self._songs(path, tell=True) or []]
            if counted and not (self.output / PARTS_FILE).exists():
                self._list(counted)  # so that what is added counts only when the whole does
        return songs

    def left_over(self) -> dict[str, tuple[KnownSong, Row]]:
        """Return the songs that a run embedded that was killed before they counted, by identity."""
        return {
            song.identity: (song, row)
            for path in self._left_over
            if (songs := self._songs(path))
            for song, row in zip(songs, read_rows(path), strict=True)
        }

    def add(self, song: str, row: Row) -> None:
        """Take the row of a new song, by its identity; it counts after `commit`."""
        self.writer.add(_complete(row))
        self._identities.add(song)

    def commit(self, changes: Changes) -> None:
        """Write parts for what is new or changes, and then the list of the parts that count from now on."""
        self.writer.write()
        with self.alone():
            new = list(self.writer.written)
            listed = [path for path in self._listed() if path not in new]
            taken = set(self._identities)
            stay: dict[Path, dict[int, Mapping[str, Any]]] = {}  # parts to write again, and the rows of each
            small = []
            for path in reversed(listed):
                songs = self._songs(path)
                if songs is None:
                    stay[path] = {}
                    continue
                rows, same = changes.rows_that_stay(songs, taken)
                if not same:
                    stay[path] = rows
                elif _is_small(path, len(songs)):
                    small.append(path)
                    stay[path] = rows
            if len(small) < 2 or not (new or len(stay) > len(small)):
                stay = {path: rows for path, rows in stay.items() if path not in small}
            for path in reversed(stay):
                old = read_rows(path) if stay[path] else []
                for number, columns in stay[path].items():
                    self.writer.add(_complete({**old[number], **columns}))
            self.writer.write()
            if stay or new or not (self.output / PARTS_FILE).exists():
                self._list([path for path in listed if path not in stay] + self.writer.written)
            for path in (*stay, *self._left_over):
                if path.name.startswith(PART):  # others are not ours to remove
                    with suppress(OSError):  # such as that somebody reads it, on Windows
                        path.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other shares from changing the list of parts meanwhile."""
        with only_process(self.output / LOCK, f"writes to {self.output}", SECONDS_TO_COMMIT):
            yield

    def _listed(self) -> list[Path]:
        return parts(self.output) if (self.output / PARTS_FILE).exists() else []

    def _list(self, paths: Iterable[Path]) -> None:
        remove_copies(self.output)  # first: a part may have the name that another had when the copy was made
        write_text_atomic(self.output / PARTS_FILE, json.dumps([path.name for path in paths], indent=1))

    def _songs(self, path: Path, tell: bool = False) -> list[KnownSong] | None:
        try:
            return known_songs(path, self.source)
        except OtherModelError:
            raise
        except (ValueError, FileNotFoundError) as error:
            if tell:
                logger.warning("%s; its songs are embedded again", error)
            return None

    def _is_ours(self, path: Path) -> bool:
        """Tell whether a part is of this share, or of one that nobody can be writing: see `only_writer`."""
        share = re.match(rf"{PART}(\d+)-of-(\d+)-", path.name)
        if share is None:
            return False
        shard, shards = map(int, share.groups())
        return shard == self.shard if shards == self.shards else self.shard == 0


def _is_small(path: Path, rows: int) -> bool:
    """Tell whether a part would rather be one with others: an index that is refreshed daily gains one a day."""
    return rows < archive.ROWS_PER_PART // 2 and path.stat().st_size < archive.BYTES_PER_PART / 4


def _complete(row: Row) -> Row:
    """Give a row the columns that all rows of an index have, and no others."""
    columns = {
        "seconds": np.nan,
        "sounding": np.nan,
        **dict.fromkeys(("file", *Provenance._fields, *ROOT_COLUMNS), ""),
        **FACTS,
    }
    vectors = {name: row[name] for name in VECTORS if name in row}
    return {**{name: row.get(name, nothing) for name, nothing in columns.items()}, **vectors}


@contextmanager
def only_writer(output: Path, shard: int = 0, shards: int = 1) -> Iterator[None]:
    """Keep other processes from writing to a file or folder of embeddings, but for the other shares of this one.

    Raises:
        ValueError: another process writes there, and the message says which.
    """
    doing = f"writes to {output}"
    if not output.is_dir():
        with only_process(output.with_name(f".{output.name}{LOCK}"), doing):
            yield
        return
    with ExitStack() as held:
        with only_process(output / LOCK, doing, SECONDS_TO_COMMIT):
            for other in output.glob(f"{LOCK}-*"):
                if not other.name.endswith(f"-of-{shards:05d}"):
                    with only_process(other, doing):  # it was left behind, or its holder is named
                        pass
            held.enter_context(only_process(output / f"{LOCK}-{shard:05d}-of-{shards:05d}", doing))
        yield
