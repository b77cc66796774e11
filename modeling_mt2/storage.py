"""Files that are complete or not there, and the hash of what is in them."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move what was written there to `path` at the end of the block.

    After an error nothing is left of it; what was at `path` stays as it was. A process that is killed leaves a file
    that ends in ".part".
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is either complete or not there."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_npz(path: Path, /, **arrays: np.ndarray) -> None:
    """Write arrays so that the file is either complete or not there.

    Raises:
        ValueError: an array of Python objects, which only pickle could store.
    """
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise ValueError(f"{objects[0]} holds Python objects, not numbers or text")
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        named: dict[str, Any] = arrays
        np.savez(file, **named)  # numpy 1.26 takes `allow_pickle=False` for one more array


@cache
def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; of each path it is computed once in a process."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
