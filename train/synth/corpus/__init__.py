"""Render a labelled corpus from scores: audio whose keys, chords, beats, instruments and notes are known exactly.

`python -m mt2_music.train.synth.corpus --output_dir corpus --hours 10`

Row i of a source follows from the seed, the source's name and i alone: rows are rendered in any order, on any number
of cores, and a longer corpus begins with the rows of the shorter one. Splits are by piece, from a hash of its name,
and the test split is played with a SoundFont that occurs nowhere else.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mt2_music.interrupts import check, process_pool
from mt2_music.storage import content_hash, write_text_atomic
from mt2_music.train.data.splits import SPLITS
from mt2_music.train.synth.rows import (
    GENERATED,
    SAMPLING_RATE,
    SECONDS,
    SINGLE_NOTES,
    SOLOS,
    Recipe,
    render_row,
    row_id,
)
from mt2_music.train.synth.sources import Source

logger = logging.getLogger(__name__)

SETTINGS_FILE, ROWS_FILE, LEFT_OUT_FILE = "settings.json", "rows.jsonl", "left_out.json"
RENDERER = 1  # to be raised when the same settings would give other rows
MIN_KEY_SHARE = 0.6  # a row that is in its main key for less of its time has no one key
MAX_FAILURES = 0.5  # share of rows that may fail before the corpus is given up


def plan(recipe: Recipe, hours: float) -> list[tuple[str, int]]:
    """Return source and number of every row: sources in turn; after each row of music a single note, and a solo."""
    names = [GENERATED, *(source.name for source in recipe.sources)]
    after = [SINGLE_NOTES, SOLOS] if recipe.solos else [SINGLE_NOTES]
    num_music = max(1, round(hours * 3600 / (recipe.seconds + sum(SECONDS[name] for name in after))))
    music = [(names[row % len(names)], row // len(names)) for row in range(num_music)]
    return [row for number, one in enumerate(music) for row in (one, *((name, number) for name in after))]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished corpus as they are in its file, with the fields that `load_corpus` describes.

    Raises:
        FileNotFoundError: there is none, or it was not finished.
    """
    if not (folder / ROWS_FILE).is_file():
        raise FileNotFoundError(f"no corpus in {folder}: {ROWS_FILE} is missing")
    if not (folder / LEFT_OUT_FILE).is_file():
        raise FileNotFoundError(f"the corpus in {folder} is not finished: render it again with the same settings")
    return list(_finished_rows(folder))


def key_of(row: dict[str, Any]) -> str | None:
    """Return the one key that a row of a corpus can be said to be in, or None."""
    return row["key"] if row["key"] and row["key_share"] >= MIN_KEY_SHARE else None


def load_corpus(folder: str | Path, split: str) -> Any:
    """Open a split of a rendered corpus as a data set.

    Args:
        folder: of the corpus.
        split: "train", "validation" or "test".

    Returns:
        A `datasets.Dataset`, one row for every clip: "audio" (not decoded: {"path", "bytes"}), "key" (the one that
        lasts longest, with its "key_share" of the time), "keys", "chords", "beats", "tempo" in beats a minute,
        "instruments", "programs" of the parts, "pitch" of a single note, all "notes", and where the clip comes from.
        Times are in seconds; what is not known is None or empty.

    Raises:
        FileNotFoundError: there is no finished corpus.
        ValueError: no such split.
    """
    from datasets import Audio, Dataset, Features, List, Value

    folder = Path(folder)
    rows = [row for row in read_rows(folder) if row["split"] == split]
    if not rows:
        raise ValueError(f"no rows in split {split!r} of {folder}")
    text, number, whole = Value("string"), Value("float64"), Value("int64")
    segments = List({"start": number, "end": number, "label": text})
    note = {"start": number, "end": number, "pitch": whole, "velocity": whole, "part": text}
    features = {
        "audio": text,
        **dict.fromkeys(("id", "source", "piece", "soundfont", "key"), text),
        **dict.fromkeys(("seconds", "key_share", "tempo", "stretch"), number),
        **dict.fromkeys(("pitch", "transposition"), whole),
        **dict.fromkeys(("keys", "chords"), segments),
        "beats": List({"time": number, "position": whole}),
        "instruments": List(text),
        "programs": List({"part": text, "program": whole}),
        "notes": List(note),
    }
    columns = {name: [row[name] for row in rows] for name in features if name != "audio"}
    audio = [str((folder / row["file"]).resolve()) for row in rows]
    dataset = Dataset.from_dict({"audio": audio, **columns}, features=Features(features))
    # Cast afterwards: to encode audio, `datasets` wants torchcodec even where a path is all there is to store.
    return dataset.cast_column("audio", Audio(sampling_rate=SAMPLING_RATE, decode=False))


def render(recipe: Recipe, hours: float, workers: int | None = None) -> list[dict[str, Any]]:
    """Render a corpus, or the rest of one that was begun.

    Args:
        recipe: what to render.
        hours: of audio, about.
        workers: processes; as many as there are cores if not given.

    Returns:
        All rows of the folder, in the order of their names.

    Raises:
        ValueError: the folder holds a corpus of other settings, or too many scores cannot be used.
    """
    for split in SPLITS:
        (recipe.folder / "audio" / split).mkdir(parents=True, exist_ok=True)
    _check_settings(recipe)
    (recipe.folder / LEFT_OUT_FILE).unlink(missing_ok=True)  # written last: the mark of a finished corpus
    for unfinished in recipe.folder.glob("audio/*/*.part"):  # of a run that was killed
        unfinished.unlink()
    rows_planned = plan(recipe, hours)
    rows_file = recipe.folder / ROWS_FILE
    rows = {row["id"]: row for row in _finished_rows(recipe.folder)}
    todo = [row for row in rows_planned if row_id(row) not in rows]
    left_out = []
    _write_rows(rows_file, rows.values())  # without the torn line a killed run may leave
    with process_pool(workers) as pool, rows_file.open("a", encoding="utf-8") as file:
        done = pool.map(partial(_render_row, recipe), todo, chunksize=4)
        for row in tqdm(
            done, total=len(rows_planned), initial=len(rows_planned) - len(todo), unit="row", desc="rendering"
        ):
            if "error" in row:
                left_out.append(row)
                logger.warning("left out %s: %s", row["id"], row["error"])
            else:
                rows[row["id"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
            if len(left_out) > 20 and len(left_out) > MAX_FAILURES * (len(rows) + len(left_out)):
                pool.shutdown(cancel_futures=True)
                raise ValueError(f"{len(left_out)} rows cannot be rendered; the last one: {left_out[-1]['error']}")
    finished = [rows[name] for name in sorted(rows)]
    _write_rows(rows_file, finished)
    write_text_atomic(recipe.folder / LEFT_OUT_FILE, json.dumps(left_out, indent=1))
    return finished


def _render_row(recipe: Recipe, row: tuple[str, int]) -> dict[str, Any]:
    check()
    return render_row(recipe, row)


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def _finished_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows whose line is whole and whose audio is there; the audio is always written before the line."""
    path = folder / ROWS_FILE
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n") and (folder / (row := json.loads(line))["file"]).is_file():
            yield row


def _check_settings(recipe: Recipe) -> None:
    path = recipe.folder / SETTINGS_FILE
    wanted = {
        "seed": recipe.seed,
        "seconds": recipe.seconds,
        "soundfonts": [_name_and_hash(path) for path in recipe.soundfonts],
        "test_soundfont": _name_and_hash(recipe.test_soundfont),
        "sources": {source.name: [len(source.pieces), _pieces_hash(source)] for source in recipe.sources},
        "renderer": RENDERER,
        **({"solos": True} if recipe.solos else {}),
    }
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]
        if different:
            details = "; ".join(f"{name} was {found.get(name)} and is {wanted.get(name)}" for name in different)
            raise ValueError(f"{recipe.folder} holds a corpus of other settings: {details}. Use another folder")
    else:
        write_text_atomic(path, json.dumps(wanted, indent=1))


def _name_and_hash(soundfont: Path) -> list[str]:
    return [soundfont.name, content_hash(soundfont)[:16]]


def _pieces_hash(source: Source) -> str:
    listed = [f"{name} {path.stat().st_size}\n" for name, path in source.pieces]
    return hashlib.sha256("".join(listed).encode()).hexdigest()[:16]
