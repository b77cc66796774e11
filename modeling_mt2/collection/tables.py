"""Tables of embeddings: npz, Parquet and Arrow files, and folders of Parquet files, one row for every song.

Columns are "file", "seconds", "model", "revision" and "front_end" (see `Provenance`), and one for every one of
`SongEmbedding.vectors`. With windows there are "times" and "windows_mean" and so on; with frames "frames". In npz
files, "file" is called "files"; there, where rows cannot differ in length, windows of all songs follow one another,
and "num_windows" says how many each has.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.feature_extraction.feature_extraction_mt2 import _require
from mt2_music.loading import Provenance
from mt2_music.options import TABLE_SUFFIXES, VECTORS
from mt2_music.song.embed import SongEmbedding
from mt2_music.storage import atomic_path, write_npz

Row = dict[str, Any]


def make_row(file: str, song: SongEmbedding, source: Provenance, windows: bool = False, frames: bool = False) -> Row:
    """Make the row of a song.

    Args:
        file: its name.
        song: its embedding.
        source: of the embedding.
        windows: keep the vectors of windows.
        frames: keep frame tokens, which must be there.
    """
    row: Row = {"file": file, "seconds": song.seconds, **source._asdict(), **song.vectors}
    if windows:
        row |= {"times": song.times, **{f"windows_{name}": vectors for name, vectors in song.windows.items()}}
    if frames:
        row["frames"] = song.frames
    return row


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a file of the format that its suffix names; it is complete, or not there.

    Raises:
        ValueError: another suffix than `TABLE_SUFFIXES`.
        ImportError: pyarrow is missing, which all but npz need.
    """
    if path.suffix == ".npz":
        columns = _npz_columns(rows)
        write_npz(path, files=columns.pop("file"), **columns)
        return
    if path.suffix not in TABLE_SUFFIXES:
        raise ValueError(f"{path.name} must end in one of {', '.join(TABLE_SUFFIXES)}")
    arrow = _require("pyarrow", f"writing {path.suffix} files")
    columns = {name: _arrow_column(arrow, [row[name] for row in rows]) for name in rows[0]}
    table = arrow.table(columns)
    with atomic_path(path) as unfinished:
        if path.suffix == ".parquet":
            _require("pyarrow.parquet", "writing Parquet").write_table(table, unfinished)
        else:
            _require("pyarrow.feather", "writing Arrow").write_feather(table, str(unfinished), compression="lz4")


def _npz_columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        ragged = np.ndim(values[0]) == 2
        columns[name] = np.concatenate(values) if ragged else np.array(values)
        if ragged:
            columns["num_frames" if name == "frames" else "num_windows"] = np.array([len(value) for value in values])
    return columns


def _arrow_column(arrow: Any, values: list[Any]) -> Any:
    if np.ndim(values[0]) == 0:
        return arrow.array(values)
    stacked = np.concatenate([np.atleast_2d(value) for value in values])
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(stacked.ravel()), stacked.shape[1])
    if np.ndim(values[0]) == 1:
        return vectors
    offsets = np.cumsum([0, *(len(value) for value in values)])
    return arrow.LargeListArray.from_arrays(arrow.array(offsets), vectors)


def parts(folder: Path) -> list[Path]:
    """List the Parquet files of a folder of embeddings."""
    return sorted(folder.glob("*.parquet"))


@dataclass(frozen=True)
class Embeddings:
    """Songs with their vectors, all from one model.

    Args:
        files: names of the songs.
        vectors: "mean" and each class token's, (songs, hidden_size), float32.
        source: what made them.
    """

    files: list[str]
    vectors: dict[str, np.ndarray]
    source: Provenance


def collect_embeddings(songs: Mapping[str, SongEmbedding]) -> Embeddings:
    """Put embeddings of songs together, by the names of the songs.

    Raises:
        ValueError: there are none, or they are of different models, or do not say of which.
    """
    sources = {song.source for song in songs.values()}
    if len(sources) != 1:
        raise ValueError("embeddings of different models cannot be compared" if sources else "there are no embeddings")
    source = sources.pop()
    if source is None:
        raise ValueError("the embeddings do not say which model made them: make them with MusicModel.embed")
    names = next(iter(songs.values())).vectors
    vectors = {name: np.stack([song.vectors[name] for song in songs.values()]) for name in names}
    return Embeddings(list(songs), vectors, source)


def read_embeddings(places: Iterable[str | Path]) -> Embeddings:
    """Read the songs' vectors of tables, as one.

    Args:
        places: npz, Parquet and Arrow files, and folders of Parquet files. A song that is in several counts once.

    Raises:
        ValueError: no row, a file that is no table of embeddings, or rows of different models, revisions or front
            ends, which cannot be compared.
        FileNotFoundError: nothing is there.
    """
    tables = [_read(path) for place in map(Path, places) for path in (parts(place) if place.is_dir() else [place])]
    tables = [table for table in tables if table.files]
    if not tables:
        raise ValueError("no embeddings were found: give what `mt2 embed` wrote")
    source, vectors = tables[0].source, {}
    for other in tables[1:]:
        if other.source != source or other.vectors.keys() != tables[0].vectors.keys():
            raise ValueError(
                "embeddings of different models cannot be compared: "
                f"{tables[0].files[0]} is of {' '.join(source)}, {other.files[0]} of {' '.join(other.source)}"
            )
    files = [file for table in tables for file in table.files]
    last = sorted({file: row for row, file in enumerate(files)}.values())
    vectors = {name: np.concatenate([table.vectors[name] for table in tables])[last] for name in tables[0].vectors}
    return Embeddings([files[row] for row in last], vectors, source)


def _read(path: Path) -> Embeddings:
    try:
        columns = _read_npz(path) if path.suffix == ".npz" else _read_arrow(path)
        used = np.array([not error for error in columns.get("error", [None] * len(columns["file"]))], bool)
        vectors = {name: columns[name][used] for name in VECTORS if name in columns}
        sources = {Provenance(*row) for row in zip(*(columns[name] for name in Provenance._fields), strict=True)}
        files = [str(file) for file, use in zip(columns["file"], used, strict=True) if use]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk, not of what is on it
            raise
        raise ValueError(f"{path} is damaged, or not a table of embeddings: {error}") from error
    if len(sources) > 1:
        raise ValueError(f"embeddings of different models cannot be compared: {path} holds {sorted(sources)}")
    return Embeddings(files, vectors, sources.pop() if sources else Provenance("", "", ""))


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        strings = {name: arrays[name].tolist() for name in Provenance._fields}
        return {
            "file": arrays["files"].tolist(),
            **strings,
            **{name: arrays[name] for name in VECTORS if name in arrays},
        }


def _read_arrow(path: Path) -> dict[str, Any]:
    arrow = _require("pyarrow", f"reading {path.suffix} files")
    _require("pyarrow.compute", f"reading {path.suffix} files")
    with path.open("rb") as file:
        kind = "parquet" if path.suffix == ".parquet" else "feather"
        reader = _require(f"pyarrow.{kind}", f"reading {path.suffix} files")
        table = reader.read_table(file)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name in VECTORS:
            column = table[name]
            if isinstance(column.type, arrow.BaseExtensionType):  # as Ray writes arrays
                column = arrow.chunked_array([chunk.storage for chunk in column.chunks])
            values = arrow.compute.list_flatten(column).to_numpy()
            columns[name] = values.reshape(len(table), -1).astype(np.float32)
        elif name in ("file", "error", *Provenance._fields):
            columns[name] = table[name].to_pylist()
    return columns
