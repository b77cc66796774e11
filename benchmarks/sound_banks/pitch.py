"""Pitch of a recorded note near an expected one, by normalised autocorrelation."""

import numpy as np
import soxr


def periodicity(x: np.ndarray, max_lag: int) -> np.ndarray:
    """Return the normalised autocorrelation of a frame for lags from 0 to `max_lag`.

    Source: McLeod & Wyvill 2005, A smarter way to find pitch.
    """
    x = x - x.mean()
    size = 1 << int(np.ceil(np.log2(2 * len(x))))
    spectrum = np.fft.rfft(x, size)
    raw = np.fft.irfft(spectrum * spectrum.conj())[: max_lag + 1]
    square = np.concatenate([[0.0], np.cumsum(x**2)])
    lags = np.arange(max_lag + 1)
    power = square[len(x) - lags] + square[-1] - square[lags]
    return 2 * raw / np.maximum(power, 1e-12)


def measure_cents(x: np.ndarray, rate: int, note: float) -> tuple[float, float]:
    """Return how many cents a sound is off a note, and how periodic it is there, from 0 to 1; medians over frames."""
    if rate < 32000:
        x, rate = soxr.resample(x, rate, 4 * rate), 4 * rate
    period = rate / (440 * 2 ** ((note - 69) / 12))
    frame = int(max(0.05 * rate, 5 * period))
    found = []
    for start in range(0, max(1, len(x) - frame), max(1, frame // 2)):
        nsdf = periodicity(x[start : start + frame], min(int(1.1 * period) + 2, frame - 2))
        low, high = int(period * 2 ** (-80 / 1200)), min(int(period * 2 ** (80 / 1200)) + 2, len(nsdf) - 1)
        k = low + int(np.argmax(nsdf[low:high])) if high > low else 0
        if not 0 < k < len(nsdf) - 1 or nsdf[k] < max(nsdf[k - 1], nsdf[k + 1]):
            continue
        a, b, c = nsdf[k - 1 : k + 2]
        peak = k + 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)
        half = nsdf[max(1, k // 2 - 1) : k // 2 + 3].max()  # a whole octave too high is just as periodic here
        found.append((-1200 * np.log2(peak / period), b if half < 0.93 * b else 0.0))
    return (float(np.median([f[0] for f in found])), float(np.median([f[1] for f in found]))) if found else (0.0, 0.0)
