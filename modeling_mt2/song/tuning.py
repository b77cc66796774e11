"""How far a song is tuned above or below A = 440 Hz."""

import numpy as np

N_FFT, HOP = 8192, 4096  # samples at 16 kHz: half a second, so that tones of 80 Hz stand apart
LOWEST_HZ, HIGHEST_HZ = 80.0, 2500.0
RANGE_DB = 40.0  # peaks further below the highest of their frame do not count
MIN_AGREEMENT = 0.2  # length of the mean of unit vectors; below, the peaks agree on no tuning


def estimate_tuning(waveform: np.ndarray, sampling_rate: int) -> tuple[float, float]:
    """Estimate by how much the pitches of a song lie above those of A = 440 Hz.

    Peaks of the spectrum, interpolated, vote with their magnitude on a circle of 100 cents.

    Args:
        waveform: mono float32, (samples,); a minute of it is enough.
        sampling_rate: hertz.

    Returns:
        Cents above the nearest semitone, from -50 to 50, and how well the peaks agree, 0 to 1.

    Source: the mean direction of circular statistics over peaks with parabolic interpolation, Smith & Serra 1987.
    """
    total, weight = 0j, 0.0
    window = np.hanning(N_FFT).astype(np.float32)
    low, high = (round(hz * N_FFT / sampling_rate) for hz in (LOWEST_HZ, HIGHEST_HZ))
    if len(waveform) < N_FFT:
        waveform = np.pad(waveform, (0, N_FFT - len(waveform)))
    for start in range(0, len(waveform) - N_FFT + 1, HOP):
        magnitude = np.abs(np.fft.rfft(waveform[start : start + N_FFT] * window))[low - 1 : high + 2]
        inner = magnitude[1:-1]
        threshold = max(inner.max() * 10 ** (-RANGE_DB / 20), 1e-6 * N_FFT)
        places = np.flatnonzero((inner > magnitude[:-2]) & (inner >= magnitude[2:]) & (inner > threshold))
        if not len(places):
            continue
        left, centre, right = (np.log(magnitude[places + offset]) for offset in (0, 1, 2))
        curvature = left - 2 * centre + right
        shift = 0.5 * (left - right) / np.where(curvature < 0, curvature, -1)
        hertz = (places + low + shift) * sampling_rate / N_FFT
        votes = inner[places]
        total += (votes * np.exp(2j * np.pi * 12 * np.log2(hertz / 440))).sum()
        weight += votes.sum()
    if not weight:
        return 0.0, 0.0
    return float(np.angle(total) * 50 / np.pi), float(abs(total) / weight)
