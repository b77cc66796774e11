"""A copy of a large index that is searched without being read whole.

To read a million songs from Parquet takes seconds and gigabytes, of which decoding alone is one second. So `mt2 index`
keeps a copy in the folder of a large index: an npy file for each vector, which a search reads block by block; what it
needs to know of all vectors before; and an Arrow file of the names, of which it reads those of its answer.

The Parquet parts are what counts. The name of a copy tells which parts it was made of, and a copy is removed before
the list of parts changes: without one that fits, the parts are read.
"""

import hashlib
import json
import logging
import shutil
import threading
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.feature_extraction.feature_extraction_mt2 import _require
from mt2_music.loading import Provenance
from mt2_music.options import VECTORS
from mt2_music.storage import write_npz

from .similar import Statistics, statistics_of
from .tables import (
    COPY,
    ROOT_COLUMNS,
    Embeddings,
    one_source,
    parts,
    read_embeddings,
    read_vectors,
    remove_copies,
    row_places,
)

logger = logging.getLogger(__name__)

ROWS_WORTH_A_COPY = 20_000  # reading fewer from Parquet takes 0.2 s
ROWS_PER_BATCH = 4096  # of names: what is read for the name of one song
NAMES_FILE, STATISTICS_FILE = "names.arrow", "statistics.npz"


class StoredVectors:
    """Vectors in an npy file, of which only the rows that are asked for are read; of use to several threads.

    Args:
        path: of a file of float32, (songs, hidden_size); it may be removed later, but on Windows.

    Raises:
        ValueError: it is damaged.
        FileNotFoundError: nothing is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        np.lib.format.read_magic(self._file)
        self.shape, _, kind = np.lib.format.read_array_header_1_0(self._file)
        self._start = self._file.tell()
        if len(self.shape) != 2 or kind != np.float32 or path.stat().st_size != self._start + 4 * np.prod(self.shape):
            raise ValueError(f"{path} is damaged")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Read a row, (hidden_size,), or a slice of rows that follow one another, (rows, hidden_size)."""
        if not isinstance(rows, slice):
            return self[rows : rows + 1][0]
        first, last, _ = rows.indices(len(self))
        block = np.empty((last - first, self.shape[1]), np.float32)
        with self._lock:
            self._file.seek(self._start + first * 4 * self.shape[1])
            if self._file.readinto(block.data) != block.nbytes:
                raise ValueError(f"{self.path} is damaged")
        return block


class StoredNames(Sequence[str]):
    """Names of songs in an Arrow file, of which only those around the ones that are asked for are read.

    Args:
        path: of the file.
        folder: that the index is in.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        arrow, ipc = _arrow("reading an index")
        self._batches = ipc.open_file(arrow.OSFile(str(path)))
        self._folder = folder
        last = self._batches.num_record_batches - 1
        self._number = last * ROWS_PER_BATCH + self._batches.get_batch(last).num_rows

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, row: Any) -> Any:
        batch, place = divmod(int(row), ROWS_PER_BATCH)
        columns = self._batches.get_batch(batch).slice(place, 1).to_pydict()
        return row_places(columns, self._folder)[0][1]


def _arrow(purpose: str) -> tuple[Any, Any]:
    return _require("pyarrow", purpose), _require("pyarrow.ipc", purpose)


def open_embeddings(places: Iterable[str | Path], names: Collection[str] = VECTORS) -> Embeddings:
    """Open the songs' vectors of tables for a search: those of a large index stay on the disk.

    Arguments, errors: as of `read_embeddings`.
    """
    paths = [Path(place) for place in places]
    if len(paths) == 1 and paths[0].is_dir():
        try:
            return _open_copy(paths[0], names)
        except FileNotFoundError:  # the index is small, or is just being refreshed
            pass
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            logger.warning("%s cannot be searched where it is, and is read whole: %s", paths[0], error)
    return read_embeddings(paths, names)


def _open_copy(folder: Path, names: Collection[str]) -> Embeddings:
    copy = folder / _copy_name(parts(folder))
    with np.load(copy / STATISTICS_FILE, allow_pickle=False) as stored:
        source = Provenance(*stored["source"].tolist())
        held = [name for name in VECTORS if name in names and f"{name}_centre" in stored.files]
        statistics = {name: Statistics(stored[f"{name}_centre"], stored[f"{name}_lengths"]) for name in held}
    vectors = {name: StoredVectors(copy / f"{name}.npy") for name in held}
    index = Embeddings(StoredNames(copy / NAMES_FILE, folder), vectors, source)
    if {len(index.files)} != {len(values) for values in vectors.values()}:
        raise ValueError(f"{copy} is damaged")
    index.statistics.update(statistics)
    return index


def _copy_name(listed: list[Path]) -> str:
    facts = [(path.name, path.stat().st_size) for path in listed]
    return COPY + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def write_copy(folder: Path) -> None:
    """Make the copy of an index that is large and has none; one that cannot be written is told, and costs only time.

    Args:
        folder: of an index that nobody changes meanwhile.
    """
    listed = parts(folder)
    copy = folder / _copy_name(listed)
    parquet = _require("pyarrow.parquet", "writing an index")
    if copy.is_dir() or sum(parquet.read_metadata(path).num_rows for path in listed) < ROWS_WORTH_A_COPY:
        return
    remove_copies(folder)
    unfinished = copy.with_name(f"{copy.name}.part")
    try:
        unfinished.mkdir()
        _write(unfinished, listed)
        unfinished.rename(copy)
    except (OSError, ValueError) as error:
        logger.warning("%s is complete, but searching it will be slow: %s", folder, error)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(copy: Path, listed: list[Path]) -> None:
    sources: set[Provenance] = set()
    writers: dict[tuple[str, int], Callable[[np.ndarray], None]] = {}  # by names and sizes of vectors
    with ExitStack() as opened:
        add_names = opened.enter_context(_names_file(copy / NAMES_FILE))
        for path in listed:
            places, vectors, source = read_vectors(path)
            if not places["file"]:
                continue
            kinds = [(name, values.shape[1]) for name, values in vectors.items()]
            for name, size in kinds if not writers else ():
                writers[name, size] = opened.enter_context(_vector_file(copy / f"{name}.npy", size))
            if set(kinds) != writers.keys():
                raise ValueError(f"{path} has not the vectors that other parts have")
            sources.add(source)
            add_names(places)
            for kind, values in zip(kinds, vectors.values(), strict=True):
                writers[kind](values)
    if not sources:
        raise ValueError("no row has a vector")
    statistics: dict[str, np.ndarray] = {}
    for name, _ in writers:
        centre, lengths = statistics_of(StoredVectors(copy / f"{name}.npy"))
        statistics |= {f"{name}_centre": centre, f"{name}_lengths": lengths}
    write_npz(copy / STATISTICS_FILE, source=np.array(one_source(sources, str(copy.parent))), **statistics)


@contextmanager
def _names_file(path: Path) -> Iterator[Callable[[Mapping[str, list[str]]], None]]:
    """Open an Arrow file, and give what adds names to it, as columns; all batches but the last are of one size."""
    arrow, ipc = _arrow("writing an index")
    columns = ("file", *ROOT_COLUMNS)
    schema = arrow.schema([(name, arrow.string()) for name in columns])
    waiting: dict[str, list[str]] = {name: [] for name in columns}
    with ipc.new_file(str(path), schema) as file:

        def write() -> None:
            file.write_batch(arrow.record_batch({name: waiting[name][:ROWS_PER_BATCH] for name in columns}, schema))
            for values in waiting.values():
                del values[:ROWS_PER_BATCH]

        def add(places: Mapping[str, list[str]]) -> None:
            for name, values in waiting.items():
                values += places.get(name) or [""] * len(places["file"])
            while len(waiting["file"]) >= ROWS_PER_BATCH:
                write()

        yield add
        if waiting["file"]:
            write()


@contextmanager
def _vector_file(path: Path, size: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Open an npy file, (rows, size), and give what adds rows to it."""
    number = 0
    with path.open("wb") as file:

        def write_header() -> None:  # numpy leaves room for more rows in it
            header = {"descr": "<f4", "fortran_order": False, "shape": (number, size)}
            np.lib.format.write_array_header_1_0(file, header)

        def add(vectors: np.ndarray) -> None:
            nonlocal number
            number += len(vectors)
            file.write(vectors.astype("<f4", copy=False).tobytes())

        write_header()
        yield add
        file.seek(0)
        write_header()
