"""Scores as tables and pictures."""

import json
from pathlib import Path
from typing import Any

from mt2_music.train.data.splits import SPLITS
from mt2_music.train.probing.tasks import TASKS

from .comparison import BASELINES


def load_results(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Read several result files into one: models by name.

    A baseline may be in several files, made by different versions of it: the file named first counts.

    Raises:
        ValueError: a file holds no results, two files hold different models of one name, or scores of one task that
            cannot be compared.
    """
    models: dict[str, dict[str, Any]] = {}
    identities: dict[str, Any] = {}
    for path in paths:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "models" not in content:
            raise ValueError(f"{path} holds no results of the benchmark")
        for model in content["models"].values():
            known = models.setdefault(model["name"], {**model, "tasks": {}})
            if known["identity"] != model["identity"]:
                if model["name"] in BASELINES:
                    continue
                raise ValueError(f"two different models are called {model['name']}: rename one of their folders")
            for task, scores in model["tasks"].items():
                if identities.setdefault(task, scores["of"]) != scores["of"]:
                    raise ValueError(
                        f"{path}: {task} was scored on other clips, or otherwise, than in what came before"
                    )
                readouts = known["tasks"].get(task, {}).get("readouts", {}) | scores["readouts"]
                known["tasks"][task] = scores | {"readouts": readouts}
    return models


def rows_of(models: dict[str, dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Return the main score's summary by (model, readout) and task; readouts of inner layers are left out."""
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, model in models.items():
        for task, scores in model["tasks"].items():
            for readout, score in scores["readouts"].items():
                if "@" not in readout:
                    rows.setdefault((name, readout), {})[task] = score["test"][scores["main"]]
    return rows


def table(models: dict[str, dict[str, Any]]) -> str:
    """Write one Markdown row per model and readout, and one column per task."""
    rows = rows_of(models)
    tasks = [task for task in TASKS if any(task in row for row in rows.values())]
    heads = [f"{task} ({TASKS[task].main})" for task in tasks]
    lines = ["| model | readout | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(tasks)]
    for (name, readout), row in rows.items():
        cells = [_cell(row[task]) if task in row else "-" for task in tasks]
        lines.append(f"| {name} | {readout} | " + " | ".join(cells) + " |")
    shuffled = any(scores["of"]["shuffled"] for model in models.values() for scores in model["tasks"].values())
    note = (
        "Test split, in percent. ± is the standard deviation over probes of different seeds; which clips the test "
        "split holds adds more: of an accuracy over n clips, a standard error of up to 50/√n points."
    )
    return "\n".join([*lines, "", note, *(["", "Labels of training were SHUFFLED."] if shuffled else [])]) + "\n"


def _cell(score: dict[str, Any]) -> str:
    return f"{100 * score['mean']:.1f}" + ("" if score["std"] is None else f" ± {100 * score['std']:.1f}")


def sizes(models: dict[str, dict[str, Any]]) -> str:
    """Write one Markdown row per task: metric, source, and numbers of clips."""
    lines = ["| task | score | protocol | train | validation | test |", "|---|---|---|---:|---:|---:|"]
    for name, task in TASKS.items():
        found = [model["tasks"][name]["sizes"] for model in models.values() if name in model["tasks"]]
        if found:
            numbers = " | ".join(str(found[0][split]) for split in SPLITS)
            lines.append(f"| {name} | {task.main} | {task.source} | {numbers} |")
    return "\n".join(lines) + "\n"


def plot_bars(models: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw a group of bars for every task, one bar for every model and readout."""
    from matplotlib.figure import Figure

    rows = rows_of(models)
    tasks = [task for task in TASKS if any(task in row for row in rows.values())]
    figure = Figure(figsize=(2 + 1.1 * len(tasks), 0.6 + 0.14 * len(rows) * len(tasks)), layout="constrained")
    axes = figure.subplots(1, 1)
    colours = {name: f"C{index % 10}" for index, name in enumerate(models)}
    ticks, labels, place = [], [], 0.0
    for task in tasks:
        present = [(key, row[task]) for key, row in rows.items() if task in row]
        for (name, readout), score in present:
            axes.barh(place, score["mean"], xerr=score["std"] or 0, color=colours[name], height=0.85, ecolor="0.3")
            ticks.append(place)
            labels.append(f"{name} · {readout}")
            place += 1
        axes.text(1.01, place - 1 - len(present) / 2, f"{task}\n{TASKS[task].main}", va="center", fontsize=8)
        place += 1
    axes.set_yticks(ticks, labels, fontsize=6)
    axes.set_xlim(0, 1)
    axes.set_ylim(place - 1, -1)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def plot_layers(models: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the main score of every task against the layer that was read, one line for every model and readout.

    Raises:
        ValueError: the results hold no inner layers.
    """
    from matplotlib.figure import Figure

    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, model in models.items():
        for task, scores in model["tasks"].items():
            for readout, score in scores["readouts"].items():
                kind, _, layer = readout.partition("@")
                if layer:
                    value = score["test"][scores["main"]]["mean"]
                    curves.setdefault(task, {}).setdefault(f"{name} · {kind}", []).append((int(layer), value))
    if not curves:
        raise ValueError("no inner layers in these results: run the benchmark with --layers all")
    figure = Figure(figsize=(4 * len(curves), 3.2), layout="constrained")
    for axes, (task, lines) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for label, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=label)
        axes.set_title(task, fontsize=9)
        axes.set_xlabel("layer")
        axes.set_ylabel(TASKS[task].main)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=6)
    figure.savefig(path, dpi=150)
