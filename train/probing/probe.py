"""One linear layer on frozen embeddings: fitted on training clips, chosen on validation, scored once on test.

Shapes: N examples, D values, C outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cache import one_thread
from .clips import Clip, Splits
from .encoders import Embedding
from .heads import Head

# Of tasks on clips, of tasks in time: frames are many, and hardly need to be held back.
WEIGHT_DECAYS = {False: (0.0, 0.3, 1.0, 10.0), True: (0.0, 0.3)}
LEARNING_RATE = 3e-3
BATCH_SIZES = {False: 128, True: 1024}
MAX_STEPS = {False: 4000, True: 2000}
MAX_HELD_OUT = 50_000  # validation frames that the validation loss is computed on; the metric uses all
VALIDATION_STEPS = {*range(5, 100, 5), *range(100, max(MAX_STEPS.values()) + 1, 100)}  # steps with a validation loss
PATIENCE = 5  # validations without a lower loss before the fit ends, counted after 100 steps
MAX_VALUES = 80_000_000  # of the training frames kept in memory, a third of a gigabyte; more are drawn at random

Metric = Callable[[list[Any], list[Any]], dict[str, float]]
Features = Callable[[Clip], Embedding]


@dataclass(frozen=True)
class ProbeResult:
    """Scores of one seed.

    Args:
        test: every metric on the test split.
        validation: the main metric on the validation split.
        weight_decay: the one chosen by it.
    """

    test: dict[str, float]
    validation: float
    weight_decay: float


@dataclass(frozen=True)
class FittedProbe:
    """A layer that was fitted on training clips and chosen on validation clips.

    Args:
        readout: what it reads.
        layer: reads values after `mean` was taken off and `deviation` divided out; infinite where a value is constant.
        mean, deviation: (D,), of the training clips.
        head: what it answers, in the way that validation chose.
        validation: the main metric on the validation split.
        weight_decay: the one chosen by it.
    """

    readout: str
    layer: torch.nn.Linear
    mean: Tensor
    deviation: Tensor
    head: Head
    validation: float
    weight_decay: float

    def answers(self, features: Features, clips: Sequence[Clip]) -> list[Any]:
        """Return what the metric takes as predictions of clips."""
        logits = _logits(
            features,
            clips,
            readout=self.readout,
            head=self.head,
            layer=self.layer,
            mean=self.mean,
            deviation=self.deviation,
        )
        return [self.head.answer(*of_clip) for of_clip in logits]


def probe(
    features: Features, splits: Splits, readout: str, head: Head, metric: Metric, main_metric: str, seed: int
) -> ProbeResult:
    """Fit, choose and score one linear layer: `fit_probe`, and then once on the test split.

    Raises:
        ValueError: an encoder without that readout, or a split without clips.
    """
    if not splits["test"]:
        raise ValueError("the test split is empty")
    fitted = fit_probe(features, splits, readout, head, metric, main_metric, seed)
    truth = [fitted.head.reference(clip.label) for clip in splits["test"]]
    test = metric(fitted.answers(features, splits["test"]), truth)
    return ProbeResult(test, fitted.validation, fitted.weight_decay)


def fit_probe(
    features: Features, splits: Splits, readout: str, head: Head, metric: Metric, main_metric: str, seed: int
) -> FittedProbe:
    """Fit one linear layer on training clips and choose its weight decay on validation clips.

    The layer is trained with Adam until the validation loss stops falling, once with every weight decay; the one with
    the best main metric on validation is kept. Where a head can answer in several ways, the same metric chooses one.

    Args:
        features: embedding of a clip.
        splits: clips of "train" and "validation".
        readout: which vector, or of a task in time which frames, the layer reads.
        head: what it is asked for.
        metric: predictions and references of clips to scores.
        main_metric: the score that decides; higher is better.
        seed: of the order of batches, and of frames if there are too many.

    Raises:
        ValueError: an encoder without that readout, or a split without clips.
    """
    for split in ("train", "validation"):
        if not splits[split]:
            raise ValueError(f"the {split} split is empty")
    rng = np.random.default_rng(seed)
    head = head.learn([clip.label for clip in splits["train"]])
    inputs, targets = _examples(features, splits["train"], readout, head, rng)
    mean, deviation = inputs.mean(0), inputs.std(0, unbiased=False)
    deviation = torch.where(deviation > 1e-6 * deviation.max().clamp(min=1e-30), deviation, torch.inf)
    inputs.sub_(mean).div_(deviation)
    held_out, held_out_targets = _examples(features, splits["validation"], readout, head, rng)
    held_out.sub_(mean).div_(deviation)
    if len(held_out) > MAX_HELD_OUT:
        kept = torch.from_numpy(rng.permutation(len(held_out))[:MAX_HELD_OUT])
        held_out, held_out_targets = held_out[kept], held_out_targets[kept]
    best: tuple[float, float, torch.nn.Linear, Head] | None = None
    read = partial(_logits, features, readout=readout, head=head, mean=mean, deviation=deviation)
    for weight_decay in WEIGHT_DECAYS[head.in_time]:
        layer = _fit(inputs, targets, held_out, held_out_targets, head, weight_decay, seed)
        logits = read(splits["validation"], layer=layer)
        score, variant = _choose_variant(head, logits, splits["validation"], metric, main_metric)
        if best is None or score > best[0]:
            best = score, weight_decay, layer, variant
    assert best is not None
    validation, weight_decay, layer, head = best
    return FittedProbe(readout, layer, mean, deviation, head, validation, weight_decay)


def _choose_variant(
    head: Head, logits: list[tuple[np.ndarray, np.ndarray]], clips: Sequence[Clip], metric: Metric, main_metric: str
) -> tuple[float, Head]:
    """Return the best main metric on validation, and the head that reached it."""
    truth = [head.reference(clip.label) for clip in clips]
    scores = [
        (metric([variant.answer(*of_clip) for of_clip in logits], truth)[main_metric], variant)
        for variant in head.variants()
    ]
    return max(scores, key=lambda scored: scored[0])


def _select(embedding: Embedding, readout: str, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Return what the layer reads of a clip, (1 or T, D), and its times in seconds."""
    available = embedding.frames if head.in_time else embedding.vectors
    try:
        values = available[readout]
    except KeyError:
        raise ValueError(f"no readout {readout!r}; there are {sorted(available)}") from None
    if not head.in_time:
        return values[None], np.zeros(1)
    return values, np.arange(len(values)) / embedding.frame_rate


def _examples(
    features: Features, clips: Sequence[Clip], readout: str, head: Head, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs (N, D) and targets (N, ...) of clips; of too many frames, an equal share of every clip."""
    inputs, targets = [], []
    per_clip: int | None = None
    for clip in clips:
        values, times = _select(features(clip), readout, head)
        wanted = head.targets(clip.label, times)
        per_clip = per_clip or max(1, MAX_VALUES // (len(clips) * values.shape[1]))
        if len(values) > per_clip:
            kept = np.sort(rng.permutation(len(values))[:per_clip])
            values, wanted = values[kept], wanted[kept]
        inputs.append(values.astype(np.float32))
        targets.append(wanted)
    return torch.from_numpy(np.concatenate(inputs)), torch.from_numpy(np.concatenate(targets))


@one_thread()
def _fit(
    inputs: Tensor,
    targets: Tensor,
    held_out: Tensor,
    held_out_targets: Tensor,
    head: Head,
    weight_decay: float,
    seed: int,
) -> torch.nn.Linear:
    """Return the layer as it was when its validation loss was lowest."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(inputs.shape[1], head.num_outputs)
    torch.nn.init.zeros_(layer.weight)  # what is not learned is not answered, not even by the shape of noise
    torch.nn.init.zeros_(layer.bias)
    # The bias is what a layer that knows nothing must still learn.
    groups = [{"params": [layer.weight], "weight_decay": weight_decay}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, fused=True)
    batch_size = min(BATCH_SIZES[head.in_time], len(inputs))
    best_loss, best_state, stale = float("inf"), {name: v.clone() for name, v in layer.state_dict().items()}, 0
    order = torch.empty(0, dtype=torch.long)
    for step in range(1, MAX_STEPS[head.in_time] + 1):
        if len(order) < batch_size:
            order = torch.randperm(len(inputs), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        loss = head.loss(layer(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step not in VALIDATION_STEPS:
            continue
        with torch.no_grad():
            held_out_loss = float(head.loss(layer(held_out), held_out_targets))
        stale += step > 100
        if held_out_loss < best_loss:
            best_loss, best_state, stale = held_out_loss, {n: v.clone() for n, v in layer.state_dict().items()}, 0
        if stale >= PATIENCE:
            break
    layer.load_state_dict(best_state)
    return layer


@torch.no_grad()
def _logits(
    features: Features,
    clips: Sequence[Clip],
    *,
    readout: str,
    head: Head,
    layer: torch.nn.Linear,
    mean: Tensor,
    deviation: Tensor,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return logits, (1 or T, C), and times of every clip."""
    results = []
    for clip in clips:
        values, times = _select(features(clip), readout, head)
        inputs = (torch.from_numpy(values.astype(np.float32)) - mean) / deviation
        results.append((layer(inputs).numpy(), times))
    return results
