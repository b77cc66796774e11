"""Where the time of training goes, and what more workers and processes bring: `python benchmarks/speed/training.py`.

Takes a step of the default model apart, trains the demo model with 0 to 2 workers and on 1 and 2 processes, watches
its memory over 500 steps, and says from the measured rates how long a million songs take here and on how many
processes the negatives would cost as much as the songs. Writes training.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from mt2_music.train.data import prepared as prepare
from mt2_music.train.pretrain.losses import nt_xent_loss
from mt2_music.train.pretrain.run import load_audio, make_trainer, parse_arguments
from mt2_music.train.synth import compose, play_additive

BATCH, ROUNDS = 8, 5
SONGS, SONG_SECONDS = 96, 40.0
STEP_PARTS = ("front end", "forward", "losses", "backward", "optimizer")
LOSS_SONGS, SONGS_PER_PROCESS = 1024, 128
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
LAUNCH += " --dynamo_backend no"
COMMUNICATE = """
import os, time, torch, torch.distributed as d
torch.set_num_threads(1)
d.init_process_group("gloo")
rows, gradient = torch.randn({batch}, 2, 128), torch.randn({parameters})
pieces = [torch.empty_like(rows) for _ in range(d.get_world_size())]
times = []
for _ in range(12):
    start = time.perf_counter(); d.all_gather(pieces, rows); middle = time.perf_counter()
    d.all_reduce(gradient); times.append((middle - start, time.perf_counter() - middle))
if d.get_rank() == 0:
    print(*map(min, zip(*times)))
d.destroy_process_group()
"""


def best(work: Callable[[], Any]) -> float:
    """Return the shortest of some times in seconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def trainer_of(place: list[str], folder: Path) -> Any:
    """Make the trainer of the default model."""
    options = ["--output_dir", str(folder), "--use_cpu", "true", "--per_device_train_batch_size", str(BATCH)]
    arguments, training = parse_arguments([*place, *options])
    return make_trainer(arguments, training, load_audio(arguments))


def parts(music: Path, prepared: Path, folder: Path) -> dict[str, float]:
    """Measure the parts of a step, in seconds for a batch."""
    decoding = trainer_of(["--audio_dir", str(music)], folder)
    trainer = trainer_of(["--prepared_dir", str(prepared)], folder)
    model = trainer.model.train()
    batch = torch.utils.data.default_collate([trainer.train_dataset[item] for item in range(BATCH)])
    optimizer = trainer.create_optimizer()
    times = {
        "decode FLAC (in workers)": best(lambda: [decoding.train_dataset[item] for item in range(BATCH)]),
        "read prepared (in workers)": best(lambda: [trainer.train_dataset[item] for item in range(BATCH)]),
        "front end": best(lambda: trainer._features(batch)),
    }
    views = trainer._views(model.config.class_tokens, trainer._features(batch), batch["transpositions"])
    held: dict[str, Any] = {}

    def forward() -> None:
        held["outputs"] = trainer._forward(model, views)

    def losses() -> None:
        held["losses"] = trainer.losses(held["outputs"], model, batch["transpositions"])

    def backward() -> None:
        torch.stack([loss for _, loss in held["losses"].values()]).sum().backward(retain_graph=True)

    for name, work in (
        ("forward", forward),
        ("losses", losses),
        ("backward", backward),
        ("optimizer", optimizer.step),
    ):
        times[name] = best(work)
    return times


def communication(parameters: int) -> tuple[float, float]:
    """Measure gathering the projections and summing the gradients over two processes, in seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as script:
        script.write(COMMUNICATE.format(batch=BATCH, parameters=parameters))
        script.flush()
        output = subprocess.run([sys.executable, *LAUNCH.split(), script.name], capture_output=True, text=True)
    if output.returncode:
        raise RuntimeError(output.stderr[-2000:])
    gather, reduce = map(float, output.stdout.split()[-2:])
    return gather, reduce


def train(place: list[str], folder: Path, steps: int, workers: int, processes: int = 1) -> tuple[float, list[float]]:
    """Train the demo's model in a process of its own.

    Returns:
        Songs per second, the median over log entries; and the memory of the main process in MB, once a second.
    """
    launch = LAUNCH.split() if processes > 1 else []
    options = ["--preset", "demo", "--max_steps", str(steps), "--save_steps", str(steps), "--logging_steps", "5"]
    options += ["--dataloader_num_workers", str(workers), "--use_cpu", "true", "--disable_tqdm", "true"]
    options += ["--per_device_train_batch_size", str(24 // processes), "--output_dir", str(folder)]
    command = [sys.executable, *launch, "-m", "mt2_music.train.pretrain", *place, *options]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    with (folder.with_suffix(".log")).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env={**os.environ, **threads}, stdout=log, stderr=log)
    memory: list[float] = []

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            time.sleep(1.0)
            lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
            memory.extend(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise RuntimeError(folder.with_suffix(".log").read_text(encoding="utf-8")[-2000:])
    log_history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return float(np.median([entry["songs_per_second"] for entry in log_history[1:] if "loss" in entry])), memory


def table_of_parts(times: dict[str, float], between: dict[str, float], parameters: int) -> list[str]:
    """Write what a step consists of, and what two processes add."""
    step = sum(times[part] for part in STEP_PARTS)
    everything = {**times, **{f"{name}, 2 processes": seconds for name, seconds in between.items()}}
    size = f"{parameters / 1e6:.1f} M parameters, batches of {BATCH} songs"
    return [
        f"Default model, {size}, {torch.get_num_threads()} threads, best of {ROUNDS}.",
        "",
        "| part of a step | ms per song | share of the step |",
        "|---|---:|---:|",
        *(f"| {part} | {1e3 * time / BATCH:.2f} | {time / step:.1%} |" for part, time in everything.items()),
    ]


def at_scale(song: float) -> str:
    """Say what `song` seconds a song mean for a million of them, and when negatives would cost as much.

    Every process computes the loss of all songs, so its time grows with the square of the songs of all processes.
    """
    projections = torch.randn(2, LOSS_SONGS, 128, requires_grad=True)
    loss = best(lambda: nt_xent_loss(projections[0], projections[1]).backward())
    processes = (song * SONGS_PER_PROCESS / (loss * (SONGS_PER_PROCESS / LOSS_SONGS) ** 2)) ** 0.5
    return (
        f"A million songs, one pass of the default model: {1e6 * song / 86400:.1f} days on this machine. With "
        f"{SONGS_PER_PROCESS} songs a process and every process computing the loss of all, the contrastive loss would "
        f"take as long as the songs on about {processes:.0f} processes ({1e3 * loss:.0f} ms for {LOSS_SONGS} songs)."
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--steps", type=int, default=40, help="of each short run")
    parser.add_argument("--memory_steps", type=int, default=500, help="of the run whose memory is watched")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        music, prepared = folder / "music", folder / "prepared"
        music.mkdir()
        for index in range(SONGS):
            rng = np.random.default_rng([9, index])
            audio = play_additive(compose(rng, SONG_SECONDS, index % 12, "major"), rng)
            soundfile.write(music / f"{index:03d}.flac", audio, 16000)
        start = time.perf_counter()
        prepare.main(["--audio_dir", str(music), "--output_dir", str(prepared), "--workers", "1"])
        seconds = sum(soundfile.info(path).duration for path in music.iterdir())
        decoding = seconds / (time.perf_counter() - start)
        times = parts(music, prepared, folder / "parts")
        parameters = sum(
            p.numel() for p in trainer_of(["--prepared_dir", str(prepared)], folder / "size").model.parameters()
        )
        gather, reduce = communication(parameters)
        runs = {}
        for title, place in (("FLAC", ["--audio_dir", str(music)]), ("prepared", ["--prepared_dir", str(prepared)])):
            for workers in (0, 1, 2):
                run = folder / f"{title}{workers}"
                runs[f"{title}, {workers} workers, 1 process"] = train(place, run, arguments.steps, workers)[0]
        place = ["--prepared_dir", str(prepared)]
        runs["prepared, 0 workers, 2 processes"] = train(place, folder / "two", arguments.steps, 0, processes=2)[0]
        memory = train(place, folder / "memory", arguments.memory_steps, 0)[1]
    lines = [
        *table_of_parts(times, {"gathering projections": gather, "summing gradients": reduce}, parameters),
        "",
        "| demo's model, batches of 24 songs | songs per second |",
        "|---|---:|",
        *(f"| {title} | {speed:.1f} |" for title, speed in runs.items()),
        "",
        (
            f"Memory over {arguments.memory_steps} steps: at most {max(memory[: len(memory) // 2]):.0f} MB in the "
            f"first half, {max(memory[len(memory) // 2 :]):.0f} MB in the second."
        ),
        "",
        f"`prepare` decodes FLAC of 16 kHz {decoding:.0f} times as fast as it plays, with one process.",
        "",
        at_scale(sum(times[part] for part in STEP_PARTS) / BATCH),
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
