"""One row per task: a model's score beside the best baseline and the best other model, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mt2_music.train.probing.encoders import RANDOM_MODELS, STATISTICS
from mt2_music.train.probing.rules import RULES, NamedKey
from mt2_music.train.probing.tasks import TASKS

BASELINES = {*STATISTICS, *RANDOM_MODELS, *RULES, "constant"}
MARK = "▲"  # beside a score that is higher than the model's own
MAX_TASKS_NAMED = 6  # in a claim
TITLES = {
    "corpus-key": "key of a piece",
    "corpus-chord": "chords",
    "corpus-beat": "beats",
    "corpus-downbeat": "downbeats",
    "corpus-tempo": "tempo",
    "corpus-instrument": "instruments of a piece",
    "corpus-pitch": "pitch of a rendered note",
    "philharmonia-instrument": "instrument of a recorded note",
    "philharmonia-pitch": "pitch of a recorded note",
}
METRIC_TITLES = {
    "mirex": "MIREX score",
    "majmin": "frames, major and minor",
    "f1": "F1",
    "acc1": "accuracy within 4 %",
    "map": "mAP",
    "accuracy": "accuracy",
    "r2": "R²",
}


@dataclass(frozen=True)
class Score:
    """The main score of one readout on the test split, from 0 to 1; `std` over seeds, None of what has no seeds."""

    model: str
    readout: str
    mean: float
    std: float | None

    def __str__(self) -> str:
        """Return it in percent."""
        return f"{100 * self.mean:.1f}" + ("" if self.std is None else f" ± {100 * self.std:.1f}")


@dataclass(frozen=True)
class Row:
    """What was measured of one task.

    Args:
        task: its name in `TASKS`.
        own: score of the readout that validation chose; the test split has no say in it.
        baseline: highest test score of all baselines and their readouts, if there is one.
        other: the same of all other models in the results, such as ablations.
        test_clips: size of the test split.
    """

    task: str
    own: Score
    baseline: Score | None
    other: Score | None
    test_clips: int

    @property
    def title(self) -> str:
        """The task in plain words."""
        return TITLES.get(self.task, self.task)

    @property
    def metric(self) -> str:
        """The score in plain words."""
        return METRIC_TITLES.get(TASKS[self.task].main, TASKS[self.task].main)

    def beats_baselines(self) -> bool:
        """Tell whether no baseline is as good."""
        return self.baseline is None or self.own.mean > self.baseline.mean

    def beats_others(self) -> bool:
        """Tell whether no other model is as good."""
        return self.other is None or self.own.mean > self.other.mean


def chosen_readout(scores: dict[str, Any]) -> str:
    """Return the readout of a model that stands for it on a task.

    A model with a key layer stands by what that layer says, which was itself chosen on validation. Of readouts that
    were probed, the one with the highest main score on the validation split is taken. Readouts of inner layers do not
    count, nor do answers without a probe where there is a probe: they have no validation score.

    Args:
        scores: of one model on one task, as a results file holds them.
    """
    readouts = {name: score for name, score in scores["readouts"].items() if "@" not in name}
    if NamedKey.readout in readouts:
        return NamedKey.readout
    probed = [name for name, score in readouts.items() if "validation" in score]
    if not probed:
        return next(iter(readouts))
    return max(probed, key=lambda name: readouts[name]["validation"][scores["main"]]["mean"])


def compare(name: str, models: dict[str, dict[str, Any]]) -> list[Row]:
    """Return one row per task that a model was scored on, in the order of `TASKS`.

    Args:
        name: of the model.
        models: all results, by name, as `load_results` returns them.
    """
    rows = []
    for task in TASKS:
        scores = models.get(name, {"tasks": {}})["tasks"].get(task)
        if scores is None:
            continue
        found = {other: model["tasks"][task] for other, model in models.items() if task in model["tasks"]}
        rows.append(
            Row(
                task,
                _score(name, chosen_readout(scores), scores),
                _best({other: of for other, of in found.items() if other in BASELINES - {name}}),
                _best({other: of for other, of in found.items() if other not in BASELINES | {name}}),
                scores["sizes"]["test"],
            )
        )
    return rows


def _score(name: str, readout: str, scores: dict[str, Any]) -> Score:
    summary = scores["readouts"][readout]["test"][scores["main"]]
    return Score(name, readout, summary["mean"], summary["std"])


def _best(found: dict[str, dict[str, Any]]) -> Score | None:
    """Return the highest test score of all models and readouts, which favours them: nothing was chosen beforehand."""
    scores = [
        _score(name, readout, of) for name, of in found.items() for readout in of["readouts"] if "@" not in readout
    ]
    return max(scores, key=lambda score: score.mean, default=None)


def comparison_table(name: str, rows: Sequence[Row]) -> str:
    """Write one Markdown row per task."""
    others = any(row.other for row in rows)
    head = ["task", "score", name, "read from", "best baseline", *(["best ablation or other model"] if others else [])]
    lines = [_line(head), "|---|---|---:|---|---:|" + "---:|" * others]
    for row in rows:
        own = f"**{row.own}**" if row.beats_baselines() and row.beats_others() else str(row.own)
        cells = [f"{row.title} (`{row.task}`)" if row.title != row.task else f"`{row.task}`", row.metric, own]
        cells += [row.own.readout, _opponent(row.baseline, row)]
        lines.append(_line([*cells, *([_opponent(row.other, row)] if others else [])]))
    return "\n".join(lines) + "\n"


def _opponent(score: Score | None, row: Row) -> str:
    if score is None:
        return "-"
    mark = f" {MARK}" if score.mean > row.own.mean else ""
    readout = "" if score.model in BASELINES else f", {score.readout}"
    return f"{score} {score.model}{readout}{mark}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def note(rows: Sequence[Row]) -> str:
    """Say how the figures of a comparison are to be read."""
    clips = min(row.test_clips for row in rows)
    error = f"a standard error of up to {50 / clips**0.5:.1f} points for {clips} clips"
    return (
        f"Test split, in percent. {MARK} marks what is better than the model, bold what nothing here is better than. "
        "The model's readout was chosen on the validation split; of baselines and other models the best test score "
        "counts, which favours them. ± is the standard deviation over probes of different seeds. Which clips a test "
        f"split holds adds more: {error}. Baselines are statistics of spectrograms (log-mel, cqt, chroma, mfcc), this "
        "architecture before training (random-mt2), and rules without training (krumhansl, tapping, constant)."
    )


def claim(name: str, rows: Sequence[Row]) -> str:
    """Say on how many tasks a model is the best, and on which it is not; long lists are left to the table."""
    won, lost = [row for row in rows if row.beats_baselines()], [row for row in rows if not row.beats_baselines()]
    text = f"`{name}` scores higher than every baseline on {_count(won, rows)}"
    if lost and won:
        text += f"; on the other{f' {len(lost)}' * (len(lost) > 1)}{_names(lost)}, a baseline is as good or better"
    behind = [row for row in rows if not row.beats_others()]
    if behind:
        text += (
            ". An ablation (the same model with a part left out) or another model measured beside it is as good or "
            f"better on {_count(behind, rows)}"
        )
    return f"{text}."


def _count(some: Sequence[Row], rows: Sequence[Row]) -> str:
    return f"{len(some)} of {len(rows)} task{'s' if len(rows) > 1 else ''}{_names(some)}"


def _names(rows: Sequence[Row]) -> str:
    return f" ({', '.join(row.title for row in rows)})" if 0 < len(rows) <= MAX_TASKS_NAMED else ""
