"""What several tests share: small signals, a small model, what a run leaves, and running Python from outside."""

import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from mt2_music import MT2Config
from mt2_music.train.data.prepared import SETTINGS_FILE, write_shard
from mt2_music.train.data.quads import QUADS_FILE, track_name
from mt2_music.train.pretrain.trainer import SPEED
from mt2_music.train.synth import Note, Score, compose, find_soundfont, play_additive

ROOT = Path(__file__).parents[1]  # of the checkout
PACKAGE = "mt2_music"
RATE = 16000
TINY = ["--hidden_size", "96", "--num_hidden_layers", "2", "--window_seconds", "1", "--max_gap_seconds", "2"]
TINY += ["--per_device_train_batch_size", "4", "--warmup_steps", "4", "--logging_steps", "2", "--use_cpu", "true"]
TINY += ["--disable_tqdm", "true", "--dataloader_num_workers", "0"]
TINY += ["--contrastive_layer", "1", "--shortest_window_seconds", "0", "--augment_gain_db", "0"]
STEPS = ["--max_steps", "60", "--save_steps", "20"]  # of the run that tests share
NOT_REPEATED = (
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "total_flos",
    SPEED,
)


class KilledError(BaseException):
    """Stands for the death of a process: nobody catches it, so that nothing is tidied up or written after it."""


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def song(index: int, seconds: float = 8.0) -> np.ndarray:
    rng = np.random.default_rng([5, index])
    return play_additive(compose(rng, seconds, index % 12, ("major", "minor")[index % 2]), rng)


def write_quads(folder: Path, solos: list[bool], samples_of) -> None:
    """Write a folder of quads as rendering does, of int16 `samples_of(quad, score, orchestration)`."""
    names = [f"quad-{number:06d}" for number in range(len(solos))]
    tracks = (
        (track_name(name, score, which), samples_of(number, score, which))
        for number, name in enumerate(names)
        for score in (0, 1)
        for which in (0, 1)
    )
    write_shard(folder, 0, tracks, [])
    rows = [
        {"id": name, "solo": solo, "tempos": [90.0 + number, 0.0 if solo else 180.0 + number]}
        for number, (name, solo) in enumerate(zip(names, solos, strict=True))
    ]
    (folder / SETTINGS_FILE).write_text('{"shards": 1}', encoding="utf-8")
    (folder / QUADS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


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


def modules_of(package: str, folder: Path) -> dict[str, Path]:
    """Return the modules of a package by name, without importing one."""
    found = {}
    for path in (Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names):
        if path.suffix != ".py":
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        if all((folder.joinpath(*parts[:depth]) / "__init__.py").is_file() for depth in range(len(parts))):
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def installed_modules() -> dict[str, Path]:
    """The same of the package that is imported here, whose parts may be installed from different folders."""
    found = {}
    for part in (PACKAGE, f"{PACKAGE}.feature_extraction", f"{PACKAGE}.train"):
        for folder in importlib.util.find_spec(part).submodule_search_locations:
            found |= modules_of(part, Path(folder))
    return found


def python(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    """Run Python in a process of its own, which takes seconds for its imports alone; it must succeed."""
    result = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def here(*arguments, cwd=None) -> subprocess.CompletedProcess:
    """Do in this process what `python` with these arguments does: "-m" and a module, "-c" and code, or a file."""
    kind, *rest = map(str, arguments)
    argv, code, before = sys.argv, 0, Path.cwd()
    output, errors = io.StringIO(), io.StringIO()
    try:
        os.chdir(cwd or before)
        with redirect_stdout(output), redirect_stderr(errors):
            if kind == "-c":
                sys.argv = [kind, *rest[1:]]
                exec(compile(rest[0], "<code>", "exec"), {"__name__": "__main__"})
            elif kind == "-m":
                sys.argv = rest
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            else:
                sys.argv = [kind, *rest]
                runpy.run_path(kind, run_name="__main__")
    except SystemExit as error:
        code = error.code or 0
    finally:
        os.chdir(before)
        sys.argv = argv
    assert code == 0, output.getvalue()[-3000:] + errors.getvalue()[-3000:]
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def log_of(run: Path) -> list[dict]:
    """Return what a run logged, but for what differs when it is repeated."""
    entries = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [{name: value for name, value in entry.items() if name not in NOT_REPEATED} for entry in entries]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same_weights(run: Path, other: Path) -> bool:
    got, want = weights_of(run), weights_of(other)
    return got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in want)


def after_saving(monkeypatch, trainer: type, step: int, act) -> None:
    """Let `act()` happen as soon as the checkpoint of some step is written."""
    save = trainer._save_checkpoint

    def save_and_act(self, *arguments):
        save(self, *arguments)
        if self.state.global_step == step:
            act()

    monkeypatch.setattr(trainer, "_save_checkpoint", save_and_act)
