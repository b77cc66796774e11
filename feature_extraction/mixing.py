"""Channels of a sound that comes in blocks to one channel, in one way from its beginning to its end."""

import warnings

import numpy as np

from .feature_extraction_mt2 import CANCELLED, MIN_SHARE_LEFT, AudioWarning, mean_of_channels, power_left

MIN_SHARE_TO_MIX_AGAIN = 0.8  # as `MIN_SHARE_LEFT`, after channels cancelled each other in an earlier block


class Mixer:
    """Mixes the blocks of one sound as `mix_down` does a whole one, with one warning.

    Once channels cancel each other, the one that was the loudest is used until they surely do no longer: otherwise a
    song would change from one channel to their mean and back where drums in the centre grow louder and softer.

    Args:
        sampling_rate: in hertz.
    """

    def __init__(self, sampling_rate: float) -> None:
        self._sampling_rate = sampling_rate
        self._channel: int | None = None
        self._warned = False

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """Mix a block, (samples, channels), to one channel, (samples,)."""
        if samples.shape[1] == 1 or not len(samples):
            return mean_of_channels(samples)
        share, loudest = power_left(samples, self._sampling_rate)
        if self._channel is None and share < MIN_SHARE_LEFT:
            self._channel = loudest
        elif share >= MIN_SHARE_TO_MIX_AGAIN and samples.any():
            self._channel = None
        if self._channel is None:
            return mean_of_channels(samples)
        if not self._warned:
            self._warned = True
            warnings.warn(CANCELLED, AudioWarning, stacklevel=3)
        return samples[:, self._channel]
