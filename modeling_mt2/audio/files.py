"""Which files are audio: those of folders, globs and lists. The one walk of commands, training and probing."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from glob import escape, glob, has_magic
from pathlib import Path

from mt2_music.feature_extraction.names import printable

# What people see as sound, also where FFmpeg must decode it: without FFmpeg it is named, and not passed over.
AUDIO_SUFFIXES = {
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".fla", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2"),
    *(".mp1", ".mpga", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".8svx", ".nist", ".sph"),
    *(".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".aac", ".adts", ".alac", ".aax", ".3gp", ".3g2", ".wma", ".asf"),
    *(".mka", ".weba", ".webm", ".ac3", ".eac3", ".dts", ".amr", ".awb", ".ape", ".wv", ".tta", ".tak", ".mpc"),
    *(".shn", ".dsf", ".dff", ".ra", ".rm"),
}
HIDDEN_FOLDERS = {"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir"}


@dataclass
class FoundFiles:
    """What a walk has met.

    Args:
        files: paths, in the order of their names, folder by folder; all that is named like audio, whatever it is, and
            what cannot be read: broken links, and folders.
        others: paths of other files.
        hidden: paths of what is named like audio and hidden, such as the "._song.mp3" that macOS leaves behind.
    """

    files: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    def say_hidden(self) -> str | None:
        """Return a line about hidden files, or None if there are none."""
        if not self.hidden:
            return None
        count, first = len(self.hidden), printable(self.hidden[0])
        return f"skipped {count} hidden file{'s' * (count > 1)}, such as {first}"


@dataclass
class _Link:
    path: str
    target: str  # without links
    is_folder: bool


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is not meant to be seen, by its name."""
    return name.startswith(".") or name in HIDDEN_FOLDERS


def is_audio(name: str) -> bool:
    """Tell whether a file is named like audio; what is in it, only opening it tells."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def walk(folder: str) -> FoundFiles:
    """Find all files in and below a folder; links are followed, and nothing is found twice, however links go.

    Where a file or folder is there itself, links to it are passed over; of several links the first counts.
    """
    found = FoundFiles()
    entries: list[str | _Link] = []
    seen: set[str] = set()
    _list_folder(folder, os.path.realpath(folder), entries, seen, found)
    while any(isinstance(entry, _Link) for entry in entries):
        followed: list[str | _Link] = []
        for entry in entries:
            if not isinstance(entry, _Link):
                followed.append(entry)
            elif entry.target not in seen:
                if entry.is_folder:
                    _list_folder(entry.path, entry.target, followed, seen, found)
                else:
                    seen.add(entry.target)
                    followed.append(entry.path)
        entries = followed
    for path in entries:
        assert isinstance(path, str)
        (found.files if path.endswith(os.sep) or is_audio(path) else found.others).append(path.removesuffix(os.sep))
    return found


def _list_folder(folder: str, real: str, entries: list[str | _Link], seen: set[str], found: FoundFiles) -> None:
    """Add what is in and below a folder to `entries`, with links unresolved; a separator behind it marks a refusal."""
    todo = [(folder, real)]
    while todo:
        folder, real = todo.pop()
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listed:
                inside = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            entries.append(folder + os.sep)  # opening it says why
            continue
        if is_audio(folder) and not inside:
            entries.append(folder)
        below = []
        for entry in inside:
            path, own = os.path.join(folder, entry.name), os.path.join(real, entry.name)
            is_folder = _is_folder(entry)
            if is_hidden(entry.name):
                found.hidden += _hidden(path, is_folder and not entry.is_symlink())
            elif entry.is_symlink():
                entries.append(_Link(path, os.path.realpath(path), is_folder))
            elif is_folder:
                below.append((path, own))
            elif own not in seen:
                seen.add(own)
                entries.append(path)
        todo += reversed(below)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where nobody may look
        return False


def _hidden(path: str, is_folder: bool) -> Iterator[str]:
    if is_folder:
        yield from (os.path.join(place, name) for place, _, names in os.walk(path) for name in names if is_audio(name))
    elif is_audio(path):
        yield path


def glob_folder(place: str) -> str:
    """Return the folder that a glob begins with, whose own name may look like a glob; empty for the current one."""
    folder = os.path.dirname(place)
    while has_magic(folder) and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def find_audio(places: Iterable[str]) -> FoundFiles:
    """Find the audio files that are meant, each once: for folders those in and below them, for globs what they match.

    What is named like audio and is none, such as an empty folder "song.mp3", is found too, for whoever opens it to
    refuse; so are broken links, folders without any audio, folders that cannot be read, and globs without a match.
    """
    found = FoundFiles()
    for place in places:
        if has_magic(place) and not Path(place).exists():
            folder = glob_folder(place)
            matches = find_audio(sorted(glob(escape(folder) + place[len(folder) :], recursive=True)))
            files = matches.files or [place]
        elif os.path.isdir(place):
            matches = walk(place)
            files = matches.files or [place]
        else:
            matches, files = FoundFiles(), [place]
        found.files += files
        found.others += matches.others
        found.hidden += matches.hidden
    found.files = list(dict.fromkeys(found.files))
    return found


def audio_files(places: Iterable[str]) -> list[str]:
    """List the audio files that are meant; see `find_audio`."""
    return find_audio(places).files


def printable_names(files: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each path with its printable form, which comes first."""
    return [(printable(path), path) for path in files]
