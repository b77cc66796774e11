"""Fill the card of a published model: `python -m mt2_music.train.card model_cards/NAME --results results.json`.

Everything a card says comes from files in the model's folder: what it was trained on (training.json), what the
benchmark measured (results.json, copied there by this command together with the scores of other models beside it), and
which test pieces it hears wrong. With `--corpus` and `--songs` the pictures are drawn anew.
"""

import argparse
import inspect
import json
import logging
import sys
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mt2_music import MT2Config, configuration_mt2, modeling_mt2
from mt2_music.feature_extraction import feature_extraction_mt2
from mt2_music.files import write_whole

from .probing.report import load_results, rows_of, sizes, table
from .probing.tasks import TASKS
from .trainer import SETTINGS_FILE, SPEED

logger = logging.getLogger(__name__)

CODE_FILES = {
    f"{module.__name__.rpartition('.')[2]}.py": module
    for module in (configuration_mt2, modeling_mt2, feature_extraction_mt2)
}
FACTS_FILE, RESULTS_FILE, FIGURES_FOLDER, MISTAKES_FILE = "training.json", "results.json", "figures", "mistakes.json"
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


def training_facts(run_dir: Path) -> dict[str, Any]:
    """Return what the files of a run tell about it: settings, steps, the last log entry, and hours of computing."""
    settings, state = (read_json(run_dir / name) for name in (SETTINGS_FILE, "trainer_state.json"))
    facts: dict[str, Any] = {"settings": settings} if settings else {}
    entries = [entry for entry in state.get("log_history", ()) if SPEED in entry]
    if entries:
        songs = state["logging_steps"] * settings.get("songs_per_step", state["train_batch_size"])
        facts |= {"steps": state["global_step"], "songs_per_process": state["train_batch_size"], "last": entries[-1]}
        facts["hours"] = round(sum(songs / entry[SPEED] for entry in entries) / 3600, 2)
    return facts


def fill_card(folder: Path) -> str:
    """Write the card of a model from the files in its folder.

    Args:
        folder: of a published model, with its config and training.json; results.json if it was measured.
    """
    facts, config = read_json(folder / FACTS_FILE), MT2Config.from_pretrained(folder)
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


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds, or nothing if there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def main(argv: list[str] | None = None) -> int:
    """Fill a card; return 0, or 2 when nothing was changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a published model")
    parser.add_argument("--results", type=Path, nargs="+", help="files of probing.run: this model's and others'")
    parser.add_argument("--layers", type=Path, help="file of probing.run with --layers, for the picture by layer")
    parser.add_argument("--corpus", type=Path, help="rendered corpus whose test pieces are heard")
    parser.add_argument("--songs", type=Path, help="folder of real recordings, one folder for each album or kind")
    parser.add_argument("--run", type=Path, help="output folder of the training run")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = arguments.model
    try:
        if not (folder / FACTS_FILE).is_file():
            raise FileNotFoundError(f"{folder} holds no {FACTS_FILE}: it was not published by mt2_music.train.publish")
        if arguments.results:
            models = load_results(arguments.results)
            if folder.name not in models:
                raise ValueError(f"the results hold no scores of {folder.name}, only of {', '.join(models)}")
            write_whole(folder / RESULTS_FILE, json.dumps({"models": models}, indent=1) + "\n")
        from .figures import draw

        (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
        draw(folder, arguments.layers, arguments.corpus, arguments.songs, arguments.run)
        for name, module in CODE_FILES.items():
            write_whole(folder / name, inspect.getsource(module))
        write_whole(folder / "README.md", fill_card(folder))
    except (OSError, ValueError) as error:
        logger.error("card: %s", error)
        return 2
    logger.info("%s", folder / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
