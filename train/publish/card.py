"""Fill the card of a published model from the files in its folder, and the full table of its results beside it."""

from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mt2_music.loading import load_config
from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.report.comparison import Row, claim, compare, comparison_table, note
from mt2_music.train.probing.report.report import load_results, sizes, table
from mt2_music.train.probing.tasks import TASKS

from .facts import FACTS_FILE, FIGURES_FOLDER, MISTAKES_FILE, RESULTS_FILE, RESULTS_TABLE_FILE, read_json

TEMPLATE, KEY_TEMPLATE, ANALYSIS_TEMPLATE = (
    Path(__file__).with_name(name) for name in ("model_card.md", "key_card.md", "analysis_card.md")
)
FRAME_SCORES = {
    "chord": "chords, major and minor triads: frames that are right",
    "seventh": "chords with their sevenths: frames that are right",
    "key": "keys over time: frames that are right",
    "tempo": "tempo, within 5 %: frames that are right",
    "beat": "beats, decoded: F1 at 70 ms",
    "downbeat": "downbeats, decoded: F1 at 70 ms",
}
READOUT_NAMES = {"zero-shot": "profile, no training", "frames": "frame tokens", "mean": "mean of the class tokens"}
UNKNOWN = "No benchmark has been run on this model. Judge it on your own music before you rely on it."
TRAINED = (
    "`training.json` holds all settings of the training run and `results.json` all scores. The commands are in the\n"
    "package mt2-music: those that train in `docs/training.md`, those that measure in `docs/measuring.md`."
)
CONVERTED = (
    "`mt2 convert`, of the package mt2-music, turned the file `{file}` into this folder. Its SHA-256:\n`{sha256}`."
)
CALIBRATED = "The profile was calibrated with composed pieces in all keys (`key_calibration` in the config)."
PICTURES = {
    "bars.png": "Scores on the test split, by readout, with baselines",
    "layers.png": "Scores by layer",
    "keys.png": "True and estimated key signatures of test pieces, around the circle of fifths",
    "map.png": "Real recordings by their contrastive token, two principal components",
    "self-similarity.png": "Which moments of a song are alike, by frame tokens",
    "training.png": "The training run",
}


def write_card(folder: Path) -> None:
    """Write the card of a model, and the table of all its results if it was measured, from the files in its folder."""
    write_text_atomic(folder / "README.md", fill_card(folder))
    if (folder / RESULTS_FILE).is_file():
        write_text_atomic(folder / RESULTS_TABLE_FILE, fill_results(folder))


def fill_results(folder: Path) -> str:
    """Return the table of all models and readouts in a folder's results, as Markdown."""
    models = load_results([folder / RESULTS_FILE])
    title = title_of(read_json(folder / FACTS_FILE))
    return f"# All results beside {title}\n\n{table(models)}\n{sizes(models)}"


def title_of(facts: dict[str, Any]) -> str:
    """Return the name of a published model without that of its owner; results know it by this name."""
    return facts["name"].rsplit("/", 1)[-1]


def rows_of_card(folder: Path) -> list[Row]:
    """Return what a published model was measured to know, one row per task; nothing if it was not measured."""
    if not (folder / RESULTS_FILE).is_file():
        return []
    return compare(title_of(read_json(folder / FACTS_FILE)), load_results([folder / RESULTS_FILE]))


def fill_card(folder: Path) -> str:
    """Return the card of a model, from the files in its folder and nothing else.

    Args:
        folder: of a published model, with its config and training.json; results.json if it was measured.
    """
    facts, config = read_json(folder / FACTS_FILE), load_config(folder)
    rows = rows_of_card(folder)
    name, title = facts["name"], title_of(facts)
    keys, frames = "readout" in facts, "frame_scores" in facts
    template = ANALYSIS_TEMPLATE if frames else KEY_TEMPLATE if keys else TEMPLATE
    data = ModelCardData(
        model_name=title,
        license=facts["weights_license"],
        library_name="transformers",
        pipeline_tag="audio-classification" if keys else "feature-extraction",
        tags=["music", "audio", "mt2", "key-estimation", "self-supervised", "sentence-transformers"],
        inference=False,  # the Hub runs no code of models, so a widget would only fail
        eval_results=[_eval_result(row) for row in rows] or None,
    )
    return Template(template.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml(),
        # A name without an owner is none on the Hub: it can only be the folder itself.
        name=name if "/" in name else f"./{name}",
        where="" if "/" in name else f"It runs in the folder that holds `{name}`.",
        title=title,
        weights_license=facts["weights_license"],
        training_data=facts["training_data"],
        parameters=f"{facts['parameters'] / 1e6:.2f} M",
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        window_seconds=f"{config.max_frames / config.frame_rate:.1f}",
        frame_rate=f"{config.frame_rate:g}",
        class_tokens=" and ".join(f"`{token}`" for token in config.class_tokens),
        procedure="\n\n".join(filter(None, [_procedure(facts), facts.get("note", "")])),
        calibration=CALIBRATED if config.key_calibration is not None else "",
        claim=claim(title, rows) if rows else UNKNOWN,
        results=_results(title, rows),
        mistakes=_mistakes(folder),
        pictures=_pictures(folder),
        reproduce=CONVERTED.format_map(facts["converted"]) if "converted" in facts else TRAINED,
        version=facts.get("package_version", ""),
        pieces=facts.get("pieces", "the training pieces of a rendered corpus"),
        frame_scores=_frame_scores(facts.get("frame_scores", {})),
        frame_labels=len(config.frame_labels),
        **{field: facts.get(field, "") for field in ("readout", "validation", "base", "key_model", "frame_pieces")},
    )


def _frame_scores(scores: dict[str, float]) -> str:
    rows = [f"| {title} | {100 * scores[name]:.1f} |" for name, title in FRAME_SCORES.items() if name in scores]
    return "\n".join(["| on validation pieces | % |", "|---|---:|", *rows])


def _results(title: str, rows: list[Row]) -> str:
    if not rows:
        return UNKNOWN
    more = (
        f"All readouts, all models and the protocol of every task are in [{RESULTS_TABLE_FILE}]({RESULTS_TABLE_FILE})."
    )
    return f"{comparison_table(title, rows)}\n{note(rows)}\n\n{more}"


def _eval_result(row: Row) -> EvalResult:
    """Return what the Hub's index of results holds of a task: one figure."""
    task = TASKS[row.task]
    return EvalResult(
        task_type="audio-classification",
        task_name=row.task,
        dataset_type=task.dataset,
        dataset_name=task.dataset,
        dataset_config=row.task,  # keeps the tasks apart: the Hub joins what has the same data
        dataset_split="test",
        metric_type=task.main,
        metric_value=round(100 * row.own.mean, 2),
        metric_name=f"{task.main}, {READOUT_NAMES.get(row.own.readout, row.own.readout)}",
    )


def count_of(number: float, noun: str) -> str:
    """Return a number with its noun, such as "1 hour" or "0.5 hours"."""
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def duration_of(hours: float) -> str:
    """Return a duration in hours, or in minutes where it is shorter than one."""
    return count_of(hours, "hour") if hours >= 1 else count_of(round(60 * hours), "minute")


def computing_of(facts: dict[str, Any]) -> str:
    """Say how long a run computed, and on what if that is known."""
    return f"{duration_of(facts['hours'])} {'on ' + facts['hardware'] if facts.get('hardware') else 'of computing'}"


def _procedure(facts: dict[str, Any]) -> str:
    """Say from where, how long and on how much the model was trained, as far as the run's files tell."""
    settings, lines = facts.get("settings", {}), []
    if settings.get("init_from"):
        start = Path(settings["init_from"])  # of a folder outside the run, its name is enough
        lines.append(f"- started from the weights of `{start.name if start.is_absolute() else start.as_posix()}`")
    if "num_tracks" in settings:
        lines.append(f"- {count_of(settings['num_tracks'], 'track')}, {count_of(settings['hours'], 'hour')} of audio")
    elif settings.get("dataset"):
        lines.append(f"- a stream of the data set {settings['dataset']}")
    if settings.get("quad_share"):
        share = f"{100 * settings['quad_share']:g} % of the songs of a step"
        length = f", drawn from {count_of(settings['quad_hours'], 'hour')}" if "quad_hours" in settings else ""
        lines.append(f"- quads, pieces rendered from scores in two orchestrations: {share}{length}")
    if "steps" in facts:
        lines.append(f"- {facts['steps']} steps of {facts['songs_per_process']} songs per process")
        lines.append(f"- {computing_of(facts)}")
    if settings:
        lines.append(f"- learning rate {settings['learning_rate']:g}, seed {settings['seed']}")
    last = facts.get("last", {})
    values = [f"{key} {last[key]:.3f}" for key in ("loss_cpsd", "loss_nt_xent", "profile_magnitude") if last.get(key)]
    if values:
        lines.append(f"- last log entry: {', '.join(values)}")
    return "\n".join(lines) or "The run's log is not part of the published folder."


def _mistakes(folder: Path) -> str:
    """Say which keys the model gets wrong, with examples."""
    found = read_json(folder / FIGURES_FOLDER / MISTAKES_FILE)
    if not found:
        return ""
    counts = f"{found['wrong']} in another key signature, {found['fifth']} of them one fifth off"
    lines = [
        f"Of {found['pieces']} test pieces in one key, it puts {counts}. The mistakes it is surest of:",
        "",
        "| piece | true key | its answer | confidence |",
        "|---|---|---|---:|",
    ]
    lines += [f"| {e['piece']} | {e['key']} | {e['estimated']} | {e['confidence']:.2f} |" for e in found["examples"]]
    return "\n".join(lines)


def _pictures(folder: Path) -> str:
    there = {name: text for name, text in PICTURES.items() if (folder / FIGURES_FOLDER / name).is_file()}
    return "\n\n".join(f"![{text}]({FIGURES_FOLDER}/{name})\n\n{text}." for name, text in there.items())
