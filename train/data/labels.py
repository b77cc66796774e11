"""Labelled recordings that can be trained on: those that decode, in three splits, and the names of their labels."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import methodcaller
from pathlib import Path
from typing import Any

from mt2_music.audio.datasets import holds_dataset

from .label_sources import Example, read_csv, read_dataset, read_folder
from .splits import SPLITS
from .tracks import LeftOut, Sources, Track, Tracks, scan


@dataclass(frozen=True)
class Labelled:
    """Recordings that can be used, with their label names.

    Args:
        splits: usable recordings of each of SPLITS, whose sources are of type `Example`; "test" may be empty.
        names: of labels, in the order of the model's outputs; of regression, the names of the numbers.
        left_out: recordings that cannot be used.
    """

    splits: dict[str, Tracks]
    names: tuple[str, ...]
    left_out: list[LeftOut]


def load_labelled(
    data: str, task: str, shares: dict[str, float], audio_column: str = "audio", label_column: str | None = None
) -> Labelled:
    """Read labelled recordings, leave out with a reason those that cannot be decoded, and split the others.

    Args:
        data: folder with one folder for each label, or with train, validation and test folders of such; CSV table;
            or name of a `datasets` data set, or its folder: saved to disk, of Parquet files, or with a metadata file.
        task: one of TASKS.
        shares: of "validation" and "test", where splits are not given.
        audio_column: of a data set.
        label_column: of a CSV or a data set; of regression several, with commas between them.

    Raises:
        ValueError, OSError: something about the data is not as it should be; the message names it.
    """
    columns = tuple(label_column.split(",")) if label_column else ()
    place, given = Path(data).expanduser(), None
    left_out: list[LeftOut] = []
    if data.lower().endswith(".csv"):
        examples, names = read_csv(place, task, columns)
    elif place.is_dir() and not holds_dataset(place):
        if task != "single":
            raise ValueError(
                f"{data} is a folder of sounds, which can only hold single labels: task {task} needs a CSV table, or "
                "a metadata.csv in the folder"
            )
        examples, left_out = read_folder(place)
        names = ()
    else:
        examples, names = read_dataset(data, task, audio_column, columns)
        given = names if task != "regression" else None
    found = [(example.name, example) for example in examples]
    tracks = scan(Sources(found, left_out, methodcaller("open"), data), 0.0)
    drawn = split_tracks(tracks.tracks, task, shares)
    splits = {name: tracks_of(some) for name, some in drawn.items()}
    if task != "regression":
        names = label_names(splits, task, given)
    return Labelled(splits, names, tracks.left_out)


def tracks_of(tracks: list[Track]) -> Tracks:
    """Make recordings, whose sources are of type `Example`, readable."""
    return Tracks(tracks, [], methodcaller("open"))


def split_tracks(tracks: Sequence[Track], task: str, shares: dict[str, float]) -> dict[str, list[Track]]:
    """Put recordings where their labels say, or draw splits: the same on every machine.

    Without given splits, validation and test are drawn; where only validation is missing, it is drawn from train.
    Drawn are groups, or recordings without one, in the order of a hash of their name, from each label in its share
    (for single labels); of every label at least one stays in train.

    Args:
        tracks: sources are of type `Example`.
        task: one of TASKS.
        shares: of "validation" and "test" in what is drawn from.

    Raises:
        ValueError: some recordings have a split and others none; there is no training or validation split; or a
            group is on two sides.
    """
    splits: dict[str, list[Track]] = {name: [] for name in SPLITS}
    for track in tracks:
        splits[track.source.split or "train"].append(track)
    without = [track.name for track in tracks if not track.source.split]
    if without and len(without) < len(tracks):
        raise ValueError(f"{without[0]} is in no split, while others are")
    if not splits["train"]:
        raise ValueError("the train split is empty")
    if not splits["validation"]:
        wanted = ("validation", "test") if without else ("validation",)
        splits |= _draw(splits["train"], task, {name: shares[name] for name in wanted})
    if not splits["train"] or not splits["validation"]:
        raise ValueError(f"{len(tracks)} usable recordings are too few for a validation split")
    sides: dict[str, str] = {}
    for name, some in splits.items():
        for track in some:
            group = track.source.group
            if group and sides.setdefault(group, name) != name:
                raise ValueError(f"group {group!r} is in splits {sides[group]} and {name}")
    return splits


def _draw(tracks: Sequence[Track], task: str, shares: dict[str, float]) -> dict[str, list[Track]]:
    groups: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        groups[track.source.group or track.name].append(track)
    strata: dict[Any, list[str]] = defaultdict(list)
    for group in sorted(groups, key=lambda name: sha256(name.encode()).digest()):
        labels = Counter(track.source.label if task == "single" else "" for track in groups[group])
        strata[labels.most_common(1)[0][0]].append(group)
    drawn: dict[str, list[Track]] = {name: [] for name in ("train", *shares)}
    missing = dict.fromkeys(shares, 0.0)  # recordings; carried from label to label, so that small shares add up
    for label in sorted(strata):
        size = sum(len(groups[group]) for group in strata[label])
        missing = {name: missing[name] + share * size for name, share in shares.items()}
        *others, last = strata[label]
        for group in others:
            name = next((name for name in missing if missing[name] >= len(groups[group]) / 2), "train")
            drawn[name] += groups[group]
            if name in missing:
                missing[name] -= len(groups[group])
        drawn["train"] += groups[last]
    if task == "regression":
        return drawn
    known = {name for track in drawn["train"] for name in names_in(track.source, task)}
    for name in shares:  # a label must be learned before it can be known
        for track in list(drawn[name]):
            group = track.source.group or track.name
            if track in drawn[name] and names_in(track.source, task) - known:
                moved = groups[group]
                drawn[name] = [other for other in drawn[name] if other not in moved]
                drawn["train"] += moved
                known |= {label for other in moved for label in names_in(other.source, task)}
    return drawn


def names_in(example: Example, task: str) -> set[str]:
    """Return the label names of a recording."""
    if task == "single":
        return {example.label}
    return set(example.label) if task == "multi" else {segment.label for segment in example.label}


def label_names(splits: dict[str, Tracks], task: str, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the labels: those of the training split by the alphabet, or the given ones as they are.

    Raises:
        ValueError: there are fewer than two (of several labels, none), or one occurs only in validation or test.
    """
    known = {name for track in splits["train"].tracks for name in names_in(track.source, task)}
    for split in ("validation", "test"):
        for track in splits[split].tracks:
            if unknown := sorted(names_in(track.source, task) - known):
                raise ValueError(f"label {unknown[0]!r} of {track.name} is in the {split} split and not in train")
    if len(known) < (1 if task == "multi" else 2):
        raise ValueError(f"there is nothing to tell apart: the labels of the train split are {sorted(known)}")
    return tuple(given or sorted(known))
