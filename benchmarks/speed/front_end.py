"""Front end against nnAudio's VQT and mel spectrogram: 16 windows of 4 s, in turns, and the floor of its products."""

import torch
from nnAudio.features import VQT, MelSpectrogram
from timing import ROUNDS, best_in_turns

from mt2_music import MT2FeatureExtractor


def main() -> None:
    """Print the best times, their ratio, and how far we are from the machine's own matrix products."""
    extractor = MT2FeatureExtractor()
    audio = torch.randn(16, 64000, generator=torch.Generator().manual_seed(0))
    vqt = VQT(sr=16000, hop_length=512, fmin=27.5, n_bins=99, verbose=False)
    mel = MelSpectrogram(sr=16000, n_fft=1024, hop_length=512, n_mels=128, fmax=8000, verbose=False)
    with torch.no_grad():
        ours, peer = best_in_turns(lambda: extractor.extract(audio), lambda: (vqt(audio), mel(audio)))
        blocks, _, _ = extractor._constants_on(audio.device)
        columns, frames = sum(block.shape[1] for block in blocks), 16 * 126
        left, right = torch.randn(frames, 512), torch.randn(512, columns)
        (product,) = best_in_turns(lambda: left @ right)
    operations = 2 * frames * 512 * columns
    print(f"{torch.get_num_threads()} threads; 16 windows of 4 s, best of {ROUNDS}, in turns")
    print(f"ours {ours * 1e3:.1f} ms, nnAudio {peer * 1e3:.1f} ms: {peer / ours:.1f} times as fast")
    print(
        f"floor of the constant-Q products: {operations / 1e9:.2f} Gflop at {operations / product / 1e9:.0f} Gflop/s"
    )
    print(f"= {product * 1e3:.1f} ms; all of the front end takes {ours / product:.1f} times that")


if __name__ == "__main__":
    main()
