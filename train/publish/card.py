"""Fill the card of a published model from the files in its folder."""

import logging
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mt2_music.loading import load_config
from mt2_music.train.probing.report.report import load_results, rows_of, sizes, table
from mt2_music.train.probing.tasks import TASKS

from .facts import FACTS_FILE, FIGURES_FOLDER, MISTAKES_FILE, RESULTS_FILE, read_json

logger = logging.getLogger(__name__)
TEMPLATE, KEY_TEMPLATE = (Path(__file__).with_name(name) for name in ("model_card.md", "key_card.md"))
READOUT_NAMES = {"zero-shot": "profile, no training", "frames": "frame tokens", "mean": "mean of the class tokens"}
UNKNOWN = "No benchmark has been run on this model: judge it on your own music before you rely on it."
CALIBRATED = "The profile was calibrated with composed pieces in all keys (`key_calibration` in the config)."
PICTURES = {
    "bars.png": "Scores on the test split, by readout, with ablations and baselines",
    "layers.png": "Scores by layer",
    "keys.png": "True and heard key signatures of test pieces, around the circle of fifths",
    "map.png": "Real recordings by their contrastive token, two principal components",
    "self-similarity.png": "Which moments of a song are alike, by frame tokens",
    "training.png": "The training run",
}


def fill_card(folder: Path) -> str:
    """Write the card of a model from the files in its folder.

    Args:
        folder: of a published model, with its config and training.json; results.json if it was measured.
    """
    facts, config = read_json(folder / FACTS_FILE), load_config(folder)
    has_results = (folder / RESULTS_FILE).is_file()
    models = load_results([folder / RESULTS_FILE]) if has_results else {}
    name = facts["name"]
    title = name.rsplit("/", 1)[-1]
    keys = "readout" in facts
    data = ModelCardData(
        model_name=title,
        license=facts["weights_license"],
        library_name="transformers",
        pipeline_tag="audio-classification" if keys else "feature-extraction",
        tags=["music", "audio", "mt2", "key-estimation", "self-supervised"],
        eval_results=_eval_results(title, models) or None,
    )
    return Template((KEY_TEMPLATE if keys else TEMPLATE).read_text()).substitute(
        metadata=data.to_yaml(),
        name=name,
        title=title,
        weights_license=facts["weights_license"],
        training_data=facts["training_data"],
        parameters=f"{facts['parameters'] / 1e6:.2f} M",
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        window_seconds=f"{config.max_frames / config.frame_rate:.1f}",
        frame_rate=f"{config.frame_rate:g}",
        class_tokens=" and ".join(f"`{token}`" for token in config.class_tokens),
        procedure=_procedure(facts),
        calibration=CALIBRATED if config.key_calibration is not None else "",
        results=f"{table(models)}\n{sizes(models)}" if models else UNKNOWN,
        behind=_behind(title, models),
        mistakes=_mistakes(folder),
        pictures=_pictures(folder),
        version=metadata.version("mt2-music"),
        **{field: facts.get(field, "") for field in ("readout", "validation", "base")},
    )


def _eval_results(title: str, models: dict[str, dict[str, Any]]) -> list[EvalResult]:
    results = []
    for (_, readout), scores in rows_of({title: models[title]} if title in models else {}).items():
        for task, score in scores.items():
            results.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name=task,
                    dataset_type=TASKS[task].dataset,
                    dataset_name=TASKS[task].dataset,
                    dataset_config=task,  # keeps the tasks apart: the Hub joins what has the same data
                    dataset_split="test",
                    metric_type=TASKS[task].main,
                    metric_value=round(100 * score["mean"], 2),
                    metric_name=f"{TASKS[task].main}, {READOUT_NAMES.get(readout, readout)}",
                )
            )
    return results


def _procedure(facts: dict[str, Any]) -> str:
    """Say how long and on how much the model was trained, as far as the run's files tell."""
    settings, lines = facts.get("settings", {}), []
    if "num_tracks" in settings:
        lines.append(f"- {settings['num_tracks']} tracks, {settings['hours']:g} hours of audio")
    elif settings:
        lines.append(f"- a stream of the data set {settings['dataset']}")
    if "steps" in facts:
        lines.append(f"- {facts['steps']} steps of {facts['songs_per_process']} songs per process")
        lines.append(f"- {facts['hours']:g} hours of computing")
    if settings:
        lines.append(f"- learning rate {settings['learning_rate']:g}, seed {settings['seed']}")
    last = facts.get("last", {})
    values = [f"{key} {last[key]:.3f}" for key in ("loss_cpsd", "loss_nt_xent", "profile_magnitude") if last.get(key)]
    if values:
        lines.append(f"- last log entry: {', '.join(values)}")
    return "\n".join(lines) or "The run's log is not part of the published folder."


def _behind(title: str, models: dict[str, dict[str, Any]]) -> str:
    """Name the tasks on which another model or a baseline does better than the best readout of this one."""
    best: dict[str, dict[bool, tuple[float, str]]] = {}
    for (name, readout), scores in rows_of(models).items():
        for task, score in scores.items():
            found = best.setdefault(task, {})
            candidate = (score["mean"], readout if name == title else f"{name}, {readout}")
            found[name == title] = max(found.get(name == title, candidate), candidate)
    lines = []
    for task, found in best.items():
        if len(found) == 2 and found[False][0] > found[True][0]:
            (own, readout), (other, line) = found[True], found[False]
            lines.append(f"- {task}: {100 * own:.1f} ({readout}), and {100 * other:.1f} of {line}")
    return "\n".join(["Another line of the table does better on:", "", *lines, ""]) if lines else ""


def _mistakes(folder: Path) -> str:
    """Say what the model hears wrong, with examples."""
    found = read_json(folder / FIGURES_FOLDER / MISTAKES_FILE)
    if not found:
        return ""
    counts = f"{found['wrong']} in another key signature, {found['fifth']} of them one fifth off"
    lines = [
        f"Of {found['pieces']} test pieces in one key, it hears {counts}. The mistakes it is surest of:",
        "",
        "| piece | true key | heard | confidence |",
        "|---|---|---|---:|",
    ]
    lines += [f"| {e['piece']} | {e['key']} | {e['heard']} | {e['confidence']:.2f} |" for e in found["examples"]]
    return "\n".join(lines)


def _pictures(folder: Path) -> str:
    there = {name: text for name, text in PICTURES.items() if (folder / FIGURES_FOLDER / name).is_file()}
    return "\n\n".join(f"![{text}]({FIGURES_FOLDER}/{name})\n\n{text}." for name, text in there.items())
