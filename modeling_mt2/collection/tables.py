"""Tables of embeddings: npz, Parquet and Arrow files, and folders of Parquet files, one row for every song.

Columns are "file", "seconds", "sounding" (the share that is not silent), "model", "revision" and "front_end" (see
`Provenance`), and one for every one of `SongEmbedding.vectors`. With windows there are "times" and "windows_mean" and
so on; with frames "frames".

In an index "file" is the path below "root", which is the folder that was given; "root_from_index" leads there from the
folder that the index is in, so that both can move together. "size" in bytes, "mtime_ns" and "content_hash" are the
file's when it was embedded.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.loading import Provenance
from mt2_music.options import VECTORS
from mt2_music.song.embed import SongEmbedding

from .table_formats import Row, read_columns

logger = logging.getLogger(__name__)

PARTS_FILE = "parts.json"  # of an index: the parts that count, later ones before earlier ones
COPY = "search-"  # how the name of the folder begins that `searchable.py` keeps in an index
ROOT_COLUMNS = ("root", "root_from_index")


def make_row(
    file: str,
    song: SongEmbedding,
    source: Provenance,
    windows: bool = False,
    frames: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """Make the row of a song.

    Args:
        file: its name.
        song: its embedding.
        source: of the embedding.
        windows: keep the vectors of windows.
        frames: keep frame tokens, which must be there.
        facts: further columns, such as where the file is and what it was when it was read.
    """
    row: Row = {"file": file, "seconds": song.seconds, "sounding": song.sounding, **source._asdict()}
    row |= {**(facts or {}), **song.vectors}
    if windows:
        row |= {"times": song.times, **{f"windows_{name}": vectors for name, vectors in song.windows.items()}}
    if frames:
        row["frames"] = song.frames
    return row


def parts(folder: Path) -> list[Path]:
    """List the Parquet files of a folder of embeddings, the earlier ones first.

    Raises:
        ValueError: it is an index, and its list of parts is damaged.
    """
    listed = folder / PARTS_FILE
    try:
        return [folder / name for name in json.loads(listed.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return sorted(folder.glob("*.parquet"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{listed} is damaged: {error}; without it all Parquet files of its folder count") from error


def remove_copies(folder: Path) -> None:
    """Remove what `searchable.py` keeps in an index; what is being read, on Windows, may stay, and is not used."""
    for copy in folder.glob(f"{COPY}*"):
        shutil.rmtree(copy, ignore_errors=True)


@dataclass(frozen=True)
class Embeddings:
    """Songs with their vectors, all from one model.

    Args:
        files: names of the songs; of those of an index, absolute paths.
        vectors: "mean" and each class token's, (songs, hidden_size), float32: arrays, or `StoredVectors`.
        source: what made them.
    """

    files: Sequence[str]
    vectors: dict[str, Any]
    source: Provenance
    # What `nearest` computes once for each vector: see there.
    statistics: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)


def collect_embeddings(songs: Mapping[str, SongEmbedding]) -> Embeddings:
    """Put embeddings of songs together, by the names of the songs.

    Raises:
        ValueError: there are none, or they are of different models, or do not say of which.
    """
    sources = [song.source for song in songs.values()]
    if not sources:
        raise ValueError("there are no embeddings")
    if None in sources:
        raise ValueError("the embeddings do not say which model made them: make them with MusicModel.embed")
    source = one_source([source for source in sources if source], "what was given")
    names = next(iter(songs.values())).vectors
    vectors = {name: np.stack([song.vectors[name] for song in songs.values()]) for name in names}
    return Embeddings(list(songs), vectors, source)


def one_source(sources: Iterable[Provenance], place: str) -> Provenance:
    """Return what made all of some embeddings."""
    kinds = {source[1:]: source for source in sources}
    if len(kinds) > 1:
        names = ", ".join(" ".join(source) for source in kinds.values())
        raise ValueError(f"embeddings of different models cannot be compared: {place} holds {names}")
    return next(iter(kinds.values()))


def read_embeddings(places: Iterable[str | Path], names: Collection[str] = VECTORS) -> Embeddings:
    """Read the songs' vectors of tables, as one.

    Args:
        places: npz, Parquet and Arrow files, and folders of Parquet files. A song that is in several counts once.
        names: of the vectors to read, of `VECTORS`; those that a table lacks are left out.

    Raises:
        ValueError: no row, a file that is no table of embeddings, or rows of different models, revisions or front
            ends, which cannot be compared.
        FileNotFoundError: nothing is there.
    """
    tables = [table for place in map(Path, places) for table in _tables(place, names) if table.files]
    if not tables:
        raise ValueError("no embeddings were found: give what `mt2 index` or `mt2 embed` wrote")
    first = tables[0]
    for other in tables[1:]:
        if not other.source.fits(first.source) or other.vectors.keys() != first.vectors.keys():
            raise ValueError(
                "embeddings of different models cannot be compared: "
                f"{first.files[0]} is of {' '.join(first.source)}, {other.files[0]} of {' '.join(other.source)}"
            )
    if len(tables) == 1:
        files, vectors = first.files, first.vectors
    else:
        files = [file for table in tables for file in table.files]
        vectors = {name: np.concatenate([table.vectors[name] for table in tables]) for name in first.vectors}
    last = {file: row for row, file in enumerate(files)}
    if len(last) < len(files):
        rows = sorted(last.values())
        files, vectors = [files[row] for row in rows], {name: values[rows] for name, values in vectors.items()}
    return Embeddings(files, vectors, first.source)


def _tables(place: Path, names: Collection[str]) -> list[Embeddings]:
    """Read a file, or the parts of a folder as they are together at one time."""
    if not place.is_dir():
        return [read_table(place, names)]
    while True:
        listed = parts(place)
        try:
            tables = [read_table(path, names) for path in listed]
        except FileNotFoundError:
            if parts(place) == listed:
                raise
            continue
        if parts(place) == listed:  # otherwise the index was refreshed meanwhile
            return tables


def read_table(path: Path, names: Collection[str] = VECTORS) -> Embeddings:
    """Read the songs' vectors of one file, as `read_embeddings` does; there may be no song."""
    places, vectors, source = read_vectors(path, names)
    return Embeddings([file for _, file in row_places(places, path.parent)], vectors, source)


def read_vectors(
    path: Path, names: Collection[str] = VECTORS
) -> tuple[dict[str, list[str]], dict[str, np.ndarray], Provenance]:
    """Read one file as `read_table` does, but with the columns that say where the songs are, for `row_places`."""
    wanted = {"file", "error", *ROOT_COLUMNS, *Provenance._fields, *(name for name in VECTORS if name in names)}
    columns = read_columns(path, wanted)
    try:
        places = {name: columns[name] for name in ("file", *ROOT_COLUMNS) if name in columns}
        number = len(places["file"])
        sources = set(zip(*(columns[name] for name in Provenance._fields), strict=True))
        vectors = {name: np.asarray(columns[name], np.float32) for name in VECTORS if name in columns}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or not a table of embeddings: {error}") from error
    failed = np.array([bool(error) for error in columns.get("error", [None] * number)], bool)
    empty = np.zeros(number, bool)
    for values in vectors.values():
        empty |= np.isnan(values.sum(1))
    if (empty & ~failed).any():
        logger.warning("%s: rows without a vector are left out: %d", path, (empty & ~failed).sum())
    left_out = empty | failed
    if left_out.any():
        places = {name: list(compress(values, ~left_out)) for name, values in places.items()}
        vectors = {name: values[~left_out] for name, values in vectors.items()}
    source = one_source((Provenance(*row) for row in sources), str(path)) if sources else Provenance("", "", "")
    return places, vectors, source


def row_places(columns: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Return where the songs of a table are: the root, empty if none is known, and the path or other name.

    Args:
        columns: of the table, by name.
        folder: that the table is in.
    """
    files = [str(file) for file in columns["file"]]
    if "root" not in columns:
        return [("", file) for file in files]
    places = list(zip(columns["root"], columns["root_from_index"], strict=True))
    roots = {place: _find_root(*place, folder) if place[0] else "" for place in set(places)}
    before = {place: os.path.join(root, "") if root else "" for place, root in roots.items()}
    return [
        (roots[place], before[place] + file.replace("/", os.sep) if place[0] else file)
        for place, file in zip(places, files, strict=True)
    ]


def _find_root(root: str, from_index: str, folder: Path) -> str:
    """Return the root; or, if it is not there and index and root were moved together, where it is now."""
    beside = os.path.normpath(os.path.join(os.path.realpath(folder), from_index))
    return beside if from_index and not os.path.isdir(root) and os.path.isdir(beside) else root
