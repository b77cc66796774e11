"""Formats of tables: npz, Parquet and Arrow files, written whole or not at all, and read column by column.

`tables.py` says what the columns are. In npz files "file" is called "files"; there, where rows cannot differ in
length, windows of all songs follow one another, and "num_windows" says how many each has.
"""

import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.feature_extraction.feature_extraction_mt2 import _require
from mt2_music.options import TABLE_SUFFIXES, VECTORS
from mt2_music.storage import atomic_path, write_npz

Row = dict[str, Any]


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
            plain = [name for name in columns if np.ndim(rows[0][name]) == 0]
            # A dictionary of the numbers of vectors, which hardly repeat, would make the file half as large again.
            _require("pyarrow.parquet", "writing Parquet").write_table(table, unfinished, use_dictionary=plain)
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


def read_columns(path: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Read columns of a table: lists of numbers and strings, and of vectors an array, (rows, size).

    Where a row has no vector, its numbers are NaN.

    Args:
        path: file of one of the formats of `TABLE_SUFFIXES`.
        names: of the columns to read, if they are there; nothing else is read (default: all but windows and frames).

    Raises:
        ValueError: it is damaged, or no table of songs.
        FileNotFoundError: nothing is there.
    """
    with _damage_named(path):
        columns = _read_npz(path, names) if path.suffix == ".npz" else _read_arrow(path, names)
        if "file" not in columns:
            raise ValueError("it has no column 'file'")
    return columns


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk, not of what is on it
            raise
        raise ValueError(f"{path} is damaged, or not a table of embeddings: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a table, without windows and frames; as `read_columns`, whose errors it has."""
    columns = read_columns(path)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def column_names(path: Path) -> list[str]:
    """Return the names of all columns of a table, as they are stored; errors as of `read_columns`."""
    with _damage_named(path), path.open("rb") as file:
        if path.suffix == ".npz":
            with _open_npz(file) as arrays:
                return list(arrays.files)
        if path.suffix == ".parquet":
            return _require("pyarrow.parquet", "reading Parquet").read_schema(file).names
        return _require("pyarrow.ipc", "reading Arrow").open_file(file).schema.names


def _open_npz(file: Any) -> Any:
    if not zipfile.is_zipfile(file):  # numpy would take it for something else
        raise ValueError("it is no npz file")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _read_npz(path: Path, names: Collection[str] | None) -> dict[str, Any]:
    with path.open("rb") as file, _open_npz(file) as arrays:
        columns: dict[str, Any] = {}
        for stored in arrays.files:
            name = "file" if stored == "files" else stored
            if _is_wanted(name, names):
                columns[name] = arrays[stored] if name in VECTORS else arrays[stored].tolist()
        return columns


def _is_wanted(name: str, names: Collection[str] | None) -> bool:
    of_windows = name in ("times", "frames", "num_windows", "num_frames") or name.startswith("windows_")
    return not of_windows if names is None else name in names


def _read_arrow(path: Path, names: Collection[str] | None) -> dict[str, Any]:
    reading = f"reading {path.suffix} files"
    arrow = _require("pyarrow", reading)
    _require("pyarrow.compute", reading)
    with path.open("rb") as file:
        if path.suffix == ".parquet":
            parquet = _require("pyarrow.parquet", reading).ParquetFile(file)
            table = parquet.read([name for name in parquet.schema_arrow.names if _is_wanted(name, names)])
        else:
            ipc = _require("pyarrow.ipc", reading)
            fields = enumerate(ipc.open_file(file).schema.names)
            wanted = [number for number, name in fields if _is_wanted(name, names)]
            table = ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=wanted)).read_all()
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name in VECTORS:
            columns[name] = _vectors(arrow, table[name])
        elif arrow.types.is_string(table[name].type):  # a tenth of the time that `to_pylist` takes
            columns[name] = table[name].to_numpy().tolist()
        else:
            columns[name] = table[name].to_pylist()
    return columns


def _vectors(arrow: Any, column: Any) -> np.ndarray:
    """Return a column of lists of numbers as an array, (rows, size), with NaN where there is none."""
    if isinstance(column.type, arrow.BaseExtensionType):  # as Ray writes arrays
        column = arrow.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    there = np.asarray(column.is_valid())
    if not there.any():
        return np.full((len(column), 1), np.nan, np.float32)
    values = arrow.compute.list_flatten(column).to_numpy().astype(np.float32, copy=False)  # passes over what is null
    if there.all():
        return values.reshape(len(column), -1)
    vectors = np.full((len(column), len(values) // there.sum()), np.nan, np.float32)
    vectors[there] = values.reshape(there.sum(), -1)
    return vectors
