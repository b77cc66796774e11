"""Indexes that follow the files they were made from: what changed is embedded again, what moved is found again."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple

from mt2_music.audio.files import audio_files, glob_folder, printable
from mt2_music.interrupts import advise
from mt2_music.loading import Provenance
from mt2_music.song.embed import SongEmbedding
from mt2_music.storage import file_facts, file_hash, file_state

from .archive import check_output, check_settings, each_file
from .searchable import write_copy
from .stores import Changes, IndexFile, IndexFolder, KnownSong, forget_folders, identity, only_writer, place_columns
from .table_formats import column_names
from .tables import make_row


class SongFile(NamedTuple):
    """A song that an index is to hold.

    Args:
        name: for messages.
        sound: what `embed_audio` takes.
        root: folder that was given, absolute; empty if the song is no file.
        file: path below it, with slashes, in printable characters; the name of what is no file.
        identity: what the song is known by, see `stores.identity`; the name of what is no file.
    """

    name: str
    sound: Any
    root: str
    file: str
    identity: str


def find_songs(places: Iterable[str]) -> list[SongFile]:
    """List the songs of files, folders and globs, each once, whichever way it is named."""
    forget_folders()
    found: dict[str, SongFile] = {}
    for place in places:
        root = _root(place)
        for path in audio_files([place]):
            known_by = identity(path)
            if known_by not in found:
                file = os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/")
                found[known_by] = SongFile(printable(path), path, printable(root), printable(file), known_by)
    return list(found.values())


def _root(place: str) -> str:
    """Return the folder that a place stands for: itself, the one a glob begins with, or the one a file is in."""
    if os.path.isdir(place):
        return os.path.abspath(place)
    if has_magic(place) and not os.path.exists(place):
        return os.path.abspath(glob_folder(place))
    return os.path.dirname(os.path.abspath(place))


@dataclass
class IndexReport:
    """What `refresh_index` did, by names of songs; as text, how many of each.

    Args:
        embedded: with their seconds.
        moved: where they were, by where they are now.
        dropped: paths of songs whose files are gone, or became unreadable.
        unchanged: since they were embedded.
        failures: files that cannot be used, with reasons.
        kept: how many songs stay though their files are gone, by the root if it is missing or if it was asked for, or
            by the folder that is empty.
    """

    embedded: dict[str, float] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("embedded", "moved", "dropped", "unchanged")}
        return ", ".join(f"{name} {number}" for name, number in counts.items())


@dataclass
class Plan:
    """What is to be done.

    Args:
        embed: songs, in order.
        changes: of rows that are there.
        replaced: rows of songs that are to be embedded again because their content changed, by identity.
        report: what is known before the first song is embedded.
    """

    embed: Iterable[SongFile]
    changes: Changes
    replaced: dict[str, KnownSong]
    report: IndexReport


def plan_refresh(known: dict[str, KnownSong], songs: list[SongFile], folder: Path, keep_missing: bool = False) -> Plan:
    """Compare an index with the files that it is to hold.

    A file with the size and time of its row is unchanged; otherwise its content decides. Content that is at a new
    path, and no longer at the one of its row, has moved. Rows whose file is gone are dropped, unless their whole root
    is missing, or it or a folder below it that they were in is empty, such as that of a disk that is not connected.

    Args:
        known: what the index says, by identity.
        songs: the files.
        folder: that the index is in.
        keep_missing: keep rows whose file is gone.
    """
    report, changes, replaced = IndexReport(), Changes(), {}
    states = {song.identity: _state(song) for song in songs}
    wanted: list[tuple[SongFile, str]] = []  # what has no row yet, and its content if it was read
    free: list[KnownSong] = []  # rows whose content is no longer where they say
    for song in songs:
        row, state = known.get(song.identity), states[song.identity]
        if row is None or state is None:
            wanted.append((song, ""))
            continue
        file, root, _ = row.stored
        where = place_columns(row.root, file, folder) if root else place_columns(song.root, song.file, folder)
        update: dict[str, Any] = {} if tuple(where.values()) == row.stored else dict(where)
        if state != (row.size, row.mtime_ns):
            content = _hash(song)
            if not content or content != row.content_hash:
                wanted.append((song, content))
                if content:
                    free.append(row)
                    replaced[song.identity] = row
                continue
            update |= {"size": state[0], "mtime_ns": state[1]}
        if update:
            changes.columns[row.token] = update
        report.unchanged.append(song.name)
    gone = [row for name, row in known.items() if row.path and states.get(name) is None and _is_gone(row.path)]
    free += gone
    by_content: dict[str, list[KnownSong]] = {}
    for row in free:
        if row.content_hash:
            by_content.setdefault(row.content_hash, []).append(row)
    sizes = {row.size for row in free}
    embed: list[SongFile] = []
    for song, content in wanted:
        state = states[song.identity]
        if state and state[0] in sizes:
            content = content or _hash(song)
        if not state or not by_content.get(content):
            embed.append(song)
            continue
        row = by_content[content].pop()
        place = place_columns(song.root, song.file, folder)
        changes.columns[row.token] = {**place, "size": state[0], "mtime_ns": state[1]}
        changes.moved_to[row.token] = song.identity
        report.moved[song.name] = row.path
        if song.identity in replaced:
            changes.dropped.add(replaced.pop(song.identity).token)
    changes.dropped -= changes.moved_to.keys()
    listed = cache(_has_entries)
    for row in gone:
        if row.token in changes.moved_to:
            continue
        kept_in = row.root if keep_missing else _disconnected(row, listed)
        if kept_in is not None:
            report.kept[kept_in] = report.kept.get(kept_in, 0) + 1
        else:
            changes.dropped.add(row.token)
            report.dropped.append(row.path)
    return Plan(embed, changes, replaced, report)


def _state(song: SongFile) -> tuple[int, int] | None:
    try:
        return None if os.path.isdir(song.sound) else file_state(song.sound)
    except OSError:
        return None


def _hash(song: SongFile) -> str:
    """Return the hash of a file's content; empty if it cannot be read, which whoever embeds it says."""
    try:
        return file_hash(song.sound)
    except OSError:
        return ""


def _is_gone(path: str) -> bool:
    """Tell whether a file is gone; one that only cannot be reached is not, and where there is a folder now it is."""
    for name in _names(path):
        try:
            if stat.S_ISDIR(os.stat(name).st_mode):
                continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass
        return False
    return True


def _names(path: str) -> set[str]:
    """Return what a path may be called: a name that is no UTF-8 is stored as `printable` writes it."""
    return {path, re.sub(r"\\udc([0-9a-f]{2})", lambda code: chr(0xDC00 + int(code[1], 16)), path)}


def _disconnected(row: KnownSong, has_entries: Callable[[str], bool | None]) -> str | None:
    """Return the folder of a song that is gone which is that of a disk that is not connected; None if there is none.

    That is the root if it is missing, and any folder from there on that is empty: a mount point stays where it is. A
    folder below the root that is missing was removed.
    """
    if not has_entries(row.root):
        return row.root
    folder = os.path.dirname(row.path)
    while folder.startswith(os.path.join(row.root, "")) and (found := has_entries(folder)) is not True:
        if found is False:
            return folder
        folder = os.path.dirname(folder)
    return None


def _has_entries(folder: str) -> bool | None:
    """Tell whether a folder has anything in it; None if there is no such folder."""
    for name in _names(folder):
        try:
            with os.scandir(name) as entries:
                return any(True for _ in entries)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
    return None


def refresh_index(
    output: Path,
    songs: Iterable[SongFile],
    embed: Callable[[Any], SongEmbedding],
    source: Provenance,
    *,
    keep_missing: bool = False,
    shard: int = 0,
    shards: int = 1,
) -> IndexReport:
    """Make an index, or bring one up to date: see `plan_refresh`.

    Until it is done, and if it is killed, the index is as it was, and what was embedded into a folder is found by the
    next run. A file that cannot be used is named and does not stop the others.

    Args:
        output: file (`TABLE_SUFFIXES`) or folder.
        songs: a list of files; or an iterator of sounds that are no files, each of which is known by its name.
        embed: as `MusicModel.embed`.
        source: of the embeddings.
        keep_missing: keep songs whose file is gone.
        shard, shards: which share of the songs to embed, of how many.

    Raises:
        ValueError: the output cannot be written, holds another model's embeddings, or another process writes to it.
    """
    to_folder = check_output(output, shards)
    forget_folders()
    with only_writer(output, shard, shards):
        _check_columns(output, to_folder)
        index = IndexFolder(output, source, shard, shards) if to_folder else IndexFile(output, source)
        known = {song.identity: song for song in index.known()}
        if isinstance(songs, list):
            plan = plan_refresh(known, songs, index.folder, keep_missing)
            ours = {song.identity for song in songs[shard::shards]}
            todo = _not_left_over(index, plan.embed, plan.report)
            plan.embed = [song for song in todo if song.identity in ours]
        else:
            report = IndexReport()
            share = (song for number, song in enumerate(songs) if number % shards == shard)
            todo = _not_left_over(index, _new(share, known, report), report)
            plan = Plan(todo, Changes(), {}, report)
        try:
            _embed_all(index, plan, embed, source)
        except (KeyboardInterrupt, SystemExit) as stop:
            index.commit(plan.changes)  # what is embedded counts; what changed and is not stays as it was
            if isinstance(stop, KeyboardInterrupt):
                place = printable(str(output))
                raise advise(stop, f"what was done is in {place}; the same command goes on with the others") from None
            raise
        index.commit(plan.changes)
        if isinstance(index, IndexFolder):
            with index.alone():
                write_copy(output)
    return plan.report


def _check_columns(output: Path, to_folder: bool) -> None:
    if to_folder:
        check_settings(output, {"hop": None, "windows": False, "frames": False})
    elif output.exists() and {"times", "frames"} & set(column_names(output)):
        raise ValueError(f"{output} holds windows or frames, which an index does not: name another file")


def _new(songs: Iterable[SongFile], known: dict[str, KnownSong], report: IndexReport) -> Iterator[SongFile]:
    for song in songs:
        if song.file in known:
            report.unchanged.append(song.name)
        else:
            yield song


def _not_left_over(
    index: IndexFile | IndexFolder, songs: Iterable[SongFile], report: IndexReport
) -> Iterator[SongFile]:
    """Yield the songs to embed, but for those that a run that was killed has embedded already."""
    left_over = index.left_over()
    for song in songs:
        row_of = left_over.get(song.identity)
        if row_of and (not song.root or _state(song) == (row_of[0].size, row_of[0].mtime_ns)):
            index.add(song.identity, row_of[1])
            report.unchanged.append(song.name)
        else:
            yield song


def _embed_all(
    index: IndexFile | IndexFolder,
    plan: Plan,
    embed: Callable[[Any], SongEmbedding],
    source: Provenance,
) -> None:
    by_name: dict[str, SongFile] = {}

    def read(song: SongFile) -> tuple[dict[str, Any], SongEmbedding]:
        by_name[song.name] = song
        return file_facts(song.sound) if song.root else {}, embed(song.sound)

    pairs = ((song.name, song) for song in plan.embed)
    for name, result, error in each_file(list(pairs) if isinstance(plan.embed, list) else pairs, read):
        song = by_name.pop(name)
        if result is None:
            plan.report.failures[name] = str(error)
            row = plan.replaced.get(song.identity)
            if row and row.token not in plan.changes.moved_to:  # it is of content that is no longer there
                plan.changes.dropped.add(row.token)
                plan.report.dropped.append(row.path)
            continue
        facts, embedding = result
        place = place_columns(song.root, song.file, index.folder)
        index.add(song.identity, make_row(song.file, embedding, source, facts={**place, **facts}))
        plan.report.embedded[name] = embedding.seconds
