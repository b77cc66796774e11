"""The benchmark's tasks, one entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mt2_music.train.synth.corpus import key_of, read_rows
from mt2_music.train.synth.score import Beat, Segment

from . import loaders
from .clips import SPLITS, Clip, Splits, require
from .heads import Beats, Chords, Classes, Head, Keys, Numbers, Tags, Tempo
from .metrics import load_metric
from .probe import Metric

CORPUS_LAYOUT = """  corpus/
    settings.json
    rows.jsonl
    audio/train/*.flac, audio/validation/*.flac, audio/test/*.flac
Render it: python -m mt2_music.train.synth.corpus --output_dir corpus"""


@dataclass(frozen=True)
class Task:
    """A question about music, with the clips it is asked of.

    Args:
        dataset: name under which the user says where it lies.
        load: folder to labelled clips in splits.
        head: what the linear layer is asked for.
        metric: name of the metric module.
        main: the score that decides, and the table's.
        source: where task or protocol come from.
    """

    dataset: str
    load: Callable[[Path], Splits]
    head: Head
    metric: str
    main: str
    source: str


def metric_of(task: Task) -> Metric:
    """Load the metric of a task: answers and references of clips to scores."""
    module = load_metric(task.metric)
    return lambda answers, references: module.compute(predictions=answers, references=references)


def load_corpus_clips(label: Callable[[dict[str, Any]], Any], root: Path) -> Splits:
    """Read the rows of a rendered corpus that have a label.

    Args:
        label: label of a row, or None.
        root: folder of the corpus.

    Raises:
        FileNotFoundError: there is no corpus, or it was not finished.
        ValueError: a split has no row with the label.
    """
    require(root / "rows.jsonl", "corpus", CORPUS_LAYOUT)
    splits: Splits = {name: [] for name in SPLITS}
    for row in read_rows(root):
        value = label(row)
        if value is not None:
            splits[row["split"]].append(Clip(root / row["file"], value, row["piece"]))
    if not all(splits.values()):
        raise ValueError(
            f"{root} has too few labelled rows: { ({name: len(clips) for name, clips in splits.items()}) }"
        )
    return splits


def _chords(row: dict[str, Any]) -> tuple[Segment, ...] | None:
    return tuple(Segment(**chord) for chord in row["chords"]) or None


def _beats(row: dict[str, Any]) -> tuple[Beat, ...] | None:
    return tuple(Beat(**beat) for beat in row["beats"]) or None


def _instruments(row: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(row["instruments"]) if row["pitch"] is None else None


def _pitch(row: dict[str, Any]) -> str | None:
    return None if row["pitch"] is None else str(row["pitch"])


def _corpus(label: Callable[[dict[str, Any]], Any], head: Head, metric: str, main: str, source: str) -> Task:
    return Task("corpus", partial(load_corpus_clips, label), head, metric, main, source)


MIREX_KEY = "MIREX audio key detection; weights as in mir_eval (Raffel et al. 2014)"
DOWNBEATS = Beats(downbeats=True, min_gap_seconds=0.5)
PROTOCOL = "one linear layer on the frozen output, as Kong et al. 2025"
TASKS: dict[str, Task] = {
    "corpus-key": _corpus(key_of, Keys(), "key", "mirex", MIREX_KEY),
    "corpus-chord": _corpus(_chords, Chords(), "chord", "majmin", "25 classes a frame; mir_eval.chord"),
    "corpus-beat": _corpus(_beats, Beats(), "beat", "f1", "F1 at 70 ms; Davies et al. 2009, mir_eval.beat"),
    "corpus-downbeat": _corpus(_beats, DOWNBEATS, "beat", "f1", "as beats"),
    "corpus-tempo": _corpus(lambda row: row["tempo"], Tempo(), "tempo", "acc1", "Gouyon et al. 2006"),
    "corpus-instrument": _corpus(_instruments, Tags(), "multilabel", "map", "families of General MIDI; " + PROTOCOL),
    "corpus-pitch": _corpus(_pitch, Classes(), "accuracy", "accuracy", "single notes; " + PROTOCOL),
    "philharmonia-instrument": Task(
        "philharmonia",
        loaders.load_philharmonia_instrument,
        Classes(),
        "accuracy",
        "accuracy",
        "notes of an instrument never on both sides",
    ),
    "philharmonia-pitch": Task(
        "philharmonia", loaders.load_philharmonia_pitch, Classes(), "accuracy", "accuracy", "as above"
    ),
    "magnatagatune": Task(
        "magnatagatune", loaders.load_magnatagatune, Tags(), "multilabel", "map", "top 50 tags; split by folder"
    ),
    "gtzan-genre": Task(
        "gtzan", loaders.load_gtzan_genre, Classes(), "accuracy", "accuracy", "fault-filtered; Kereliuk et al. 2015"
    ),
    "gtzan-downbeat": Task("gtzan-rhythm", loaders.load_gtzan_rhythm, DOWNBEATS, "beat", "f1", "Marchand et al. 2015"),
    "gtzan-beat": Task("gtzan-rhythm", loaders.load_gtzan_rhythm, Beats(), "beat", "f1", "Marchand et al. 2015"),
    "nsynth-instrument": Task(
        "nsynth", loaders.load_nsynth_instrument, Classes(), "accuracy", "accuracy", "11 families; Engel et al. 2017"
    ),
    "nsynth-pitch": Task("nsynth", loaders.load_nsynth_pitch, Classes(), "accuracy", "accuracy", "Engel et al. 2017"),
    "giantsteps-key": Task("giantsteps", loaders.load_giantsteps_key, Keys(), "key", "mirex", "Knees et al. 2015"),
    "emomusic": Task(
        "emomusic", loaders.load_emomusic, Numbers(), "r2", "r2", "arousal, valence; Soleymani et al. 2013"
    ),
    "ballroom-beat": Task("ballroom", loaders.load_ballroom_beats, Beats(), "beat", "f1", "Krebs et al. 2013"),
    "ballroom-downbeat": Task("ballroom", loaders.load_ballroom_beats, DOWNBEATS, "beat", "f1", "Krebs et al. 2013"),
    "ballroom-tempo": Task("ballroom", loaders.load_ballroom_tempo, Tempo(), "tempo", "acc1", "Gouyon et al. 2006"),
    "jamendo": Task(
        "jamendo", loaders.load_mtg_jamendo, Tags(), "multilabel", "map", "top 50 tags; Bogdanov et al. 2019"
    ),
    "fma-genre": Task("fma", loaders.load_fma, Classes(), "accuracy", "accuracy", "Defferrard et al. 2017"),
}
