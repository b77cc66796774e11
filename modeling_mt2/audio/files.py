"""Which files are audio: those of folders, globs and lists."""

import os
from collections.abc import Callable, Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

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
        found += [os.path.join(folder, name) for name in sorted(names) if is_audio(name)]
        if is_audio(folder) and not folders and not names:
            found.append(folder)
    return found + [str(error.filename) for error in refused]


def is_audio(name: str) -> bool:
    """Tell whether a file is named like audio that can be read; what is in it, only opening it tells."""
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


def printable(path: str) -> str:
    """Return a path as it can be printed and stored: old archives hold names whose bytes are no UTF-8."""
    return path.encode(errors="backslashreplace").decode()


def printable_names(files: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each path with its printable form, which comes first."""
    return [(printable(path), path) for path in files]
