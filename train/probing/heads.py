"""What a linear layer is asked for: targets to train on, a loss, and answers in the form that a metric takes.

Shapes: N clips or frames, C outputs, T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mt2_music.music import KEY_LABELS, TRIAD_LABELS, UNKNOWN_CHORD, key_name, parse_key, triad_of
from mt2_music.train.synth.score import Beat, Segment

IGNORED = -1
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of the probability of a beat


class Head(Protocol):
    """A kind of question.

    `in_time` says whether there is one answer per frame. `learn` sees the labels of the training split before
    anything else, to know the classes.
    """

    in_time: bool

    def learn(self, labels: Sequence[Any]) -> "Head":
        """Return the head for the classes of these labels."""

    @property
    def num_outputs(self) -> int:
        """Outputs of the linear layer."""

    def targets(self, label: Any, times: np.ndarray) -> np.ndarray:
        """Return what to train on: (1, ...) of a clip, (T, ...) of frames at `times` in seconds."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of (N, C) against (N, ...)."""

    def answer(self, logits: np.ndarray, times: np.ndarray) -> Any:
        """Return what the metric takes as the prediction of one clip, from (1 or T, C)."""

    def reference(self, label: Any) -> Any:
        """Return what the metric takes as the truth of one clip."""

    def variants(self) -> Sequence["Head"]:
        """Return heads that answer differently from the same logits; validation chooses one."""


class _NoVariants:
    def variants(self) -> Sequence[Any]:
        """Return the head itself: it answers in one way."""
        return [self]


@dataclass(frozen=True)
class Classes(_NoVariants):
    """One class of many, by name; of keys, always all 24."""

    names: tuple[str, ...] = ()
    in_time = False

    def learn(self, labels: Sequence[str]) -> "Classes":
        """Take the names that occur, unless names were given."""
        return self if self.names else Classes(tuple(sorted(set(labels))))

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def targets(self, label: str, times: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Index of the class, (1,); a class unknown from training is ignored in the loss and wrong in the score."""
        name = self.reference(label)
        return np.array([self.names.index(name) if name in self.names else IGNORED])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy."""
        return torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> str:  # noqa: ARG002
        """Name of the likeliest class."""
        return self.names[int(logits[0].argmax())]

    def reference(self, label: str) -> str:
        """Return the name itself."""
        return label


@dataclass(frozen=True)
class Keys(Classes):
    """The 24 keys, in one spelling."""

    names: tuple[str, ...] = KEY_LABELS

    def reference(self, label: str) -> str:
        """Return the usual spelling of a key."""
        return key_name(*parse_key(label))


@dataclass(frozen=True)
class Tags(_NoVariants):
    """Any number of names for one clip."""

    names: tuple[str, ...] = ()
    in_time = False

    def learn(self, labels: Sequence[Sequence[str]]) -> "Tags":
        """Take the names that occur."""
        return Tags(tuple(sorted({name for label in labels for name in label})))

    @property
    def num_outputs(self) -> int:
        """Number of names."""
        return len(self.names)

    def targets(self, label: Sequence[str], times: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """0 or 1 for every name, (1, C)."""
        return np.array([[float(name in label) for name in self.names]], np.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross entropy."""
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> list[float]:  # noqa: ARG002
        """Scores of all names."""
        return [float(value) for value in logits[0]]

    def reference(self, label: Sequence[str]) -> list[int]:
        """0 or 1 for every name known from training."""
        return [int(name in label) for name in self.names]


@dataclass(frozen=True)
class Numbers(_NoVariants):
    """One or more real numbers, learned in units of their deviation on the training split."""

    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    in_time = False

    def learn(self, labels: Sequence[Sequence[float]]) -> "Numbers":
        """Take mean and standard deviation."""
        values = np.asarray(labels, float)
        return Numbers(tuple(values.mean(0)), tuple(np.maximum(values.std(0), 1e-8)))

    @property
    def num_outputs(self) -> int:
        """How many numbers."""
        return len(self.mean)

    def targets(self, label: Sequence[float], times: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Numbers in units of their deviation, (1, C)."""
        return ((np.asarray([label], float) - self.mean) / self.deviation).astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean square."""
        return torch.nn.functional.mse_loss(logits, targets)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> list[float]:  # noqa: ARG002
        """Numbers in their own unit."""
        return [float(value) for value in logits[0] * self.deviation + self.mean]

    def reference(self, label: Sequence[float]) -> list[float]:
        """Return the numbers themselves."""
        return [float(value) for value in label]


@dataclass(frozen=True)
class Tempo(_NoVariants):
    """Beats per minute, as classes of equal ratio: 3 % wide, so that the right class is right by Acc1's 4 %."""

    lowest: float = 40.0
    highest: float = 240.0
    ratio: float = 1.03
    in_time = False

    def learn(self, labels: Sequence[float]) -> "Tempo":  # noqa: ARG002
        """Keep the classes, which are fixed."""
        return self

    @property
    def num_outputs(self) -> int:
        """Number of tempo classes."""
        return self._class_index(self.highest) + 1

    def _class_index(self, tempo: float) -> int:
        return round(float(np.log(np.clip(tempo, self.lowest, self.highest) / self.lowest) / np.log(self.ratio)))

    def targets(self, label: float, times: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Index of the class, (1,)."""
        return np.array([self._class_index(label)])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy."""
        return torch.nn.functional.cross_entropy(logits, targets)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> float:  # noqa: ARG002
        """Centre of the likeliest class, in beats per minute."""
        return self.lowest * self.ratio ** int(logits[0].argmax())

    def reference(self, label: float) -> float:
        """Return the tempo itself."""
        return float(label)


@dataclass(frozen=True)
class Chords(_NoVariants):
    """A major chord, a minor chord or none, in every frame: 25 classes.

    Chords that hold neither triad are left out of the training, as they are of the majmin score.
    """

    in_time = True
    num_outputs = len(TRIAD_LABELS)

    def learn(self, labels: Sequence[Any]) -> "Chords":  # noqa: ARG002
        """Keep the classes, which are fixed."""
        return self

    def targets(self, label: Sequence[Segment], times: np.ndarray) -> np.ndarray:
        """Class at every time, (T,): 0 to 11 major, 12 to 23 minor, 24 none, -1 left out."""
        classes = np.full(len(times), IGNORED)
        for segment in label:
            classes[(times >= segment.start) & (times < segment.end)] = self.class_of(segment.label)
        return classes

    @staticmethod
    def class_of(chord: str) -> int:
        """Class of a chord in Harte's syntax."""
        triad = triad_of(chord)
        return IGNORED if triad is None else TRIAD_LABELS.index(triad)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy."""
        return torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> dict[str, list]:
        """Runs of frames with one class; a frame lasts from halfway to its neighbours."""
        classes = logits.argmax(1)
        changes = np.flatnonzero(np.diff(classes)) + 1
        starts = np.concatenate([[0], changes])
        middles = (times[changes - 1] + times[changes]) / 2 if len(changes) else np.array([])
        step = times[1] - times[0] if len(times) > 1 else 1.0
        bounds = [0.0, *map(float, middles), float(times[-1] + step / 2)]
        return {"start": bounds[:-1], "end": bounds[1:], "label": [TRIAD_LABELS[place] for place in classes[starts]]}

    def reference(self, label: Sequence[Segment]) -> dict[str, list]:
        """Starts, ends and labels; a stretch without label is "X", which no score counts."""
        filled: list[Segment] = []
        for segment in label:
            end = filled[-1].end if filled else segment.start
            if segment.start - end > 1e-3:
                filled.append(Segment(end, segment.start, UNKNOWN_CHORD))
                end = segment.start
            filled.append(Segment(end, segment.end, segment.label))
        return {name: [getattr(segment, name) for segment in filled] for name in ("start", "end", "label")}


@dataclass(frozen=True)
class Beats:
    """Whether a frame holds a beat, or a downbeat.

    Neighbours of a beat's frame count as half a beat in training. Times are the peaks of the probability that exceed a
    threshold, chosen on validation, and all others within `min_gap_seconds`; they lie between frames by a parabola
    through the peak.

    Args:
        downbeats: ask for the first beats of bars only.
        threshold: lowest probability of a peak.
        min_gap_seconds: least distance of two peaks.
    """

    downbeats: bool = False
    threshold: float = 0.2
    min_gap_seconds: float = 0.2
    in_time = True
    num_outputs = 1

    def learn(self, labels: Sequence[Any]) -> "Beats":  # noqa: ARG002
        """Nothing to learn."""
        return self

    def _times(self, label: Sequence[Beat]) -> np.ndarray:
        return np.array([beat.time for beat in label if beat.position == 1 or not self.downbeats], float)

    def targets(self, label: Sequence[Beat], times: np.ndarray) -> np.ndarray:
        """1 in the frame of a beat, 0.5 beside it, 0 elsewhere, (T, 1)."""
        targets = np.zeros((len(times), 1), np.float32)
        step = times[1] - times[0] if len(times) > 1 else 1.0
        for time in self._times(label):
            frame = round((time - times[0]) / step)
            for place, value in ((frame - 1, 0.5), (frame + 1, 0.5), (frame, 1.0)):
                if 0 <= place < len(times):
                    targets[place, 0] = max(targets[place, 0], value)
        return targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross entropy."""
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def answer(self, logits: np.ndarray, times: np.ndarray) -> list[float]:
        """Times of the peaks in seconds."""
        probability = 1 / (1 + np.exp(-logits[:, 0]))
        step = times[1] - times[0] if len(times) > 1 else 1.0
        reach = max(1, round(self.min_gap_seconds / step))
        found = []
        for frame in map(int, np.flatnonzero(probability >= self.threshold)):
            left, right = max(0, frame - reach), min(len(probability), frame + reach + 1)
            # The first of equal frames is the peak.
            if left + int(probability[left:right].argmax()) != frame:
                continue
            offset = 0.0
            if 0 < frame < len(probability) - 1:
                before, here, after = probability[frame - 1 : frame + 2]
                curvature = before - 2 * here + after
                offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            found.append(float(times[frame] + offset * step))
        return found

    def reference(self, label: Sequence[Beat]) -> list[float]:
        """Times of the beats in seconds."""
        return [float(time) for time in self._times(label)]

    def variants(self) -> Sequence["Beats"]:
        """Return one head for each threshold."""
        return [replace(self, threshold=threshold) for threshold in THRESHOLDS]
