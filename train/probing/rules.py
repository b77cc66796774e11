"""Answers without a probe: key templates on a chroma, the calibrated profile of MT2, and beats at one period."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mt2_music.feature_extraction.decoding import measure
from mt2_music.modeling_mt2 import MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.music import key_name, key_of_chroma
from mt2_music.song.keys import classify_key, key_calibration, mean_profile, rotate_to_c

from .cache import EmbeddingCache, load_clip
from .clips import Clip, Splits
from .encoders import Embedding, MT2Encoder, SpectrogramStatistics
from .heads import Beats, Head, Keys

TAPPING_PERIODS = np.arange(0.2, 3.0, 0.02)  # seconds

Score = Callable[[list[Any], list[Any]], float]


class Rule(Protocol):
    """A way to answer that needs no probe; `readout` is what the table calls it."""

    name: str
    identity: str
    readout: str

    def suits(self, head: Head) -> bool:
        """Say whether it answers this kind of question."""

    def unusable(self, clips: Sequence[Clip], cache_dir: Path) -> dict[Clip, str]:
        """Return the clips that cannot be answered for, with the reason, where no encoder has tried them before."""

    def answers(self, splits: Splits, head: Head, cache_dir: Path, score: Score) -> list[Any]:
        """Answer for all test clips; `score` may be asked about answers for validation clips."""


class OfEncoder:
    """A rule for clips that an encoder has embedded."""

    def unusable(self, clips: Sequence[Clip], cache_dir: Path) -> dict[Clip, str]:  # noqa: ARG002
        """Return nothing: clips that cannot be embedded are left out already."""
        return {}


class KrumhanslTemplates(SpectrogramStatistics):
    """The key whose ratings correlate best with the mean chroma of the clip.

    Source: Krumhansl 1990, Cognitive foundations of musical pitch.
    """

    readout = "no training"

    def __init__(self) -> None:
        super().__init__("chroma")

    def suits(self, head: Head) -> bool:
        """Name keys."""
        return isinstance(head, Keys)

    def unusable(self, clips: Sequence[Clip], cache_dir: Path) -> dict[Clip, str]:
        """Return the clips whose chroma cannot be computed."""
        return EmbeddingCache(cache_dir, self, with_frames=False).fill(clips)

    def answers(self, splits: Splits, head: Head, cache_dir: Path, score: Score) -> list[str]:  # noqa: ARG002
        """Name the keys of the test clips."""
        cache = EmbeddingCache(cache_dir, self, with_frames=False)
        return [key_of_chroma(cache(clip).vectors["statistics"][:12]) for clip in splits["test"]]


class ZeroShotKey(OfEncoder):
    """The key signature that a calibrated MT2 names.

    A profile knows signatures and no modes, so the answer is always the major key: right by "signature", and by the
    MIREX weights the relative minor counts 0.3.

    Args:
        encoder: of a calibrated pre-training model.
        transpositions: also pitch the music up by so many semitones up and down, turn the profiles back, and average.
    """

    readout = "zero-shot"

    def __init__(self, encoder: MT2Encoder, transpositions: int = 0) -> None:
        if not isinstance(encoder.model, MT2ForPreTraining):
            raise ValueError(f"{encoder.name} has no key head")
        key_calibration(encoder.model)
        self.encoder = encoder
        self.transpositions = transpositions
        self.name = f"{encoder.name}-key"
        self.sampling_rate = encoder.sampling_rate
        settings = f"{encoder.model.config.key_calibration}-{transpositions}"
        self.identity = self.fingerprint = f"{encoder.identity}-{settings}"

    def suits(self, head: Head) -> bool:
        """Name keys."""
        return isinstance(head, Keys)

    def answers(self, splits: Splits, head: Head, cache_dir: Path, score: Score) -> list[str]:  # noqa: ARG002
        """Name the keys of the test clips: the major keys of their signatures."""
        cache = EmbeddingCache(cache_dir, self, with_frames=False)
        cache.fill(splits["test"])
        profiles = [cache(clip).vectors["profile"] for clip in splits["test"]]
        return [key_name(int(profile.argmax()), "major") for profile in profiles]

    @torch.no_grad()
    def embed(self, waveform: np.ndarray) -> Embedding:
        """Return the profile of one clip, C first."""
        model = self.encoder.model
        assert isinstance(model, MT2ForPreTraining)
        features = self.encoder.extractor.extract(torch.from_numpy(waveform)[None])[0]
        profile = mean_profile(model, features, self.transpositions)
        return Embedding({"profile": rotate_to_c(profile, key_calibration(model)).numpy()})


class NamedKey(OfEncoder):
    """The key named by a model that was trained on the 24 keys, as `mt2 key --always` prints it.

    Args:
        encoder: of such a model.
        transpositions: as for `ZeroShotKey`.
    """

    readout = "its own keys"

    def __init__(self, encoder: MT2Encoder, transpositions: int = 0) -> None:
        if not isinstance(encoder.model, MT2ForAudioClassification):
            raise ValueError(f"{encoder.name} was not trained on keys")
        self.model, self.extractor, self.transpositions = encoder.model, encoder.extractor, transpositions
        self.name = f"{encoder.name}-named"
        head = self.model.classifier.weight.detach().cpu().numpy().tobytes()
        self.identity = f"{encoder.identity}-{hashlib.sha256(head).hexdigest()[:16]}-{transpositions}"

    def suits(self, head: Head) -> bool:
        """Name keys."""
        return isinstance(head, Keys)

    def answers(self, splits: Splits, head: Head, cache_dir: Path, score: Score) -> list[str]:  # noqa: ARG002
        """Name the keys of the test clips."""
        rate = self.extractor.sampling_rate
        name_key = partial(classify_key, self.model, self.extractor, transpositions=self.transpositions, always=True)
        return [str(name_key(load_clip(clip, rate), rate).key) for clip in splits["test"]]


class Tapping:
    """Beats at one period for all clips, the one that does best on validation: the floor of beat tracking."""

    name = identity = "tapping"
    readout = "no training"

    def suits(self, head: Head) -> bool:
        """Tap beats and downbeats."""
        return isinstance(head, Beats)

    def unusable(self, clips: Sequence[Clip], cache_dir: Path) -> dict[Clip, str]:  # noqa: ARG002
        """Return the clips that do not open."""
        failed = {}
        for clip in clips:
            try:
                _duration(clip)
            except (ValueError, OSError) as error:
                failed[clip] = str(error)
        return failed

    def answers(self, splits: Splits, head: Head, cache_dir: Path, score: Score) -> list[list[float]]:  # noqa: ARG002
        """Tap through the test clips."""
        truth = [head.reference(clip.label) for clip in splits["validation"]]
        lengths = [_duration(clip) for clip in splits["validation"]]
        period = max(
            TAPPING_PERIODS, key=lambda tried: score([_steady_beats(tried, length) for length in lengths], truth)
        )
        return [_steady_beats(period, _duration(clip)) for clip in splits["test"]]


def _steady_beats(period: float, seconds: float) -> list[float]:
    """Times of beats at one period, the first after half a period."""
    return [float(time) for time in np.arange(period / 2, seconds, period)]


def _duration(clip: Clip) -> float:
    num_samples, rate, _ = measure(clip.path, str(clip.path))
    whole = num_samples / rate - clip.start
    return whole if clip.seconds is None else min(whole, clip.seconds)


RULES: dict[str, Callable[[], Rule]] = {"krumhansl": KrumhanslTemplates, "tapping": Tapping}
