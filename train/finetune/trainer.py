"""What fine-tuning trains: a head on an encoder, its loss and its scores, and the Trainer.

Shapes: B clips, T frames, C labels.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer

from mt2_music import MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2Model, MT2PreTrainedModel
from mt2_music.loading import load_model
from mt2_music.train.data.excerpts import IGNORED, EpochSampler, Excerpts, Targets
from mt2_music.train.probing.metrics import load_metric
from mt2_music.train.run_folder import SETTINGS_FILE

PROBLEM_TYPES = {"multi": "multi_label_classification", "regression": "regression"}
METRICS = {"single": "accuracy", "multi": "multilabel", "regression": "r2", "frames": "accuracy"}
MAIN_METRICS = {"single": "accuracy", "multi": "map", "regression": "r2", "frames": "accuracy"}
LORA_FACTOR = 2  # on what adapters add


def loss_of(
    task: str, logits: Tensor, labels: Tensor, weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Compute the mean loss of a batch: cross entropy, binary cross entropy, or the mean square.

    Args:
        task: single, multi, regression or frames.
        logits: (B, C), or of frames (B, T, C).
        labels: as `Collator` makes them; where all are IGNORED the loss is 0.
        weights: (C,) of labels; of multi, of their positives; on any device.
        label_smoothing: share of the target that is spread over all labels, of single and frames.
    """
    logits = logits.float()
    weights = None if weights is None else weights.to(logits.device)
    if task == "regression":
        return nn.functional.mse_loss(logits, labels)
    if task == "multi":
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    if not (labels != IGNORED).any():
        return logits.sum() * 0
    return nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), weights, ignore_index=IGNORED, label_smoothing=label_smoothing
    )


class Scores:
    """The metric of a task, of what `Trainer` collects.

    Args:
        task: single, multi, regression or frames.
        names: of the labels.
    """

    def __init__(self, task: str, names: Sequence[str]) -> None:
        self.task = task
        self.names = np.array(names)
        self.metric = load_metric(METRICS[task])

    def __call__(self, prediction: Any) -> dict[str, float]:
        """Score predictions against references; of frames, those that have a label."""
        answers, truth = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        if self.task in ("single", "frames"):
            valid = truth != IGNORED
            answers, truth = self.names[answers.argmax(-1)[valid]], self.names[truth[valid]]
        scores: dict[str, float] = self.metric.compute(predictions=answers.tolist(), references=truth.tolist())
        return scores

    def check(self, excerpts: Excerpts, targets: Targets) -> None:
        """Score the truth itself: a split that cannot be scored is better known before training.

        Raises:
            ValueError: the metric is not defined on these labels.
        """
        tracks = excerpts.tracks.tracks
        if self.task == "frames":
            excerpted = [(track.source.label, *excerpts.bounds(track)) for track in tracks]
            if not any(
                s.end > start and s.start < start + length for label, start, length in excerpted for s in label
            ):
                raise ValueError("no labelled segment lies in the excerpts of its recordings")
        elif self.task != "single":
            truth = [targets.of_clip(track.source.label).tolist() for track in tracks]
            self.metric.compute(predictions=truth, references=truth)


def new_classifier(folder: str, task: str, names: Sequence[str], pooling: str = "concat") -> MT2PreTrainedModel:
    """Put a new head on the encoder of a published model.

    Raises:
        ValueError, OSError: there is no whole encoder, or it has no such pooling.
    """
    encoder = load_model(MT2Model, folder).float()
    settings = encoder.config.to_dict()
    settings |= {"key_calibration": None, "id2label": dict(enumerate(names))}
    settings |= {"label2id": {name: index for index, name in enumerate(names)}}
    model: MT2PreTrainedModel
    if task == "frames":
        model = MT2ForAudioFrameClassification(type(encoder.config).from_dict(settings))
    else:
        problem_type = PROBLEM_TYPES.get(task, "single_label_classification")
        settings |= {"pooling": pooling, "problem_type": problem_type}
        model = MT2ForAudioClassification(type(encoder.config).from_dict(settings))
    model.mt2.load_state_dict(encoder.state_dict())  # type: ignore[attr-defined]
    return model


@torch.no_grad()
def in_own_units(model: MT2ForAudioClassification, targets: Targets) -> None:
    """Let a head that was trained on numbers in units of their deviation answer in the numbers' own units."""
    deviation, mean = (torch.from_numpy(values).float() for values in (targets.deviation, targets.mean))
    model.classifier.weight.mul_(deviation[:, None])
    model.classifier.bias.mul_(deviation).add_(mean)


def freeze(model: MT2PreTrainedModel, what: str) -> None:
    """Keep weights from being trained: of the "encoder", of "layers:N", the embeddings and N lowest layers, or "none".

    Raises:
        ValueError: it is none of these, or there are fewer layers.
    """
    num_layers = model.config.num_hidden_layers
    kind, _, count = what.partition(":")
    if what == "none":
        return
    if what == "encoder":
        lowest = num_layers + 1
    elif kind == "layers" and count.isdigit() and int(count) <= num_layers:
        lowest = int(count)
    else:
        raise ValueError(f"freeze must be none, encoder or layers:N with N up to {num_layers}, got {what!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = depth_of(name, num_layers) > lowest


def add_adapters(model: MT2PreTrainedModel, rank: int) -> Any:
    """Train low-rank adapters beside the linear layers of the encoder that are not frozen, and the head, alone.

    Args:
        model: is changed in place and keeps its class, so a checkpoint of it holds all weights, and those of adapters.
        rank: of the adapters, above 0.

    Returns:
        peft's `LoraModel` around the model; its `merge_and_unload` adds the adapters to the weights in place.

    Raises:
        ImportError: peft is missing.
        ValueError: all layers are frozen.

    Source: Hu et al. 2021, LoRA (arXiv:2106.09685). That all linear layers have adapters, and not only those of
        queries and values, is ours, and so is the factor.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise ImportError("lora needs the package peft: run `pip install peft`") from error
    layers = [name for name, module in model.named_modules() if name.startswith("mt2.layers.") and _trained(module)]
    if not layers:
        raise ValueError("lora has nothing to train: freeze leaves no layer of the encoder")
    config = LoraConfig(r=rank, lora_alpha=LORA_FACTOR * rank, target_modules=layers)
    adapters = LoraModel(model, config, "default")  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name or not name.startswith("mt2.")
    return adapters


def _trained(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.weight.requires_grad


def depth_of(name: str, num_layers: int) -> int:
    """Return how deep a parameter lies: 0 the embeddings, then the layers from 1, the last norm, and the head."""
    if not name.startswith("mt2."):
        return num_layers + 2
    if name.startswith("mt2.embeddings."):
        return 0
    return int(name.split(".")[2]) + 1 if name.startswith("mt2.layers.") else num_layers + 1


class FineTuner(Trainer):
    """Trains a classifier on `Excerpts`, its layers at learning rates of their own.

    Args:
        loss: logits and labels to the mean loss of a batch.
        encoder_learning_rate: of the last layer of the encoder; `learning_rate` is that of the head.
        layer_decay: factor on it from each layer to the one below.
        args, kwargs: as for `Trainer`.
    """

    def __init__(
        self,
        *args: Any,
        loss: Callable[[Tensor, Tensor], Tensor],
        encoder_learning_rate: float,
        layer_decay: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.loss = loss
        self.encoder_learning_rate = encoder_learning_rate
        self.layer_decay = layer_decay

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        excerpts: Any = self.train_dataset if train_dataset is None else train_dataset
        lengths = [min(track.seconds, excerpts.seconds) for track in excerpts.tracks.tracks]
        return EpochSampler(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 - part of the interface; our losses are means
    ) -> Tensor | tuple[Tensor, Any]:
        """Compute the loss of one batch."""
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        loss = self.loss(outputs["logits"], labels)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW with a rate for every depth; matrices decay, but not class tokens, positions, norms or biases."""
        if self.optimizer is None:
            bare: Any = self.model if model is None else model
            num_layers = bare.config.num_hidden_layers
            groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
            for name, parameter in bare.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault((depth_of(name, num_layers), parameter.ndim == 2), []).append(parameter)
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, bare)
            settings = [
                {
                    "params": parameters,
                    "lr": self.args.learning_rate
                    if depth > num_layers + 1
                    else self.encoder_learning_rate * self.layer_decay ** max(0, num_layers - depth),
                    "weight_decay": self.args.weight_decay if decays else 0.0,
                }
                for (depth, decays), parameters in groups.items()
            ]
            self.optimizer = optimizer_class(settings, **options)
        return self.optimizer

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Put the settings into the checkpoint first: `last_complete_checkpoint` takes none for another run's."""
        output_dir = Path(str(self.args.output_dir))
        if self.args.should_save and (output_dir / SETTINGS_FILE).is_file():
            folder = output_dir / f"checkpoint-{self.state.global_step}"
            folder.mkdir(exist_ok=True)
            shutil.copy(output_dir / SETTINGS_FILE, folder)
        super()._save_checkpoint(model, trial)
