"""Write librosa.npz: spectrograms of one signal by librosa, against which the front end is tested.

Run by hand: `pip install librosa && python tests/feature_extraction/reference/generate_reference.py`.
"""

from pathlib import Path

import librosa
import numpy as np

RATE, HOP, BINS = 16000, 512, 96  # librosa refuses the bins whose filters reach beyond half the rate


def signal() -> np.ndarray:
    """One second each of noise, a chord and a sweep, over a little noise: empty bands hold rounding errors."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    noise = 0.1 * rng.standard_normal(RATE)
    chord = sum(0.2 * np.sin(2 * np.pi * f * time) for f in (110.0, 277.18, 329.63, 1760.0))
    sweep = 0.5 * np.sin(2 * np.pi * (60 * time + 0.5 * 3500 * time**2))
    signal = np.concatenate([noise, chord, sweep])
    return (signal + 1e-3 * rng.standard_normal(len(signal))).astype(np.float32)


def main() -> None:
    """Compute the reference in librosa's units: no scaling of the transform, Slaney's mel power."""
    audio = signal()
    frequencies = librosa.cqt_frequencies(BINS, fmin=27.5)
    lengths, _ = librosa.filters.wavelet_lengths(freqs=frequencies, sr=RATE, gamma=0)
    vqt = librosa.vqt(
        audio, sr=RATE, hop_length=HOP, fmin=27.5, n_bins=BINS, gamma=0, tuning=0, sparsity=0, scale=False,
        pad_mode="constant",
    )  # fmt: skip
    mel = librosa.feature.melspectrogram(
        y=audio, sr=RATE, n_fft=1024, hop_length=HOP, n_mels=128, fmin=0, fmax=8000, pad_mode="constant"
    )
    np.savez_compressed(
        Path(__file__).with_name("librosa.npz"),
        audio=audio,
        cqt=(np.abs(vqt) / lengths[:, None]).T.astype(np.float32),
        mel=mel.T.astype(np.float32),
        version=librosa.__version__,
    )


if __name__ == "__main__":
    main()
