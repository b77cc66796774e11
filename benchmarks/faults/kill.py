"""Kill a run on two processes at random moments: `python benchmarks/faults/kill.py`.

Trains a tiny model on composed songs under `accelerate launch` to its end, then again with kill -9 of all its
processes at random moments, as early as the imports and as late as a checkpoint that is being written. Every restart
must go on from a whole checkpoint, and the end must be bit-equal: weights, optimizer and log. Writes kill.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from mt2_music.train.pretrain.trainer import SPEED
from mt2_music.train.run_folder import last_complete_checkpoint
from mt2_music.train.synth import compose, play_additive

TINY = "--hidden_size 96 --num_hidden_layers 2 --window_seconds 1 --max_gap_seconds 2 --per_device_train_batch_size 4 "
TINY += "--warmup_steps 4 --logging_steps 5 --use_cpu true --disable_tqdm true --dataloader_num_workers 1"
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
LAUNCH += " --dynamo_backend no -m mt2_music.train.pretrain"
VOLATILE = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos", SPEED)


def command(music: Path, output: Path, steps: int) -> list[str]:
    """Return the command of a run."""
    options = ["--audio_dir", str(music), "--output_dir", str(output), "--max_steps", str(steps), "--save_steps", "20"]
    return [sys.executable, *LAUNCH.split(), *options, *TINY.split()]


def end_of(folder: Path, steps: int) -> dict[str, Any]:
    """Return all that must be equal at the end of two runs."""
    log = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    optimizer = torch.load(folder / f"checkpoint-{steps}" / "optimizer.pt")["state"]
    return {
        "weights": load_file(folder / "model.safetensors"),
        "optimizer": {f"{index} {name}": v for index, one in optimizer.items() for name, v in one.items()},
        "log": [{name: value for name, value in entry.items() if name not in VOLATILE} for entry in log],
    }


def differences(got: dict[str, Any], want: dict[str, Any]) -> list[str]:
    """Name what differs."""
    different = [] if got["log"] == want["log"] else ["log"]
    for part in ("weights", "optimizer"):
        different += [name for name in want[part] if not torch.equal(got[part][name], want[part][name])]
    return different


def kill_all(launcher: int, folder: Path) -> None:
    """Kill the launcher, and every process that it has started in sessions of their own to train in `folder`."""
    os.kill(launcher, signal.SIGKILL)
    left = True
    while left:
        left = False
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if str(folder).encode() in (place / "cmdline").read_bytes() and int(place.name) != os.getpid():
                    os.kill(int(place.name), signal.SIGKILL)
                    left = True
            except OSError:
                continue  # it has ended meanwhile
        time.sleep(0.05)


def main() -> int:
    """Run, kill, compare; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        music, whole, killed = (Path(folder) / name for name in ("music", "whole", "killed"))
        music.mkdir()
        for index in range(12):
            draws = np.random.default_rng([5, index])
            audio = play_additive(compose(draws, 8.0, index, "major"), draws)
            soundfile.write(music / f"{index:02d}.flac", audio, 16000)
        start = time.monotonic()
        with (Path(folder) / "whole.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(command(music, whole, arguments.steps), env=environment, stdout=log, stderr=log)
            while last_complete_checkpoint(whole) is None and process.poll() is None:
                time.sleep(0.02)
            until_first = time.monotonic() - start
            if process.wait():
                print((Path(folder) / "whole.log").read_text(encoding="utf-8")[-3000:])
                return 1
        per_step = (time.monotonic() - start - until_first) / arguments.steps
        moments, finished = [], False
        log_path = Path(folder) / "killed.log"
        while len(moments) < arguments.kills and not finished:
            # Half of the kills fall into the start; the others later, on an even share of the steps.
            late = until_first + 1.5 * per_step * arguments.steps / arguments.kills
            moment = rng.uniform(0, until_first) if rng.random() < 0.5 else rng.uniform(until_first, late)
            with log_path.open("w", encoding="utf-8") as log:
                process = subprocess.Popen(
                    command(music, killed, arguments.steps),
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                try:
                    finished = process.wait(timeout=moment) == 0
                    if not finished:
                        print(log_path.read_text(encoding="utf-8")[-3000:])
                        return 1
                except subprocess.TimeoutExpired:
                    kill_all(process.pid, killed)
                    process.wait()
            names = sorted(path.name for path in killed.glob("*")) if killed.exists() else []
            kept = last_complete_checkpoint(killed)
            moments.append({"seconds": round(moment, 2), "kept": kept.name if kept else None, "files": names})
            print(moments[-1], flush=True)
        if not finished:
            last = command(music, killed, arguments.steps)
            done = subprocess.run(last, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr[-3000:])
                return 1
        different = differences(end_of(killed, arguments.steps), end_of(whole, arguments.steps))
    result = {"kills": len(moments) - finished, "steps": arguments.steps, "different": different, "moments": moments}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['kills']} kills; different at the end: {different or 'nothing'}")
    return int(bool(different) or result["kills"] < arguments.kills)


if __name__ == "__main__":
    sys.exit(main())
