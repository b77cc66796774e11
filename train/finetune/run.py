"""A fine-tuning run: from labelled music to a Hub folder with scores and a card."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelCardData
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from mt2_music import MT2FeatureExtractor, MT2PreTrainedModel
from mt2_music.interrupts import check
from mt2_music.loading import find_model, load_extractor
from mt2_music.storage import write_text_atomic
from mt2_music.train.data.excerpts import Collator, Excerpts, Targets
from mt2_music.train.data.labels import Labelled, load_labelled, tracks_of
from mt2_music.train.data.splits import SPLITS
from mt2_music.train.data.tracks import LeftOut, Tracks
from mt2_music.train.run_folder import LOCK_FILE, SETTINGS_FILE

from .config import FinetuneArguments, TuningArguments
from .trainer import MAIN_METRICS, FineTuner, Scores, add_adapters, freeze, in_own_units, loss_of, new_classifier

logger = logging.getLogger(__name__)

METRICS_FILE, CONFUSION_FILE, UNFINISHED = "metrics.json", "confusion.png", ".unfinished"
TEMPLATE = Path(__file__).with_name("card.md")
PURPOSES = {
    "single": "it names one of {} labels",
    "multi": "it says which of {} labels apply",
    "regression": "it estimates {} numbers",
    "frames": "it names one of {} labels at every moment",
}
SETTINGS_ON_CARD = (
    "num_train_epochs",
    "learning_rate",
    "encoder_learning_rate",
    "freeze",
    "lora",
    "class_weights",
    "seed",
)
MAX_LABELS_ON_CARD = 60
PLACES = ("data",)  # may change in a run, as long as recordings and labels are the same
# Of the training arguments, those that decide what is computed: a run cannot go on under others.
BINDING = (
    "seed", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay", "max_grad_norm",
    "label_smoothing_factor", "bf16", "fp16",
)  # fmt: skip


@dataclass
class Job:
    """All that a run needs, before anything is written."""

    arguments: FinetuneArguments
    labelled: Labelled
    targets: Targets
    extractor: MT2FeatureExtractor
    model: MT2PreTrainedModel
    excerpts: dict[str, Excerpts]
    scores: Scores
    settings: dict[str, Any]
    adapters: Any  # around the model; None where its own weights are trained

    @property
    def main_metric(self) -> str:
        """The score that chooses the epoch."""
        balanced = self.arguments.class_weights == "balanced" and self.arguments.task in ("single", "frames")
        return "balanced_accuracy" if balanced else MAIN_METRICS[self.arguments.task]


def prepare(arguments: FinetuneArguments, training: TuningArguments) -> Job:
    """Read data and model, and check that they fit; nothing is written.

    Raises:
        ValueError, OSError: something of the data, the model or the settings is not as it should be.
    """
    shares = {"validation": arguments.validation_share, "test": arguments.test_share}
    labelled = load_labelled(arguments.data, arguments.task, shares, arguments.audio_column, arguments.label_column)
    extractor = load_extractor(arguments.model)
    rate, splits = extractor.sampling_rate, labelled.splits
    for name in ("validation", "test"):
        splits[name] = readable(splits[name], arguments.eval_seconds, rate, labelled.left_out)
    excerpts = {name: Excerpts(splits[name], arguments.eval_seconds, rate) for name in ("validation", "test")}
    changes = {"gain_db": arguments.gain_db, "transpose_semitones": arguments.transpose_semitones}
    excerpts["train"] = Excerpts(splits["train"], arguments.seconds, rate, training.seed, **changes)
    if not len(excerpts["validation"]):
        raise ValueError("no recording of the validation split can be decoded")
    labels = [track.source.label for track in splits["train"].tracks]
    targets = Targets(arguments.task, labelled.names, labels)
    scores = Scores(arguments.task, labelled.names)
    for name in ("validation", "test"):
        try:
            if len(excerpts[name]):
                scores.check(excerpts[name], targets)
        except ValueError as error:
            raise ValueError(f"the {name} split cannot be scored: {error}") from error
    set_seed(training.seed)
    model = new_classifier(arguments.model, arguments.task, labelled.names, arguments.pooling)
    freeze(model, arguments.freeze)
    adapters = add_adapters(model, arguments.lora) if arguments.lora else None
    settings = {
        **{name: value for name, value in asdict(arguments).items() if name not in PLACES},
        **{name: getattr(training, name) for name in BINDING},
        "world_size": training.world_size,
        "recordings": {name: len(excerpts[name]) for name in SPLITS},
        "labels_sha256": _digest(labelled),
    }
    return Job(arguments, labelled, targets, extractor, model, excerpts, scores, settings, adapters)


def _digest(labelled: Labelled) -> str:
    rows = [
        (split, track.source.name, track.num_samples, repr(track.source.label))
        for split, some in labelled.splits.items()
        for track in some.tracks
    ]
    return sha256(repr((rows, labelled.names)).encode()).hexdigest()


def readable(tracks: Tracks, seconds: float, sampling_rate: int, left_out: list[LeftOut]) -> Tracks:
    """Decode the excerpts used in evaluation; add recordings that do not decode to `left_out`, and return the rest."""
    excerpts, kept = Excerpts(tracks, seconds, sampling_rate), []
    for index, track in enumerate(tracks.tracks):
        try:
            excerpts[index]
        except (ValueError, OSError) as error:
            left_out.append(LeftOut(track.name, str(error)))
        else:
            kept.append(track)
    return tracks_of(kept)


def check_place(output_dir: Path, settings: dict[str, Any]) -> bool:
    """Return whether the folder holds this very run, finished.

    Raises:
        ValueError: it holds something else.
    """
    if not output_dir.exists():
        return False
    if (output_dir / METRICS_FILE).is_file():
        before = json.loads((output_dir / METRICS_FILE).read_text(encoding="utf-8")).get("settings")
        if before != json.loads(json.dumps(settings)):
            raise ValueError(f"{output_dir} holds a model that was tuned otherwise; use another folder")
        return True
    strange = [path.name for path in output_dir.iterdir() if path.name != LOCK_FILE]
    if strange and not (output_dir / SETTINGS_FILE).is_file():
        raise ValueError(f"{output_dir} holds {sorted(strange)[0]} and no run of fine-tuning; use another folder")
    return False


class StopBetweenSteps(TrainerCallback):
    """Ends the training after a step when a signal came; what is kept is the last checkpoint, one an epoch."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop in training."""
        check()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop in an evaluation."""
        check()


def make_trainer(job: Job, training: TuningArguments) -> FineTuner:
    """Put model, data and loss together; the same settings always give the same."""
    arguments, training_labels = job.arguments, [track.source.label for track in job.labelled.splits["train"].tracks]
    weights = job.targets.weights(training_labels) if arguments.class_weights == "balanced" else None
    training.metric_for_best_model, training.greater_is_better = job.main_metric, True
    return FineTuner(
        model=job.model,
        args=training,
        train_dataset=job.excerpts["train"],
        eval_dataset=job.excerpts["validation"],
        data_collator=Collator(job.extractor, job.targets),
        processing_class=job.extractor,
        compute_metrics=job.scores,
        callbacks=[StopBetweenSteps(), *([EarlyStoppingCallback(arguments.patience)] if arguments.patience else [])],
        loss=partial(loss_of, arguments.task, weights=weights, label_smoothing=training.label_smoothing_factor),
        encoder_learning_rate=arguments.encoder_learning_rate,
        layer_decay=arguments.layer_decay,
    )


def finish(job: Job, trainer: FineTuner, output_dir: Path) -> None:
    """Score the best epoch, and leave a Hub folder; metrics.json comes last, and checkpoints go after it."""
    if job.adapters is not None:
        job.adapters.merge_and_unload()  # first, so that what is scored is what is saved
    results, outputs = {}, {}
    for split in ("validation", "test"):
        if len(job.excerpts[split]):
            outputs[split] = trainer.predict(job.excerpts[split])
            results[split] = job.scores(outputs[split])
            logger.info("%s: %s", split, ", ".join(f"{name} {value:.4f}" for name, value in results[split].items()))
    if not trainer.is_world_process_zero():
        return
    unfinished = output_dir / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    model: Any = trainer.accelerator.unwrap_model(trainer.model).to("cpu")
    if job.arguments.task == "regression":
        in_own_units(model, job.targets)
    model.save_pretrained(unfinished)
    job.extractor.save_pretrained(unfinished)
    shown = "test" if "test" in outputs else "validation"
    if job.arguments.task == "single":
        predicted = np.asarray(outputs[shown].predictions).argmax(-1)
        plot_confusion(
            np.asarray(outputs[shown].label_ids), predicted, job.labelled.names, unfinished / CONFUSION_FILE
        )
    best = int((trainer.state.best_model_checkpoint or "-0").rpartition("-")[2])
    metrics = {
        "main": job.main_metric,
        **results,
        "steps": trainer.state.global_step,
        "best_step": best,
        "labels": list(job.labelled.names),
        "recordings": {name: len(job.excerpts[name]) for name in SPLITS},
        "left_out": [asdict(item) for item in job.labelled.left_out],
        "settings": job.settings,
    }
    (unfinished / "README.md").write_text(fill_card(output_dir.name, job, metrics, shown), encoding="utf-8")
    for path in sorted(unfinished.iterdir()):
        path.chmod(0o644)  # weights are written for their owner alone
        path.replace(output_dir / path.name)
    unfinished.rmdir()
    write_text_atomic(output_dir / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    clear(output_dir)


def clear(output_dir: Path) -> None:
    """Remove what only an unfinished run needs."""
    for checkpoint in output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    (output_dir / SETTINGS_FILE).unlink(missing_ok=True)


def plot_confusion(true: np.ndarray, predicted: np.ndarray, names: Sequence[str], output: Path) -> None:
    """Draw how often each label was taken for each other.

    Args:
        true, predicted: indices of names, (recordings,).
        names: of the labels.
        output: picture to write.
    """
    from matplotlib.figure import Figure

    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (true, predicted), 1)
    side = min(14.0, 3.5 + 0.35 * len(names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(counts / counts.sum(1, keepdims=True).clip(min=1), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color="tab:orange")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, label="share of a row")
    figure.savefig(output, dpi=120)


def license_of(model: str) -> str | None:
    """Return the licence that the card of a published model states, as the Hub spells it, or None if it states none.

    Args:
        model: folder, short name or Hub name.
    """
    try:
        place = find_model(model)
        return ModelCard.load(Path(place) / "README.md" if Path(place).is_dir() else place).data.license
    except (OSError, ValueError):  # no card, none that can be read, or no network
        return None


def fill_card(name: str, job: Job, metrics: dict[str, Any], shown: str) -> str:
    """Write a short card of a tuned model.

    Args:
        name: under which it is loaded.
        job: how it was tuned.
        metrics: what metrics.json will hold.
        shown: the split that the picture shows.
    """
    arguments, settings = job.arguments, job.settings
    task, frames = arguments.task, arguments.task == "frames"
    lines = [f"| {split} | {metrics[split][job.main_metric]:.4f} |" for split in SPLITS if split in metrics]
    pipeline = f'`pipeline("audio-classification", model="{name}", trust_remote_code=True)` works as well.'
    names = [f"`{label}`" for label in job.labelled.names]
    hidden = len(names) - MAX_LABELS_ON_CARD
    base, base_license = Path(arguments.model).name, license_of(arguments.model)
    metadata = ModelCardData(
        model_name=name,
        license=base_license,
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "audio", "mt2"],
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=metadata.to_yaml(),
        title=name,
        name=name,
        base=base,
        weights_license=f"{base_license}, as those of {base}"
        if base_license
        else f"that of {base}, which states none",
        purpose=PURPOSES[task].format(len(names)),
        auto_class=f"AutoModelForAudio{'Frame' if frames else ''}Classification",
        pipeline="" if frames else pipeline,
        results="\n".join([f"| split | {job.main_metric} |", "|---|---:|", *lines]),
        picture=f"\n![Confusions on the {shown} split]({CONFUSION_FILE})\n" if task == "single" else "",
        recordings=", ".join(f"{count} {split}" for split, count in metrics["recordings"].items()),
        best_step=metrics["best_step"],
        steps=metrics["steps"],
        settings=", ".join(f"{key} {settings[key]}" for key in SETTINGS_ON_CARD),
        labels=", ".join(names[:MAX_LABELS_ON_CARD]) + (f" and {hidden} more" if hidden > 0 else ""),
    )
