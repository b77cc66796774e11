"""Files: those of folders, those that are whole or not there, and what is in them."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from glob import glob, has_magic
from pathlib import Path
from typing import Any

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


def _audio_inside(place: str) -> list[str]:
    found: list[str] = []
    refused: list[OSError] = []
    for folder, folders, names in os.walk(place, onerror=refused.append):
        folders.sort()
        found += [os.path.join(folder, name) for name in sorted(names) if _is_audio(name)]
        if _is_audio(folder) and not folders and not names:
            found.append(folder)
    return found + [str(error.filename) for error in refused]


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_SUFFIXES


def audio_files(places: Iterable[str]) -> list[str]:
    """List the audio files that are meant, each once: for folders those in and below them, for globs what they match.

    What is named like audio and is none, such as an empty folder "song.mp3", is listed too, for whoever opens it to
    refuse; so are folders without any audio, folders that cannot be read, and globs without a match.
    """
    found: list[str] = []
    for place in places:
        if has_magic(place) and not Path(place).exists():
            found += audio_files(sorted(glob(place, recursive=True))) or [place]
            continue
        found += _audio_inside(place) or [place]
    return list(dict.fromkeys(found))


def named(files: Iterable[str]) -> list[tuple[str, str]]:
    """Put a name that can be printed and stored before each path: old archives hold bytes that are no UTF-8."""
    return [(path.encode(errors="backslashreplace").decode(), path) for path in files]


def load_named_dataset(name: str, split: str) -> Any:
    """Open a `datasets` data set by name or path, or one that was saved to disk."""
    import datasets

    if (Path(name) / "dataset_info.json").is_file():
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, split=split)


def open_stream(name: str, split: str) -> Any:
    """Open a `datasets` data set by name or path as a stream.

    Returns:
        A `datasets.IterableDataset`; nothing is downloaded before it is read.
    """
    import datasets

    return datasets.load_dataset(name, split=split, streaming=True)


def audio_column(dataset: Any, column: str) -> Any:
    """Keep nothing but the audio of a data set or a stream, undecoded.

    Raises:
        ValueError: there is no such column.
    """
    from datasets import Audio

    if dataset.column_names is not None and column not in dataset.column_names:  # a stream may not know yet
        raise ValueError(f"the data set has no column {column!r}, only {dataset.column_names}")
    return dataset.select_columns([column]).cast_column(column, Audio(decode=False))


def open_audio_cell(audio: dict[str, Any] | None, name: str) -> Any:
    """Return the file of an undecoded audio cell: its bytes, its path, or what lies at its address.

    Raises:
        ValueError: the cell is empty.
    """
    if audio is None or (audio["bytes"] is None and audio["path"] is None):
        raise ValueError(f"{name} holds no audio")
    if audio["bytes"] is not None:
        return io.BytesIO(audio["bytes"])
    if "://" not in audio["path"]:
        return audio["path"]
    import fsspec

    with fsspec.open(audio["path"], "rb") as file:
        return io.BytesIO(file.read())


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
        unfinished.write_text(text, encoding="utf-8")


def write_npz(path: Path, /, **arrays: np.ndarray) -> None:
    """Write arrays so that the file is either complete or not there."""
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


@cache
def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; of each path it is computed once in a process."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
