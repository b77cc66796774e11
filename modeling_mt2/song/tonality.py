"""Whether a song has a key, and why it has none: what its pitches are, and how sure a model is.

`benchmarks/songs/not_music.py` chose the weights below on songs, scales and cadences on one side, and noise, drums,
speech, single pitches, bells and scales without a centre on the other, and reports both kinds of error on others.
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
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
# Log odds that a song has a key: these weights times `Tonality.evidence`, in its order, plus the bias.
WEIGHTS, BIAS = (16.84, 3.169, 14.05, 21.78, 27.87), -77.52
ENOUGH_PEAKS, ENOUGH_PITCH_CLASSES = 0.4, 6.0  # more is no more evidence of a key
ENOUGH_VARIANCE = 0.01  # of the shares of all pitch classes; that of steady tones is a tenth of it
MIN_PEAKS, MIN_PITCH_CLASSES = 0.3, 2.5  # below, this is the reason why there is no key


class Tonality(NamedTuple):
    """What tells a song with a key from other sounds; its chroma is that of the peaks of the spectrum alone.

    Args:
        peaks: share of the power that lies in peaks of the spectrum, as of pitches, 0 to 1.
        pitch_classes: effective number of pitch classes: exp of the entropy of the chroma, 1 to 12.
        changing: effective number of those that come and go: exp of the entropy of their variances over time, 1 to 12.
            A drone counts for little, and so does not hide the melody over it; steady tones alone count for nothing.
        correlation: of the chroma with the ratings of the key that suits it best, -1 to 1.
        in_scale: share of the chroma in the seven pitch classes of the key signature that suits it best: 7/12 to 1,
            and 0 without a peak.
        concentration: probability that a model gives the three likeliest key signatures, 0.25 to 1: a key, and two
            that are near.
    """

    peaks: float
    pitch_classes: float
    changing: float
    correlation: float
    in_scale: float
    concentration: float

    @property
    def evidence(self) -> tuple[float, ...]:
        """What speaks for a key, (5,): where pitches are clearly those of a scale, a model need not be sure.

        A model may well be unsure of a key: of melodies that are higher than most music, for one.
        """
        peaks, changing = min(self.peaks, ENOUGH_PEAKS), min(self.changing, ENOUGH_PITCH_CLASSES)
        return peaks, changing, self.correlation, self.in_scale, max(self.in_scale, self.concentration)

    @property
    def log_odds(self) -> float:
        """Log odds that the song has a key."""
        return float(np.dot(WEIGHTS, self.evidence)) + BIAS

    @property
    def reason(self) -> str | None:
        """Why the song has no key; None if it has one."""
        if self.log_odds >= 0:
            return None
        if self.peaks < MIN_PEAKS:
            return "no pitch"
        return "one pitch only" if self.pitch_classes < MIN_PITCH_CLASSES else "no tonal centre"


class PitchStatistics:
    """Chromas of the peaks in the spectrum of a song that comes window by window, over the frames that hold sound.

    Tones fill more than one bin of the constant-Q transform: a chroma of all bins is blurred, that of a scale as much
    as that of twelve pitch classes. Peaks leave out the rest, and noise, and pitches that lie between two bins.

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
        total = power.sum(-1, keepdim=True).clamp(min=1e-12)
        inner = magnitude[..., 1:-1]
        is_peak = (inner > PEAK * magnitude[..., :-2]) & (inner > PEAK * magnitude[..., 2:])
        power[..., 1:-1] *= is_peak
        power[..., [0, -1]] = 0
        # Every frame counts alike, however loud: pitches of quiet bars belong to the key as well.
        chroma = sum_octaves(power, self.extractor) / total
        softened = sum_octaves(power.sqrt(), self.extractor)  # so that a quiet melody over a drone is seen to change
        softened *= chroma.sum(-1, keepdim=True) / softened.sum(-1, keepdim=True).clamp(min=1e-9)
        frames = torch.cat([chroma, softened, softened.square()], -1)
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
        peaks = mean[:12].sum()
        chroma = mean[:12] / max(peaks, 1e-9)
        variances = np.maximum(mean[24:] - mean[12:24] ** 2, 0)
        change = min(1.0, variances.sum() / ENOUGH_VARIANCE)
        return Tonality(
            peaks=float(peaks),
            pitch_classes=_effective_number(chroma),
            changing=float(1 + change * (_effective_number(variances) - 1)),
            correlation=max(correlate_with_keys(chroma).values()),
            in_scale=float(max(np.roll(chroma, -tonic)[list(MAJOR_SCALE)].sum() for tonic in range(12))),
            concentration=float(np.sort(profile)[-3:].sum()),
        )


def _effective_number(values: np.ndarray) -> float:
    """Return exp of the entropy of values that are taken for shares; 1 if all are 0."""
    shares = values / max(values.sum(), 1e-9)
    return float(np.exp(-(shares * np.log(shares + 1e-9)).sum()))


def cqt_magnitudes(cqt: Tensor, extractor: MT2FeatureExtractor) -> Tensor:
    """Return the magnitudes that the front end made constant-Q values of, any shape."""
    if extractor.cqt_scale == "power":
        return cqt.clamp(min=0) ** (1 / extractor.cqt_power)
    # 1 + dB / 80; the published front end takes 10 log10 of the magnitude, ours of its square.
    return 10 ** ((8 if extractor.front_end == "published" else 4) * (cqt - 1))


def sum_octaves(magnitude: Tensor, extractor: MT2FeatureExtractor) -> Tensor:
    """Sum constant-Q bins over octaves, (..., K) to (..., 12), C first."""
    first = round(12 * np.log2(extractor.cqt_fmin_hz / 440)) + 9  # pitch class of the lowest bin
    bins = torch.arange(magnitude.shape[-1], device=magnitude.device)
    classes = (bins * 12 // extractor.bins_per_octave + first) % 12
    return magnitude.new_zeros(*magnitude.shape[:-1], 12).index_add(-1, classes, magnitude)
