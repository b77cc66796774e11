"""Seconds of audio embedded a second, against models of transformers with random weights; and what length costs.

From waveforms at each model's own rate to vectors, front ends included, in pieces of ten seconds for the others, whose
attention grows with the square of the length. Writes throughput.md.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from timing import ROUNDS, best_in_turns
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from mt2_music import MT2Config, MT2FeatureExtractor, MT2Model
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.loading import load_model
from mt2_music.options import DEFAULT_MODEL
from mt2_music.song.embed import embed_audio
from mt2_music.train.synth import compose, play_additive

SECONDS, PIECE_SECONDS, SONG_SECONDS = 30, 10, 240
LENGTHS = (10, 60, 600, 7200)  # seconds
NUMBERS = (1, 10, 100)  # files of a minute
EMBED = r"""
import re, sys, time
import mt2_music
model = mt2_music.load(sys.argv[1], device="cpu")
model.embed(sys.argv[2])  # the first 10 s file: everything is loaded
for path in sys.argv[2:]:
    start = time.perf_counter()
    model.embed(path)
    peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
    print(time.perf_counter() - start, peak)
"""


def music(seconds: float, rate: int) -> np.ndarray:
    """Compose mono music that fills `seconds`."""
    rng = np.random.default_rng(0)
    piece = resample(play_additive(compose(rng, 60.0, 0, "major"), rng), 16000, rate)
    return np.resize(piece, round(seconds * rate))


def in_pieces(model: torch.nn.Module, rate: int) -> Callable[[], object]:
    """Embed the music with a model that takes waveforms."""
    pieces = torch.from_numpy(music(SECONDS, rate)).reshape(-1, PIECE_SECONDS * rate)
    return lambda: [model(piece[None]).last_hidden_state.mean(1) for piece in pieces]


def encoders() -> dict[str, tuple[torch.nn.Module, Callable[[], object]]]:
    """Name, model, and what is timed. MERT-95M is HuBERT's base architecture at 24 kHz."""
    waveform = music(SECONDS, 16000)
    small, base = load_model(MT2Model, DEFAULT_MODEL), MT2Model(MT2Config()).eval()
    extractor = MT2FeatureExtractor()
    mert, wav2vec2 = HubertModel(HubertConfig()).eval(), Wav2Vec2Model(Wav2Vec2Config()).eval()
    ast, ast_extractor = ASTModel(ASTConfig()).eval(), ASTFeatureExtractor()

    def run_ast() -> object:
        pieces = list(waveform.reshape(-1, PIECE_SECONDS * 16000))
        return [
            ast(**ast_extractor(piece, sampling_rate=16000, return_tensors="pt")).pooler_output for piece in pieces
        ]

    return {
        "mt2-small": (small, lambda: embed_audio(small, extractor, waveform, 16000)),
        "MT2, 5 M": (base, lambda: embed_audio(base, extractor, waveform, 16000)),
        "MERT-95M": (mert, in_pieces(mert, 24000)),
        "wav2vec2-base": (wav2vec2, in_pieces(wav2vec2, 16000)),
        "AST": (ast, run_ast),
    }


def main() -> None:
    """Time all in turns, then files of growing length and folders of growing number, in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    compared = encoders()
    with torch.no_grad():
        times = best_in_turns(*(run for _, run in compared.values()))
    ours = times[0]
    conditions = (
        f"{torch.get_num_threads()} threads, {SECONDS} s of music, best of {ROUNDS} in turns; random weights but for"
    )
    lines = [f"{conditions} mt2-small. A song is {SONG_SECONDS // 60} minutes long.", ""]
    lines += ["| model | parameters | seconds of audio a second | songs an hour | mt2-small is faster by |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for (name, (model, _)), seconds in zip(compared.items(), times, strict=True):
        millions = sum(weights.numel() for weights in model.parameters()) / 1e6
        speed = SECONDS / seconds
        lines.append(
            f"| {name} | {millions:.1f} M | {speed:.0f} | {3600 * speed / SONG_SECONDS:.0f} | {seconds / ours:.1f} |"
        )
    lines += ["", "Files, FLAC in stereo at 44.1 kHz, by mt2-small, decoding included:", ""]
    lines += ["| length | seconds taken | times real time | peak memory of the process, MB |", "|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as place:
        paths = []
        for seconds in LENGTHS:
            paths.append(f"{place}/{seconds}.flac")
            minute = np.stack([music(min(seconds, 60), 44100)] * 2, 1)
            with soundfile.SoundFile(paths[-1], "w", 44100, 2) as sound:
                for _ in range(max(1, seconds // 60)):
                    sound.write(minute)
        printed = subprocess.run(
            [sys.executable, "-c", EMBED, DEFAULT_MODEL, *paths], check=True, capture_output=True, text=True
        ).stdout
        for seconds, row in zip(LENGTHS, printed.splitlines(), strict=True):
            taken, memory = map(float, row.split())
            lines.append(f"| {seconds} s | {taken:.2f} | {seconds / taken:.0f} | {memory:.0f} |")
        lines += ["", "`mt2 embed` on a folder of such files of a minute, from its start to the last row:", ""]
        lines += ["| files | seconds taken | seconds a file |", "|---:|---:|---:|"]
        for number in NUMBERS:
            folder = Path(place, str(number))
            folder.mkdir()
            for index in range(number):
                shutil.copy(paths[1], folder / f"{index}.flac")
            start = time.perf_counter()
            embed = [sys.executable, "-m", "mt2_music.cli", "embed", str(folder), "-o", f"{folder}.npz"]
            subprocess.run(embed, check=True, capture_output=True)
            taken = time.perf_counter() - start
            lines.append(f"| {number} | {taken:.1f} | {taken / number:.2f} |")
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
