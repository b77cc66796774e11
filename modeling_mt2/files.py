"""Files: those of folders, those that are whole or not there, and what is in them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf"}


def walk(folder: Path, refused: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield all files of a folder and the folders below it, in the order of their names.

    Args:
        folder: where to look.
        refused: is told of folders that cannot be read; without it they are passed over.
    """
    for place, folders, names in os.walk(folder, onerror=refused):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def audio_files(places: Iterable[str]) -> list[str]:
    """Put in the place of folders the audio files in and below them; a folder without any stays as it is."""
    found: list[str] = []
    for place in places:
        inside = [str(path) for path in walk(Path(place)) if path.suffix.lower() in AUDIO_SUFFIXES]
        found += inside or [place]
    return found


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move what was written there to `path` at the end of the block.

    After an error nothing is left of it; what was at `path` stays as it was. A process that is killed leaves a file
    that ends in ".part".
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is either complete or not there."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text)


def write_npz(path: Path, /, **arrays: np.ndarray) -> None:
    """Write arrays so that the file is either complete or not there."""
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


@cache
def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; of each path it is computed once in a process."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
