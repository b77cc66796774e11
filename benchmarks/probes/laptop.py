"""Scores of the preset laptop after twenty minutes of training: `python benchmarks/probes/laptop.py --corpus corpus`.

Trains it on the training split of a corpus (benchmarks/probes/baselines.sh). Scores the key signatures of the test
pieces, which are played with a SoundFont that occurs nowhere else: zero-shot, with Krumhansl's templates, and with
linear probes on the tokens. Writes laptop.json, laptop.md, and the curve laptop.png.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SCORES = ("signature", "fifth", "mirex", "accuracy")
READOUTS = ("zero-shot", "no training", "equivariant", "contrastive", "mean")


def command(module: str, *options: object) -> float:
    """Run a command of the package; return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"mt2_music.train.{module}", *map(str, options)], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Train, publish, probe, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="rendered corpus")
    parser.add_argument("--work", type=Path, default=Path("laptop"), help="folder of the run and the model")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    corpus, work, out = arguments.corpus, arguments.work, arguments.out
    command("prepare", "--audio_dir", corpus / "audio" / "train", "--output_dir", work / "prepared")
    place = ["--prepared_dir", work / "prepared", "--output_dir", work / "run", "--probe_corpus", corpus]
    seconds = command("pretrain", "--preset", "laptop", *place, "--use_cpu", "true", "--disable_tqdm", "true")
    command("publish", work / "run", work / "mt2-laptop", "--replace")
    data = ["--data", f"corpus={corpus}", "--tasks", "corpus-key", "--cache_dir", work / "cache"]
    models = [work / "mt2-laptop", "krumhansl"]
    out.with_suffix(".json").unlink(missing_ok=True)
    command("probing.run", "--model", *models, *data, "--out", out.with_suffix(".json"))
    command("plots", "--run", work / "run", "--output_dir", work)
    shutil.move(work / "run training.png", out.with_suffix(".png"))
    lines = ["| model | readout | " + " | ".join(SCORES) + " |", "|---|---|" + "---:|" * len(SCORES)]
    for model in json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["models"].values():
        readouts = model["tasks"]["corpus-key"]["readouts"]
        for readout in (name for name in READOUTS if name in readouts):
            values = [readouts[readout]["test"][score] for score in SCORES]
            cells = [f"{value['mean']:.1%}" + (f" ± {value['std']:.1%}" if value["std"] else "") for value in values]
            lines.append(f"| {model['name']} | {readout} | " + " | ".join(cells) + " |")
        clips = model["tasks"]["corpus-key"]["sizes"]["test"]
    steps = json.loads((work / "run" / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    note = (
        f"Key signatures of {clips} test pieces in one key, with a SoundFont that occurs nowhere else: right, or "
        "one fifth off (chance 8.3 % and 16.7 %); the MIREX score, and the accuracy of keys with their mode, of which "
        f"the zero-shot readout knows nothing and says major. {steps} steps in {seconds / 60:.0f} minutes on "
        f"{os.cpu_count()} cores, with the looks in between. The curve, on validation pieces: laptop.png. Written by "
        "benchmarks/probes/laptop.py."
    )
    lines += ["", note]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
