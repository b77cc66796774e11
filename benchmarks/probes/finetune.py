"""Fine-tuning against the frozen probe of the same model: `python benchmarks/probes/finetune.py --philharmonia DIR`.

Both name the instrument of the Philharmonia's recordings, with the splits of the benchmark: no note of an instrument
is on two sides. Epoch and settings were chosen on validation. Fine-tuning is done twice: of all weights, and by
adapters (LoRA). Writes finetune.md; run it on an idle machine.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from mt2_music.train.probing.loaders.philharmonia import load_philharmonia_instrument

TASK = "philharmonia-instrument"
# Of an instrument every note is to be known, also those between which it was recorded: pitch says nothing.
OPTIONS = ["--transpose_semitones", "3"]


def command(module: str, *options: object) -> float:
    """Run a command of the package; return the minutes it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"mt2_music.train.{module}", *map(str, options)], check=True)
    return (time.perf_counter() - start) / 60


def line(name: str, validation: float, test: float, minutes: float, steps: str) -> str:
    """Write a row of the table."""
    return f"| {name} | {validation:.1%} | {test:.1%} | {minutes:.1f} | {steps} |"


def main() -> None:
    """Probe, fine-tune, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--philharmonia", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--model", type=Path, default=Path("model_cards/mt2-small"))
    parser.add_argument("--work", type=Path, default=Path("finetune"), help="folder of table, scores and tuned model")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--lora", type=int, default=8, help="rank of the adapters; 0: no such row")
    parser.add_argument("options", nargs="*", default=OPTIONS, help="of finetune, after --")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    splits = load_philharmonia_instrument(arguments.philharmonia.resolve())
    with (work / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "group", "split"])
        for split, clips in splits.items():
            table.writerows([clip.path, clip.label, clip.group, split] for clip in clips)
    scores = work / "probe.json"
    place = ["--data", f"philharmonia={arguments.philharmonia}", "--tasks", TASK, "--cache_dir", work / "cache"]
    probe_minutes = command("probing.run", "--model", arguments.model, *place, "--out", scores)
    (probed,) = json.loads(scores.read_text(encoding="utf-8"))["models"].values()
    readouts = probed["tasks"][TASK]["readouts"]
    best = max(readouts, key=lambda name: readouts[name]["validation"]["accuracy"]["mean"])
    lines = [f"| {arguments.model.name} | validation | test | minutes | best of steps |", "|---|---:|---:|---:|---:|"]
    chosen = [readouts[best][split]["accuracy"]["mean"] for split in ("validation", "test")]
    lines.append(line(f"frozen probe ({best})", *chosen, probe_minutes, ""))
    tuning = ["--model", arguments.model, "--data", work / "labels.csv", "--task", "single", *arguments.options]
    runs = {"fine-tuned": [], f"fine-tuned by adapters of rank {arguments.lora}": ["--lora", arguments.lora]}
    for name, more in list(runs.items())[: 2 if arguments.lora else 1]:
        output = work / f"tuned{len(lines)}"
        minutes = command("finetune", *tuning, *more, "--output_dir", output)
        tuned = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
        chosen = [tuned[split]["accuracy"] for split in ("validation", "test")]
        lines.append(line(name, *chosen, minutes, f"{tuned['best_step']} of {tuned['steps']}"))
    sizes = ", ".join(f"{count} {split}" for split, count in tuned["recordings"].items())
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    note = (
        f"Accuracy over {len(tuned['labels'])} instruments; recordings: {sizes}. Options of finetune beside its "
        f"defaults: `{shlex.join(arguments.options) or 'none'}`. Seed {tuned['settings']['seed']}, torch threads: "
        f"{threads}. The probe's readout is the best on validation, over three seeds. Written by "
        "benchmarks/probes/finetune.py."
    )
    lines += ["", note]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
