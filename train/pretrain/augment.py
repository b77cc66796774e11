"""Augmentation of training audio on the model's device: level, band limits, noise, and hidden frames.

Changes to a window follow from random numbers drawn with its item (`draws`), so that runs repeat and resume exactly,
on any device and any number of processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

LOW_PASS_HZ = (2000.0, 8000.0)
HIGH_PASS_HZ = (20.0, 300.0)
SLOPE = 8  # of the band limits, as the power of the frequency: 4th-order Butterworth
EQUALIZER_HZ = (60.0, 240.0, 960.0, 2400.0, 6000.0)
NOISE_SNR_DB = (10.0, 50.0)
NOISE_SAMPLES = 2**18

WaveformEffect = Callable[[Tensor, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """How strongly windows are changed; all 0, as by default, changes nothing.

    Args:
        gain_db: level changes by up to so many decibels, up or down.
        equalizer_db: levels at EQUALIZER_HZ change by up to so many decibels, interpolated over octaves in between.
            Every window gets another room, microphone or mastering, so that songs cannot be told apart by theirs.
        band_share: share of windows that lose their highest and lowest frequencies.
        noise_share: share of windows that get white noise.
        mask_share: largest share of a window that is hidden, in one piece.
        effect: a function of your own, such as one of torchaudio's. It takes (windows, samples), a rate in hertz and
            a generator on the CPU for its draws, and returns the same shape.

    Raises:
        ValueError: a strength outside its range.
    """

    gain_db: float = 0.0
    equalizer_db: float = 0.0
    band_share: float = 0.0
    noise_share: float = 0.0
    mask_share: float = 0.0
    effect: WaveformEffect | None = None

    def __post_init__(self) -> None:
        """Check the strengths."""
        for name in ("band_share", "noise_share", "mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation: {name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("gain_db", "equalizer_db"):
            if getattr(self, name) < 0:
                raise ValueError(f"augmentation: {name} must not be negative, got {getattr(self, name)}")

    def waveforms(self, waveforms: Tensor, draws: Tensor, sampling_rate: int) -> Tensor:
        """Change waveforms.

        Args:
            waveforms: (windows, samples), float, or int16 at full scale.
            draws: uniform from 0 to 1, (windows, NUM_DRAWS).
            sampling_rate: in hertz.

        Returns:
            float32 (windows, samples), or the very input where there is nothing to do.
        """
        if not (self.gain_db or self.equalizer_db or self.band_share or self.noise_share or self.effect):
            return waveforms
        if waveforms.dtype == torch.int16:
            waveforms = waveforms.float() / 32768
        draws = draws.float()
        if self.band_share or self.equalizer_db:
            frequency = torch.fft.rfftfreq(waveforms.shape[1], 1 / sampling_rate, device=waveforms.device)
            response = _band_limits(frequency, draws[:, :2])
            response = torch.where(draws[:, 2:3] < self.band_share, response, 1.0)
            response = response * _equalizer(frequency, self.equalizer_db * (2 * draws[:, 10:15] - 1))
            waveforms = torch.fft.irfft(torch.fft.rfft(waveforms) * response, n=waveforms.shape[1])
        if self.noise_share:
            waveforms = _add_noise(waveforms, draws[:, 3:5], draws[:, 5] < self.noise_share)
        if self.effect is not None:
            seed = int(draws[:, 9].cpu().double().sum().item() * 2**32)  # not every device has double precision
            changed = self.effect(waveforms, sampling_rate, torch.Generator().manual_seed(seed))
            if changed.shape != waveforms.shape:
                raise ValueError(f"the effect made {tuple(changed.shape)} of {tuple(waveforms.shape)}")
            waveforms = changed
        if self.gain_db:
            waveforms = waveforms * 10 ** (self.gain_db * (2 * draws[:, 6:7] - 1) / 20)
        return waveforms

    def frames(self, features: Tensor, draws: Tensor) -> Tensor:
        """Hide one stretch of frames of every window: they become silence.

        Args:
            features: (windows, T, values), 0 for silence.
            draws: uniform from 0 to 1, (windows, NUM_DRAWS).
        """
        if not self.mask_share:
            return features
        num_frames = features.shape[1]
        length = draws[:, 7:8] * self.mask_share * num_frames
        start = draws[:, 8:9] * (num_frames - length)
        frame = torch.arange(num_frames, device=features.device)
        hidden = (frame >= start) & (frame < start + length)
        return features.masked_fill(hidden[:, :, None], 0.0)


def _band_limits(frequency: Tensor, draws: Tensor) -> Tensor:
    """Return gains, (windows, bins), of a low-pass and a high-pass whose frequencies are drawn evenly in octaves."""
    low_pass, high_pass = (
        edges[0] * (edges[1] / edges[0]) ** draws[:, index : index + 1]
        for index, edges in enumerate((LOW_PASS_HZ, HIGH_PASS_HZ))
    )
    return (1 + (frequency / low_pass) ** SLOPE).rsqrt() * (1 + (high_pass / frequency) ** SLOPE).rsqrt()


def _equalizer(frequency: Tensor, decibels: Tensor) -> Tensor:
    """Interpolate decibels (windows, bands) over log frequency; return gains, (windows, bins)."""
    bands = torch.tensor(EQUALIZER_HZ, device=frequency.device).log2()
    octaves = frequency.clamp(min=1.0).log2().clamp(float(bands[0]), float(bands[-1]))
    right = torch.searchsorted(bands, octaves).clamp(1, len(bands) - 1)
    part = (octaves - bands[right - 1]) / (bands[right] - bands[right - 1])
    return 10 ** (((1 - part) * decibels[:, right - 1] + part * decibels[:, right]) / 20)


def _add_noise(waveforms: Tensor, draws: Tensor, chosen: Tensor) -> Tensor:
    """Add white noise at a signal-to-noise ratio drawn evenly in decibels."""
    noise = _noise(waveforms.device)
    start = (draws[:, :1] * NOISE_SAMPLES).long()
    index = (start + torch.arange(waveforms.shape[1], device=waveforms.device)) % NOISE_SAMPLES
    snr_db = NOISE_SNR_DB[0] + (NOISE_SNR_DB[1] - NOISE_SNR_DB[0]) * draws[:, 1:2]
    level = waveforms.square().mean(1, keepdim=True).sqrt() * 10 ** (-snr_db / 20)
    return waveforms + noise[index] * level * chosen[:, None]


@lru_cache(maxsize=8)
def _noise(device: torch.device) -> Tensor:
    return torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0)).to(device)
