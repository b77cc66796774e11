"""Excerpts of labelled recordings, their order in an epoch, and their batches.

Shapes: B clips, T frames, C labels.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music import MT2FeatureExtractor
from mt2_music.train.synth.score import Segment

from .tracks import Track, Tracks
from .windows import MAX_SUBSTITUTES

logger = logging.getLogger(__name__)

IGNORED = -100  # label of a frame that has none, for torch and transformers alike
POOL = 16  # batches whose recordings are sorted by length together


class Targets:
    """Labels to what the loss takes.

    Args:
        task: single, multi, regression or frames.
        names: of the labels, or of the numbers.
        labels: of the training split; numbers are learned in units of their deviation there.
    """

    def __init__(self, task: str, names: Sequence[str], labels: Sequence[Any]) -> None:
        self.task = task
        self.index = {name: place for place, name in enumerate(names)}
        self.mean, self.deviation = np.zeros(len(names)), np.ones(len(names))
        if task == "regression":
            values = np.array(labels, float)
            self.mean, self.deviation = values.mean(0), np.maximum(values.std(0), 1e-8)

    def of_clip(self, label: Any) -> Tensor:
        """Return the index of a name, (); 0 or 1 of every name, (C,); or numbers in units of their deviation, (C,)."""
        if self.task == "single":
            return torch.tensor(self.index[label])
        if self.task == "multi":
            return torch.tensor([float(name in label) for name in self.index])
        return torch.from_numpy((np.array(label) - self.mean) / self.deviation).float()

    def of_frames(self, segments: Sequence[Segment], times: Tensor) -> Tensor:
        """Return the index of the name at each of the times in seconds, (T,); IGNORED where there is no segment."""
        found = torch.full(times.shape, IGNORED)
        for segment in segments:
            found[(times >= segment.start) & (times < segment.end)] = self.index[segment.label]
        return found

    def weights(self, labels: Sequence[Any]) -> Tensor:
        """Weigh labels by how rare they are among those of a training split.

        Returns:
            (C,) of single: recordings / (labels * recordings of the label); of frames the same with seconds in the
            place of recordings; of multi: recordings without the label / those with it. 1 for what does not occur.
        """
        counts = np.zeros(len(self.index))
        for label in labels:
            if self.task == "frames":
                for segment in label:
                    counts[self.index[segment.label]] += segment.end - segment.start
            else:
                for name in [label] if self.task == "single" else label:
                    counts[self.index[name]] += 1
        there = np.maximum(counts, 1e-12)
        weights = (len(labels) - counts) / there if self.task == "multi" else counts.sum() / (counts > 0).sum() / there
        return torch.from_numpy(np.where(counts > 0, weights, 1.0)).float()


class Excerpts(torch.utils.data.Dataset):
    """A part of each recording: its middle, or with a seed another one in every epoch.

    Item i of epoch e is number e * len + i, and follows from the seed and that number alone.

    Args:
        tracks: the recordings; their sources are of type `Example`.
        seconds: longest excerpt.
        sampling_rate: of the excerpts, in hertz.
        seed: of the draws; None takes the middle, as it sounds.
        gain_db: levels are changed by up to so much.
        transpose_semitones: excerpts are played faster or slower, and so sound higher or lower by up to so much.
    """

    def __init__(
        self,
        tracks: Tracks,
        seconds: float,
        sampling_rate: int,
        seed: int | None = None,
        gain_db: float = 0.0,
        transpose_semitones: float = 0.0,
    ) -> None:
        self.tracks = tracks
        self.seconds = seconds
        self.sampling_rate = sampling_rate
        self.seed = seed
        self.gain_db = gain_db
        self.transpose_semitones = transpose_semitones

    def __len__(self) -> int:
        return len(self.tracks)

    def bounds(self, track: Track) -> tuple[float, float]:
        """Return where the excerpt from the middle of a recording starts, and how long it is, in seconds."""
        length = min(self.seconds, track.seconds)
        return (track.seconds - length) / 2, length

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return an excerpt; in training, of the next recording where one does not decode.

        Returns:
            `waveform`, float32 (samples,); `start`, where it begins in the recording, in seconds; `speed`, seconds of
            the recording in a second of the excerpt; and the `label`.

        Raises:
            ValueError, OSError: the middle of a recording does not decode.
            RuntimeError: in training, so many in a row do not that something else must be wrong.
        """
        if self.seed is None:
            return self._excerpt(number)
        for substitute in range(number, number + MAX_SUBSTITUTES):
            try:
                return self._excerpt(substitute)
            except (ValueError, OSError) as error:
                logger.warning("another recording takes the place of one: %s", error)
        raise RuntimeError(f"{MAX_SUBSTITUTES} recordings in a row cannot be decoded")

    def _excerpt(self, number: int) -> dict[str, Any]:
        track = self.tracks[number % len(self)]
        start, length = self.bounds(track)
        gain = speed = 1.0
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, number])
            start = self._draw_start(track.source.label, track.seconds - length, length, rng)
            gain = 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
            speed = 2 ** (rng.uniform(-self.transpose_semitones, self.transpose_semitones) / 12)
        rate = round(self.sampling_rate / speed)
        num_samples = max(1, int(length * rate))
        waveform = gain * self.tracks.read(number % len(self), start, num_samples, rate)
        return {
            "waveform": waveform.astype(np.float32),
            "start": start,
            "speed": self.sampling_rate / rate,
            "label": track.source.label,
        }

    @staticmethod
    def _draw_start(label: Any, room: float, length: float, rng: np.random.Generator) -> float:
        """Draw a start; of a recording with segments, one whose excerpt overlaps a segment."""
        start = rng.uniform(0, room)
        if isinstance(label, tuple) and label and isinstance(label[0], Segment):
            segment = label[rng.integers(len(label))]
            start = rng.uniform(segment.start, segment.end) - rng.uniform(0, length)
        return float(np.clip(start, 0, room))


class EpochSampler(torch.utils.data.Sampler):
    """Numbers of all items of an epoch in an order of its own, those of like length near each other.

    Recordings are shuffled, then sorted by length within POOL batches, and the batches are shuffled: padding costs
    time. Which epoch it is, accelerate says through `set_epoch`.

    Args:
        lengths: of the items, in any unit.
        batch_size: items in a step of all processes together.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[float], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self))
        pool = POOL * self.batch_size
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        order = np.concatenate([some[np.argsort(self.lengths[some], kind="stable")] for some in pools])
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        # The last batch may be smaller, and then must stay the last: batches are cut from this order.
        shuffled = [batches[index] for index in rng.permutation(len(batches) - 1)] + batches[-1:]
        yield from (np.concatenate(shuffled) + self.epoch * len(self)).tolist()


class Collator:
    """Excerpts to a batch: frames and targets.

    Args:
        extractor: the front end.
        targets: what labels become.
    """

    def __init__(self, extractor: MT2FeatureExtractor, targets: Targets) -> None:
        self.extractor = extractor
        self.targets = targets

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return `input_features` (B, T, values), `attention_mask` (B, T), and `labels` (B,), (B, C) or (B, T)."""
        waveforms = [item["waveform"] for item in items]
        batch = dict(self.extractor(waveforms, sampling_rate=self.extractor.sampling_rate, return_tensors="pt"))
        if self.targets.task == "frames":
            times = torch.arange(batch["input_features"].shape[1]) / self.extractor.frame_rate
            labels = [self.targets.of_frames(item["label"], item["start"] + item["speed"] * times) for item in items]
            batch["labels"] = torch.stack(labels).masked_fill(batch["attention_mask"] == 0, IGNORED)
        else:
            batch["labels"] = torch.stack([self.targets.of_clip(item["label"]) for item in items])
        return batch
