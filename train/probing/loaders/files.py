"""What the loaders share: folders, tables, and errors that name what is missing."""

import csv
import hashlib
import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mt2_music.train.probing.clips import SPLITS, Clip, MissingDataError, Splits, require

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFolder:
    """Where a data set lies, and the loader whose docstring tells its layout."""

    name: str
    root: Path
    loader: Callable[..., Splits]

    @property
    def layout(self) -> str:
        """Return the layout that the loader's docstring tells."""
        section = inspect.cleandoc(self.loader.__doc__ or "").partition("Layout:\n")[2]
        return section.partition("\n\n")[0]

    def find(self, part: str = "") -> Path:
        """Return the path of a part that must be there."""
        return require(self.root / part, self.name, self.layout)

    def refusal(self, reason: str) -> MissingDataError:
        """Make the error that names what is missing, and the layout."""
        return MissingDataError(f"{self.name}: {reason}. Expected layout:\n{self.layout}")

    def present(self, splits: Splits) -> Splits:
        """Leave out clips whose sound is missing or empty, and refuse a split that loses all."""
        missing = {clip.path: None for clips in splits.values() for clip in clips if not holds_data(clip.path)}
        left = {split: [clip for clip in clips if clip.path not in missing] for split, clips in splits.items()}
        for split, clips in splits.items():
            if clips and not left[split]:
                raise self.refusal(f"no sound file of {split} is there, such as {clips[0].path}")
        if not any(left.values()):
            raise self.refusal(f"nothing to load in {self.root}")
        if missing:
            message = "%s: %d of %d sound files are missing or empty and left out; the first is %s"
            logger.warning(message, self.name, len(missing), sum(map(len, splits.values())), next(iter(missing)))
        return left


def no_clips() -> Splits:
    """Return empty splits."""
    return {split: [] for split in SPLITS}


def without_unknown_classes(splits: Splits, name: str) -> Splits:
    """Leave out what a classifier could not know: clips of a class that does not occur in train."""
    known = {clip.label for clip in splits["train"]}
    left = {split: [clip for clip in clips if clip.label in known] for split, clips in splits.items()}
    unknown = sorted({clip.label for clips in splits.values() for clip in clips} - known)
    if unknown:
        count = sum(len(splits[split]) - len(left[split]) for split in splits)
        logger.warning("%s: %d clips of classes that do not occur in train are left out: %s", name, count, unknown)
    return left


def labelled_clips(clips: list[Clip], name: str) -> list[Clip]:
    """Leave out clips without a single beat: they were not annotated."""
    empty = [clip for clip in clips if clip.label == ()]
    if empty:
        logger.warning("%s: %d files without beats are left out, the first is %s", name, len(empty), empty[0].path)
    return [clip for clip in clips if clip.label != ()]


def first_present(*paths: Path) -> Path:
    """Return the first path with something in it, or the first."""
    return next((path for path in paths if holds_data(path)), paths[0])


def holds_data(path: Path) -> bool:
    """Tell whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def read_rows(path: Path, *columns: str, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a header: line numbers and rows.

    Raises:
        ValueError: one of `columns` is missing, in the header or in a row.
    """
    header: list[str] = []
    for line, record in read_records(path, delimiter):
        header = header or record
        row = dict(zip(header, record, strict=False))
        if missing := [column for column in columns if column not in row]:
            raise ValueError(f"{path}, line {line} is malformed: no {' and no '.join(missing)}")
        if record is not header:
            yield line, row


def read_records(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Read separated values: line numbers and fields without blanks around them."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            for record in reader:
                if record:
                    yield reader.line_num, [field.strip() for field in record]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {reader.line_num} is malformed: {error!r}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Read a text: line numbers and lines, without blank ones."""
    with locate_errors(str(path)):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    for line, text in enumerate(lines, start=1):
        if text.strip():
            yield line, text.strip()


@contextmanager
def locate_errors(place: str) -> Iterator[None]:
    """Raise errors of malformed content as ValueError that names the place."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{place} is malformed: {error!r}") from error


def parse_number(text: Any) -> float:
    """Parse a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text!r}")
    return value


def sha1(text: str) -> int:
    """Hash a name to a number that is the same on every machine."""
    return int(hashlib.sha1(text.encode()).hexdigest(), 16)
