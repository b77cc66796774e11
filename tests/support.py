"""What several tests share: small signals, a small model, and running Python from outside."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from mt2_music import MT2Config
from mt2_music.train.synth import Note, Score, compose, find_soundfont, play_additive

RATE = 16000
TINY = ["--hidden_size", "96", "--num_hidden_layers", "2", "--window_seconds", "1", "--max_gap_seconds", "2"]
TINY += ["--per_device_train_batch_size", "4", "--warmup_steps", "4", "--logging_steps", "2", "--use_cpu", "true"]
TINY += ["--disable_tqdm", "true", "--dataloader_num_workers", "0"]

torch.set_num_threads(2)


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def song(index: int, seconds: float = 8.0) -> np.ndarray:
    rng = np.random.default_rng([5, index])
    return play_additive(compose(rng, seconds, index % 12, ("major", "minor")[index % 2]), rng)


def pitch_fork(tonic: int) -> np.ndarray:
    """I-IV-V-I in a major key with additive tones: audio whose key nobody doubts."""
    notes = []
    for index, root in enumerate((0, 5, 7, 0)):
        for pitch in [36 + (tonic + root) % 12] + [
            low + (tonic + root + step) % 12 for low in (48, 60) for step in (0, 4, 7)
        ]:
            notes.append(Note(1.5 * index, 1.5 * index + 1.5, pitch, 90, "chords"))
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), RATE)


def soundfont(path: Path) -> None:
    """Copy a SoundFont, changed where it does not matter: its name is appended, so that it counts as another one."""
    path.write_bytes(find_soundfont().read_bytes() + path.name.encode())


def tiny_config(**changes) -> MT2Config:
    sizes = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 128}
    return MT2Config(**{**sizes, "max_frames": 32, "projection_size": 16, **changes})


def python(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result
