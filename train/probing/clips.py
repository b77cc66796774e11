"""What a benchmark data set is here: labelled clips in three splits."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mt2_music.train.data.splits import SPLITS, split_of


@dataclass(frozen=True)
class Clip:
    """A sound file, or a part of it, with its label.

    Args:
        path: sound file.
        label: what it is labelled with; of which type, says the task: a name, a tuple of names or numbers, a number,
            or a tuple of `Segment` or `Beat`.
        group: what must not be on two sides of a split, such as a piece or an artist.
        start, seconds: the part of the file, in seconds; None is up to the end.
    """

    path: Path
    label: Any
    group: str
    start: float = 0.0
    seconds: float | None = None


Splits = dict[str, list[Clip]]


class MissingDataError(FileNotFoundError):
    """A data set is not where it was said to be, or not in its official layout."""


def require(path: Path, name: str, layout: str) -> Path:
    """Return a path that is there.

    Args:
        path: file or folder of a data set.
        name: the data set's name for people.
        layout: what its folder is expected to hold.

    Raises:
        MissingDataError: it is not there; the message tells the layout.
    """
    if not path.exists():
        raise MissingDataError(f"{name}: {path} is missing. Expected layout:\n{layout}")
    return path


def split_by_group(clips: Iterable[Clip], validation: float = 0.15, test: float = 0.15) -> Splits:
    """Split clips so that no group is on two sides, by a hash of the group's name: the same on every machine."""
    splits: Splits = {name: [] for name in SPLITS}
    for clip in clips:
        splits[split_of(clip.group, validation, test)].append(clip)
    return splits
