"""Labels from disk: recordings in folders, a CSV table or a data set, with what each is labelled with."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.audio.datasets import load_named_dataset
from mt2_music.audio.files import printable
from mt2_music.train.synth.score import Segment

from .splits import SPLITS
from .tracks import LeftOut, find_files, find_rows

TASKS = ("single", "multi", "regression", "frames")
SPLIT_NAMES = {**{name: name for name in SPLITS}, "valid": "validation", "val": "validation", "dev": "validation"}
LABEL_COLUMNS = {"single": ("label",), "multi": ("labels",), "regression": (), "frames": ("start", "end", "label")}
OTHER_COLUMNS = ("file", "split", "group")


@dataclass(frozen=True)
class Example:
    """A recording and what it is labelled with.

    Args:
        name: for people, and for splits that are drawn: relative to what holds it, so the same on every machine.
        open: gives a path or a binary file object.
        label: single: a name; multi: a tuple of names; regression: a tuple of numbers; frames: a tuple of `Segment`
            in the order of time, which do not overlap.
        split: one of SPLITS, or empty where none was given.
        group: what must not be on two sides of a split, such as an artist; empty where none was given.
    """

    name: str
    open: Callable[[], Any]
    label: Any
    split: str = ""
    group: str = ""


def read_folder(folder: Path) -> tuple[list[Example], list[LeftOut]]:
    """Find recordings below one folder for each label; train, validation and test folders around them are splits."""
    sources = find_files(folder)
    left_out = list(sources.left_out)
    paths = [Path(source).relative_to(folder) for _, source in sources.found]
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    has_splits = {"train"} <= tops <= set(SPLIT_NAMES)
    examples = []
    for path in paths:
        *folders, _ = path.parts
        split = SPLIT_NAMES[folders.pop(0)] if has_splits and folders else ""
        if folders:
            examples.append(Example(printable(str(path)), partial(str, folder / path), folders[0], split))
        else:
            left_out.append(LeftOut(printable(str(path)), "lies in no folder that would be its label"))
    return examples, left_out


def read_csv(path: Path, task: str, columns: Sequence[str] = ()) -> tuple[list[Example], tuple[str, ...]]:
    """Read a table with a header: `file`, relative to the table; labels; and maybe `split` and `group`.

    Labels are `label` for single, `labels` with | between them for multi, every column of numbers for regression, and
    for frames `start`, `end` in seconds and `label`, in as many rows as the file has segments.

    Args:
        path: the table, UTF-8.
        task: one of TASKS.
        columns: of the label, instead of those above.

    Returns:
        The recordings, and the columns of their labels.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a column is missing or a row makes no sense; the message names the line.
    """
    if task == "frames" and columns:
        columns = ("start", "end", *columns)
    columns = tuple(columns) or LABEL_COLUMNS[task]
    rows = list(_rows(path, ("file", *columns)))
    if not rows:
        raise ValueError(f"{path} holds no rows")
    if task == "regression" and not columns:
        columns = tuple(name for name in rows[0][1] if name not in OTHER_COLUMNS and _is_number(rows[0][1][name]))
        if not columns:
            raise ValueError(f"{path} has no column of numbers, only {', '.join(rows[0][1])}")
    examples: dict[str, Example] = {}
    for line, row in rows:
        try:
            label = parse_label(task, [row[name] for name in columns])
            split = _split(row.get("split", ""))
            example = Example(row["file"], partial(str, path.parent / row["file"]), label, split, row.get("group", ""))
            before = examples.get(example.name)
            if before is not None:
                example = _joined(before, example, task)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        examples[example.name] = example
    return list(examples.values()), columns


def _rows(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        try:
            header = reader.fieldnames or ()
            missing = [name for name in columns if name not in header]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]!r}, only {', '.join(header) or 'nothing'}")
            for row in reader:
                yield reader.line_num, {name: value.strip() for name, value in row.items() if name is not None}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is malformed after line {reader.line_num}: {error!r}") from error


def parse_label(task: str, cells: Sequence[str]) -> Any:
    """Turn the cells of a row into a label.

    Raises:
        ValueError: they hold none.
    """
    if task == "multi":
        return tuple(sorted({name.strip() for name in cells[0].split("|")} - {""}))
    if task == "regression":
        return tuple(map(_number, cells))
    if not cells[-1]:
        raise ValueError("the label is empty")
    if task == "single":
        return cells[0]
    segment = Segment(_number(cells[0]), _number(cells[1]), cells[2])
    if not 0 <= segment.start < segment.end:
        raise ValueError(f"a segment must start at 0 or later and end after that, got {cells[0]} to {cells[1]}")
    return (segment,)


def _number(text: str) -> float:
    if not _is_number(text):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _split(name: str) -> str:
    if name and name not in SPLIT_NAMES:
        raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
    return SPLIT_NAMES.get(name, "")


def _joined(before: Example, example: Example, task: str) -> Example:
    """Add the segments of another row; no other task has several rows for a file."""
    if task != "frames":
        raise ValueError(f"{example.name} is there twice")
    if (before.split, before.group) != (example.split, example.group):
        raise ValueError(f"{example.name} is in split {before.split!r}, group {before.group!r} in an earlier line")
    return replace(before, label=in_order([*before.label, *example.label]))


def in_order(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Sort segments by time.

    Raises:
        ValueError: two overlap.
    """
    ordered = tuple(sorted(segments, key=lambda segment: segment.start))
    for segment, following in zip(ordered, ordered[1:], strict=False):
        if following.start < segment.end - 1e-6:
            raise ValueError(
                f"the segment {following.label!r} from {following.start:g} s begins before {segment.label!r} ends at "
                f"{segment.end:g} s"
            )
    return ordered


def read_dataset(
    name: str, task: str, audio_column: str, columns: Sequence[str] = ()
) -> tuple[list[Example], tuple[str, ...]]:
    """Read a `datasets` data set; the splits it has are taken as they are, and so is the order of its `ClassLabel`.

    Args:
        name: of the data set, or its path.
        task: one of TASKS.
        audio_column: its audio, which is decoded by soundfile.
        columns: of the label; `label` by default. Of frames it holds lists of {"start", "end", "label"}.

    Returns:
        The recordings; and the names of the labels, as far as it states them, or the columns of regression.

    Raises:
        ValueError, OSError: there is no such data set or column, or a row has no label of this kind.
    """
    columns = tuple(columns) or ("label",)
    examples, names = [], columns if task == "regression" else ()
    try:
        opened = load_named_dataset(name, None)
    except OSError as error:
        raise ValueError(f"there is no folder or table {name!r}, and no such data set: {error}") from error
    splits = dict(opened) if isinstance(opened, dict) else {"train": opened}
    for split, dataset in splits.items():
        sources = find_rows(dataset, audio_column)
        missing = [column for column in columns if column not in dataset.column_names]
        if missing:
            raise ValueError(f"{name} has no column {missing[0]!r}, only {', '.join(dataset.column_names)}")
        classes = _class_label(dataset.features[columns[0]])
        names = tuple(classes.names) if classes is not None else names
        has_groups = "group" in dataset.column_names
        labels = dataset.select_columns([*columns, *(["group"] if has_groups else [])])
        for (_, row), values in zip(sources.found, labels, strict=True):
            title = f"{split} row {row}"
            try:
                label = _dataset_label(task, [values[column] for column in columns], classes)
                known_split = _split(split) if len(splits) > 1 else ""
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{name}, {title}: {error}") from error
            group = str(values["group"]) if has_groups else ""
            examples.append(Example(title, partial(sources.open_source, row), label, known_split, group))
    if task == "regression" and examples:
        sizes = {len(example.label) for example in examples}
        if len(sizes) > 1:
            raise ValueError(f"{name} has rows of {min(sizes)} and of {max(sizes)} numbers")
        width = sizes.pop()
        names = columns if width == len(columns) else tuple(f"{columns[0]}_{index}" for index in range(width))
    return examples, names


def _class_label(feature: Any) -> Any:
    from datasets import ClassLabel

    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, ClassLabel) else None


def _dataset_label(task: str, values: Sequence[Any], classes: Any) -> Any:
    def text(value: Any) -> str:
        return classes.int2str(value) if classes is not None else "" if value is None else str(value)

    value = values[0]
    if task == "single":
        return parse_label(task, [text(value)])
    if task == "multi":
        return parse_label(task, [value]) if isinstance(value, str) else tuple(sorted(map(text, value)))
    if task == "regression":
        numbers = [number for cell in values for number in (cell if isinstance(cell, list) else [cell])]
        return tuple(_number(str(number)) for number in numbers)
    rows = [[str(segment[name]) for name in LABEL_COLUMNS["frames"]] for segment in value]
    return in_order(segment for row in rows for segment in parse_label(task, row))
