"""Whether a song has a key, and why it has none: what its pitches are, whatever the model says.

`benchmarks/songs/not_music.py` chose the weights below on songs, scales and cadences on one side, and noise, drums,
speech, single pitches and scales without a centre on the other, and reports both kinds of error on others.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mt2_music.configuration_mt2 import MT2Config
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import frame_levels, sounding_frames
from mt2_music.music import correlate_with_keys

from .rows import Rows

PEAK = 1.5  # how much larger than both neighbours a constant-Q bin is that holds a pitch; a tone fills one to three
# Log odds that a song has a key: these weights times the values of `Tonality`, in their order, plus the bias.
WEIGHTS, BIAS = (6.204, 1.745, 17.01, 40.33), -65.89
MIN_PEAKS, MIN_PITCH_CLASSES = 0.3, 5.0  # below, this is the reason why there is no key


class Tonality(NamedTuple):
    """What tells a song with a key from other sounds.

    Args:
        peaks: share of the power that lies in peaks of the spectrum, as of pitches, 0 to 1.
        pitch_classes: effective number of pitch classes, by power: exp of the entropy of the chroma, 1 to 12.
        correlation: of the chroma with the ratings of the key that suits it best, -1 to 1.
        concentration: probability of the three likeliest key signatures, 0.25 to 1: a key, and two that are near.
    """

    peaks: float
    pitch_classes: float
    correlation: float
    concentration: float

    @property
    def log_odds(self) -> float:
        """Log odds that the song has a key."""
        return float(np.dot(WEIGHTS, self)) + BIAS

    @property
    def reason(self) -> str | None:
        """Why the song has no key; None if it has one."""
        if self.log_odds >= 0:
            return None
        if self.peaks < MIN_PEAKS:
            return "no pitch"
        return "one pitch only" if self.pitch_classes < MIN_PITCH_CLASSES else "no tonal centre"


class PitchStatistics:
    """Mean chromas and peaks of a song that comes window by window, over the frames that hold sound.

    Args:
        extractor: that made the frames.
        config: of the model.
    """

    def __init__(self, extractor: MT2FeatureExtractor, config: MT2Config) -> None:
        self.extractor, self.config = extractor, config
        self._windows = Rows()

    def add(self, windows: Tensor, mask: Tensor) -> None:
        """Take windows that follow, (W, T, input_size), and where they are not padded, (W, T)."""
        sounding = sounding_frames(frame_levels(windows, self.config), self.config, mask)
        magnitude = cqt_magnitudes(windows[..., : self.extractor.num_cqt_bins].float(), self.extractor)
        power = magnitude.square()
        inner = magnitude[..., 1:-1]
        is_peak = (inner > PEAK * magnitude[..., :-2]) & (inner > PEAK * magnitude[..., 2:])
        total = power.sum(-1, keepdim=True)
        in_peaks = (power[..., 1:-1] * is_peak).sum(-1, keepdim=True)
        frames = torch.cat(
            [sum_octaves(magnitude, self.extractor), sum_octaves(power, self.extractor), in_peaks, total], -1
        )
        # Every frame counts alike, however loud: pitches of quiet bars belong to the key as well.
        frames[..., :12] /= frames[..., :12].sum(-1, keepdim=True).clamp(min=1e-9)
        frames[..., 12:] /= frames[..., -1:].clamp(min=1e-12)
        weights = sounding.float() / sounding.sum(1, keepdim=True).clamp(min=1)
        self._windows.add((frames * weights[..., None]).sum(1))

    def tonality(self, window_weights: Tensor, profile: np.ndarray, stretch: slice = slice(None)) -> Tonality:
        """Sum up the song, or a stretch of it.

        Args:
            window_weights: of all windows, (windows,).
            profile: probabilities of the key signatures, (12,).
            stretch: which windows.
        """
        weights = window_weights[stretch] / window_weights[stretch].sum()
        mean = (self._windows.values[stretch] * weights[:, None]).sum(0).numpy().astype(np.float64)
        by_power = mean[12:24] / max(mean[12:24].sum(), 1e-9)
        entropy = -float((by_power * np.log(by_power + 1e-9)).sum())
        correlation = max(correlate_with_keys(mean[:12]).values())
        return Tonality(float(mean[24]), float(np.exp(entropy)), correlation, float(np.sort(profile)[-3:].sum()))


def cqt_magnitudes(cqt: Tensor, extractor: MT2FeatureExtractor) -> Tensor:
    """Return the magnitudes that the front end made constant-Q values of, any shape."""
    if extractor.cqt_scale == "power":
        return cqt.clamp(min=0) ** (1 / extractor.cqt_power)
    return 10 ** (4 * (cqt - 1))  # 1 + dB / 80


def sum_octaves(magnitude: Tensor, extractor: MT2FeatureExtractor) -> Tensor:
    """Sum constant-Q bins over octaves, (..., K) to (..., 12), C first."""
    first = round(12 * np.log2(extractor.cqt_fmin_hz / 440)) + 9  # pitch class of the lowest bin
    bins = torch.arange(magnitude.shape[-1], device=magnitude.device)
    classes = (bins * 12 // extractor.bins_per_octave + first) % 12
    return magnitude.new_zeros(*magnitude.shape[:-1], 12).index_add(-1, classes, magnitude)
