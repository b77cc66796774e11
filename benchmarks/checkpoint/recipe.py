"""What each part of the recipe is worth: `python benchmarks/checkpoint/recipe.py --help` lists what it needs.

Trains the model of preset `gpu` for a few hundred steps under the recipe, and under every variant of it that changes
one thing, where the run is not there yet: in minutes of a GPU, or with fewer steps and songs on a CPU. Probes all of
them on the validation split of the benchmark, whose test split is not read; and writes recipe.json, which a command
that was broken off completes, and the table recipe.md. What was scored is kept as long as the run's settings are the
same: take it out of recipe.json to score it anew.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from mt2_music import MT2ForPreTraining
from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.clips import Splits
from mt2_music.train.probing.encoders import MT2Encoder, load_encoder
from mt2_music.train.probing.probe import fit_probe
from mt2_music.train.probing.rules import ZeroShotKey
from mt2_music.train.probing.tasks import TASKS, metric_of
from mt2_music.train.publish.calibrate import calibrate_key

STEPS, SONGS, SEED = 600, 128, 0
TRANSPOSITIONS = 3  # of zero-shot keys, as the published models are scored
FULL, RECORDINGS_ONLY = "full", "recordings"
VARIANTS: dict[str, tuple[str, list[str]]] = {
    FULL: ("the recipe", []),
    "seed": ("the recipe with another seed", ["--seed", "43"]),
    "no_frame": ("without the frame loss", ["--frame_weight", "0"]),
    "no_orchestration": ("only the same song is a positive", ["--orchestration_positives", "false"]),
    "equivariant": ("equivariant token alone", ["--class_tokens", "equivariant"]),
    "contrastive": ("contrastive token alone", ["--class_tokens", "contrastive"]),
    "renders": ("quads alone", ["--quad_share", "1"]),
    # Without quads there are too few songs for a batch in which long ones come more than once.
    RECORDINGS_ONLY: ("recordings alone", ["--minutes_per_draw", "2"]),
    "last_layer": ("contrastive token from the last layer", ["--contrastive_layer", "0"]),
    "no_tempo": ("without the tempo loss", ["--tempo_weight", "0"]),
    "no_solo": ("without NT-Xent among single instruments", ["--solo_nt_xent_weight", "0"]),
    "no_cepstrum": ("without reading the cepstrum", ["--cepstrum_weight", "0"]),
    "no_spectrum": ("without reading the spectrum", ["--spectrum_weight", "0"]),
}
COLUMNS = {
    "corpus-key": "key, MIREX",
    "zero-shot": "signature, zero-shot",
    "corpus-chord": "chords",
    "corpus-beat": "beats, F1",
    "corpus-tempo": "tempo",
    "corpus-instrument": "instruments, mAP",
    "philharmonia-instrument": "instrument of a note",
    "philharmonia-pitch": "pitch of a note",
}
ASKED = [name for name in COLUMNS if name in TASKS]


def train(variant: str, run: Path, arguments: argparse.Namespace) -> None:
    """Train one variant, on one thread where there is no GPU."""
    steps, songs = arguments.steps, arguments.songs
    words = ["--preset", "gpu", "--max_steps", steps, "--warmup_steps", steps // 25]
    words += ["--per_device_train_batch_size", songs, "--prepared_dir", arguments.prepared_dir]
    words += [] if variant == RECORDINGS_ONLY else ["--quads_dir", arguments.quads_dir]
    words += ["--output_dir", run, "--disable_tqdm", "true", *VARIANTS[variant][1]]
    command = [sys.executable, "-m", "mt2_music.train.pretrain", *map(str, words)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def make(variant: str, run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one variant, unless it is there, and return its scores."""
    if not (run / "model.safetensors").is_file():
        train(variant, run, arguments)
    return score(run, {"corpus": arguments.corpus, "philharmonia": arguments.philharmonia}, arguments.cache_dir)


def settings_of(run: Path) -> dict[str, Any]:
    """Return what a run was trained with."""
    return json.loads((run / "pretrain_settings.json").read_text(encoding="utf-8"))


def load_splits(task: str, folders: dict[str, Path]) -> Splits:
    """Return training and validation clips of a task; the test split is left empty."""
    return {**TASKS[task].load(folders[TASKS[task].dataset]), "test": []}


def score(run: Path, folders: dict[str, Path], cache_dir: Path) -> dict[str, Any]:
    """Return what validation says of every readout, by task."""
    torch.set_num_threads(1)
    encoder = load_encoder(str(run))
    cache = EmbeddingCache(cache_dir, encoder)
    scores: dict[str, Any] = {"identity": encoder.identity, "settings": settings_of(run), "tasks": {}}
    for name in ASKED:
        task, splits = TASKS[name], load_splits(name, folders)
        failed = cache.fill([clip for clips in splits.values() for clip in clips])
        if failed:
            raise ValueError(f"{len(failed)} clips of {name} cannot be embedded: {next(iter(failed.values()))}")
        example = cache(splits["train"][0])
        metric = metric_of(task)
        found = {
            readout: fit_probe(cache, splits, readout, task.head, metric, task.main, SEED).validation
            for readout in (example.frames if task.head.in_time else example.vectors)
        }
        scores["tasks"][name] = {"clips": len(splits["validation"]), "validation": found}
        best = max(found, key=lambda readout: found[readout])
        print(f"{run.name}, {name}: {100 * found[best]:.1f} from {best}", flush=True)
    signatures = zero_shot(encoder, folders, cache_dir)
    if signatures:
        scores["tasks"]["zero-shot"] = signatures
    return scores


def zero_shot(encoder: Any, folders: dict[str, Path], cache_dir: Path) -> dict[str, Any] | None:
    """Return the share of validation pieces whose signature the profile names; None of a model without one."""
    model = encoder.model
    assert isinstance(encoder, MT2Encoder) and isinstance(model, MT2ForPreTraining)
    if "equivariant" not in model.config.class_tokens:
        return None
    calibrate_key(model, encoder.extractor, folders["corpus"])
    clips = load_splits("corpus-key", folders)["validation"]
    head = TASKS["corpus-key"].head
    rule = ZeroShotKey(encoder, TRANSPOSITIONS)
    # What a rule answers is called the test split; here it holds validation clips.
    answers = rule.answers({"test": clips}, head, cache_dir, lambda *_: 0.0)
    truth = [head.reference(clip.label) for clip in clips]
    return {
        "clips": len(clips),
        "validation": {rule.readout: metric_of(TASKS["corpus-key"])(answers, truth)["signature"]},
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Write one row per variant, with differences to the whole recipe, and how to read them."""
    lines = ["| what is changed | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    best = {
        variant: {task: 100 * max(of["validation"].values()) for task, of in scores["tasks"].items()}
        for variant, scores in results.items()
    }
    for variant, (title, _) in VARIANTS.items():
        if variant not in results:
            continue
        cells = []
        for task in COLUMNS:
            value, whole = best[variant].get(task), best.get(FULL, {}).get(task)
            shown = "-" if value is None else f"{value:.1f}"
            told = variant != FULL and value is not None and whole is not None
            cells.append(f"{shown} ({value - whole:+.1f})" if told else shown)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", note(results)]) + "\n"


def note(results: dict[str, dict[str, Any]]) -> str:
    """Say what the figures are, and what they cannot tell."""
    some = results.get(FULL) or next(iter(results.values()))
    settings = some["settings"]
    clips = {task: of["clips"] for task, of in some["tasks"].items()}
    errors = ", ".join(f"{COLUMNS[task]} {50 / count**0.5:.1f} ({count})" for task, count in clips.items())
    missing = [title for variant, (title, _) in VARIANTS.items() if variant not in results]
    figures = (
        "Validation split, in percent; in brackets the difference to the recipe, in points. Preset gpu with "
        f"{settings['max_steps']} steps of {settings['songs_per_step']} songs, {settings['hours']:.1f} hours of "
        f"recordings and {settings['quad_hours']:.1f} hours of quads, all runs the same but for what is said. One "
        "linear probe on the best readout of each task, chosen on these very clips; signatures without a probe, "
        f"averaged over {TRANSPOSITIONS} semitones up and down. The test split was not read."
    )
    doubts = (
        "The row of another seed says how far luck alone goes; every other row is one seed of training, and all are "
        "one of the probe. Which clips the split holds alone is worth a standard error of up to 50/√n points of an "
        "accuracy, n clips: "
        f"{errors}; the same clips are asked of all rows, which makes differences a little surer. Rows of one token "
        "have fewer readouts to choose from. A run as short as this says what a part does early on; the published "
        "models were trained longer."
    )
    lines = [figures, "", doubts]
    if missing:
        lines += ["", f"Missing, not trained or not scored: {', '.join(missing)}."]
    return "\n".join([*lines, "", "Written by benchmarks/checkpoint/recipe.py."])


def main() -> None:
    """Train and score what is missing, write results after every model, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quads_dir", type=Path, help="quads, as benchmarks/checkpoint/checkpoint.py renders them")
    parser.add_argument("--prepared_dir", type=Path, help="recordings, prepared; both only where runs are missing")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of benchmarks/probes/baselines.sh")
    parser.add_argument("--philharmonia", type=Path, required=True, help="as the benchmark takes it")
    parser.add_argument("--runs", type=Path, default=Path("recipe"), help="folder of the runs, a folder abl_NAME each")
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where embeddings are kept")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants alone")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each run (default: {STEPS})")
    parser.add_argument("--songs", type=int, default=SONGS, help=f"in a step (default: {SONGS})")
    parser.add_argument("--jobs", type=int, default=2, help="variants trained and probed at a time")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    runs = {variant: arguments.runs / f"abl_{variant}" for variant in arguments.only}
    todo = {}
    for variant, run in runs.items():
        there = (run / "model.safetensors").is_file()
        if not there and not (arguments.quads_dir and arguments.prepared_dir):
            print(f"{variant}: no run in {run}, and no --quads_dir and --prepared_dir to train one")
        elif not there or results.get(variant, {}).get("settings") != settings_of(run):
            todo[variant] = run
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        scored = {pool.submit(make, variant, run, arguments): variant for variant, run in todo.items()}
        for done in as_completed(scored):
            results[scored[done]] = done.result()
            ordered = {variant: results[variant] for variant in VARIANTS if variant in results}
            write_text_atomic(arguments.out, json.dumps(ordered, indent=1) + "\n")
    if results:
        write_text_atomic(arguments.out.with_suffix(".md"), table(results))


if __name__ == "__main__":
    main()
