"""What rooms, microphones and codecs do to a recording: none of it moves an onset or a pitch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effects:
    """Settings of one recording; 0 or None leaves an effect out.

    Args:
        reverb_seconds: time in which the room falls by 60 dB.
        reverb_db: energy of the room's sound against the direct one.
        equalizer_db: gain at 60, 240, 960 and 3840 Hz, linear in dB over log frequency in between and constant beyond.
        high_pass_hz: below it the level falls by 12 dB an octave.
        low_pass_hz: above it nothing is left, as after a codec.
        noise_db: level of the noise against the music, pink from 100 Hz.
        peak: largest sample of the result.
    """

    reverb_seconds: float = 0.0
    reverb_db: float = -12.0
    equalizer_db: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    high_pass_hz: float = 0.0
    low_pass_hz: float | None = None
    noise_db: float | None = None
    peak: float = 0.9


def draw_effects(rng: np.random.Generator) -> Effects:
    """Draw settings; one recording in four stays as it is, but for its level."""
    peak = float(rng.uniform(0.3, 0.9))
    if rng.random() < 0.25:
        return Effects(peak=peak)
    return Effects(
        reverb_seconds=float(rng.uniform(0.2, 1.8)) if rng.random() < 0.6 else 0.0,
        reverb_db=float(rng.uniform(-22, -8)),
        equalizer_db=tuple(float(gain) for gain in rng.uniform(-6, 6, 4)),
        high_pass_hz=float(rng.uniform(20, 120)),
        low_pass_hz=float(rng.uniform(3000, 7500)) if rng.random() < 0.4 else None,
        noise_db=float(rng.uniform(-60, -25)) if rng.random() < 0.5 else None,
        peak=peak,
    )


def apply_effects(audio: np.ndarray, effects: Effects, rng: np.random.Generator, sampling_rate: int) -> np.ndarray:
    """Apply the effects by one multiplication in the frequency domain.

    Args:
        audio: mono float32, (samples,).
        effects: what to do.
        rng: draws the room's echoes and the noise.
        sampling_rate: in hertz.

    Returns:
        Mono float32 (samples,): what the room would still sound after the end is cut off.
    """
    room_samples = round(effects.reverb_seconds * sampling_rate)
    size = _fast_length(len(audio) + room_samples)
    spectrum = np.fft.rfft(audio, size)
    frequencies = np.fft.rfftfreq(size, 1 / sampling_rate)
    if room_samples:
        time = np.arange(room_samples) / effects.reverb_seconds
        room = rng.standard_normal(room_samples) * 10 ** (-3 * time)
        room *= 10 ** (effects.reverb_db / 20) / np.sqrt(np.square(room).sum())
        room[0] += 1
        spectrum *= np.fft.rfft(room, size)
    spectrum *= _frequency_response(frequencies, effects)
    shaped = np.fft.irfft(spectrum, size)[: len(audio)]
    if effects.noise_db is not None:
        pink = np.fft.rfft(rng.standard_normal(size)) / np.sqrt(np.maximum(frequencies, 100))
        noise = np.fft.irfft(pink, size)[: len(audio)]
        level = np.sqrt(np.square(shaped).mean() / max(np.square(noise).mean(), 1e-20))
        shaped += noise * level * 10 ** (effects.noise_db / 20)
    return (shaped * (effects.peak / max(np.abs(shaped).max(), 1e-9))).astype(np.float32)


def _frequency_response(frequencies: np.ndarray, effects: Effects) -> np.ndarray:
    octaves = np.log2(np.maximum(frequencies, 1))
    gain = 10 ** (np.interp(octaves, np.log2([60, 240, 960, 3840]), effects.equalizer_db) / 20)
    if effects.high_pass_hz:
        gain = gain / (1 + (effects.high_pass_hz / np.maximum(frequencies, 1)) ** 2)
    if effects.low_pass_hz is not None:
        gain = gain * np.clip((effects.low_pass_hz * 1.05 - frequencies) / (effects.low_pass_hz * 0.05), 0, 1)
    return gain


def _fast_length(length: int) -> int:
    """Return the least product of 2, 3 and 5 that is not below `length`: transforms of other lengths are slow."""
    candidates = (3**threes * 5**fives for threes in range(4) for fives in range(4))
    return min(odd * 2 ** max(0, int(np.ceil(np.log2(length / odd)))) for odd in candidates)
