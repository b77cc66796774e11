"""What gets a small model off CPSD's plateaus: `python benchmarks/recipe.py --corpus corpus --prepared_dir prepared`.

Trains a model of half a million parameters under the recipe and under every variant of it that changes one thing, with
several seeds, and listens to validation pieces of a rendered corpus while it trains. Writes recipe.json, which a run
that was broken off completes, and the table recipe.md. The training split of the corpus must have been prepared:
`python -m mt2_music.train.prepare --audio_dir corpus/audio/train --output_dir prepared`.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from mt2_music import MT2FeatureExtractor
from mt2_music.storage import write_text_atomic
from mt2_music.train.pretrain import losses
from mt2_music.train.pretrain.callbacks import OnlineProbe
from mt2_music.train.pretrain.run import load_audio, make_trainer, parse_arguments
from mt2_music.train.pretrain.trainer import RepresentationCollapseError

STEPS, LOOK_EVERY = 240, 20
GOAL = 0.5  # share of right key signatures whose first time is counted
# A run ends early when it has reached the goal at two looks in a row, or is still below the hopeless share by then.
DECIDED_STEP, HOPELESS = 140, 0.2
COMPARED_STEPS = (100, 120, 140)  # looks whose mean compares all variants after the same training
BASE = {
    "preset": "demo", "max_steps": STEPS, "warmup_steps": 24, "save_strategy": "no", "save_steps": STEPS,
    "logging_steps": LOOK_EVERY, "use_cpu": True, "disable_tqdm": True, "report_to": "none",
}  # fmt: skip
PAPER = {
    "chroma_init": False, "center_profile": False, "profile_gain": 1, "cqt_scale": "decibel", "transpose_b": False,
    "mel_views": "all", "nt_xent_weight": 1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "plain start instead of chroma": {"chroma_init": False},
    "constant-Q in decibels": {"cqt_scale": "decibel"},
    "constant-Q magnitude to the power 1": {"cqt_power": 1.0},
    "logits not centred, gain 6": {"center_profile": False, "profile_gain": 6},
    "centred logits with gain 1": {"profile_gain": 1},
    "B transposed as A (as published)": {"transpose_b": False},
    "B transposed as A, two-window terms 0.1": {"transpose_b": False, "two_window_weight": 0.1},
    "B transposed as A, two-window terms rising from 0 to 1": {"transpose_b": False, "curriculum": True},
    "mel half shown in every view (as published)": {"mel_views": "all"},
    "cosine form of CPSD": {"cosine": True},
    "transpositions of 3 semitones at most": {"max_transposition": 3},
    "windows of 1.5 s": {"window_seconds": 1.5},
    "NT-Xent with weight 1 (as published)": {"nt_xent_weight": 1},
    "losses weighted by gradient norm": {"nt_xent_weight": 1, "loss_weighting": "gradient_norm"},
    "augmented: 6 dB, half of windows band-limited and noisy": {
        "augment_gain_db": 6, "augment_band_share": 0.5, "augment_noise_share": 0.5,
    },
    "all as published": PAPER,
}  # fmt: skip


class RisingWeight(TrainerCallback):
    """The curriculum: the weight of the terms between different windows rises evenly through the run."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the weight of this step."""
        args.two_window_weight = state.global_step / state.max_steps


def cosine_distance(profile: torch.Tensor, transposed: torch.Tensor, semitones: torch.Tensor) -> torch.Tensor:
    """Measure the angle between profiles, and how far both are from the circle; as `transposition_distance`."""
    first, second = (torch.view_as_complex(losses.profile_phase(y).contiguous()) for y in (profile, transposed))
    wanted = torch.polar(torch.ones_like(semitones), 2 * torch.pi * losses.CIRCLE_OF_FIFTHS * semitones / 12)
    cosine = (wanted.conj() * second * first.conj()).real / (first.abs() * second.abs() + 1e-3)
    return 1 - cosine + 0.15 * ((1 - first.abs()) ** 2 + (1 - second.abs()) ** 2)


class Curve(TrainerCallback):
    """Listens while a model trains, and notes what it hears and how long it has trained."""

    def __init__(self, probe: OnlineProbe) -> None:
        self.probe = probe
        self.points: list[dict[str, float]] = []
        self.seconds = 0.0
        self._since = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._since = time.process_time()  # of one thread: what else the machine does takes nothing from it

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock, and listen when it is time to."""
        self.seconds += time.process_time() - self._since
        if state.global_step % LOOK_EVERY == 0:
            scores = self.probe.measure(kwargs["model"])
            self.points.append({"step": state.global_step, "seconds": round(self.seconds, 2), **scores})
            reached = all(point["probe_key"] >= GOAL for point in self.points[-2:])
            decided = reached or self.points[-1]["probe_key"] < HOPELESS
            control.should_training_stop |= decided and state.global_step >= DECIDED_STEP


@lru_cache
def open_probe(corpus: str, extractor_settings: str) -> OnlineProbe:
    """Open the pieces that are listened to, once in a process for every front end."""
    return OnlineProbe(corpus, MT2FeatureExtractor.from_dict(json.loads(extractor_settings)), LOOK_EVERY)


def run(corpus: str, prepared_dir: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once."""
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    changes = dict(VARIANTS[variant])
    cosine, curriculum = changes.pop("cosine", False), changes.pop("curriculum", False)
    with tempfile.TemporaryDirectory() as output_dir:
        settings = {**BASE, "prepared_dir": prepared_dir, "output_dir": output_dir, "seed": seed, **changes}
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        arguments, training = parse_arguments(words)
        trainer = make_trainer(arguments, training, load_audio(arguments))
        curve = Curve(open_probe(corpus, trainer.processing_class.to_json_string()))
        trainer.add_callback(curve)
        if curriculum:
            trainer.add_callback(RisingWeight())
        collapsed = ""
        distance = cosine_distance if cosine else losses.transposition_distance
        with mock.patch.object(losses, "transposition_distance", distance):
            try:
                trainer.train()
            except RepresentationCollapseError as error:
                collapsed = str(error)
        log = [entry for entry in trainer.state.log_history if "loss_cpsd" in entry]
    return {
        "curve": curve.points,
        "loss_cpsd": [round(float(entry["loss_cpsd"]), 4) for entry in log],
        "collapsed": collapsed,
    }


def table(results: dict[str, dict[str, Any]], settings: str) -> str:
    """Write all results as Markdown."""
    titles = (
        f"| variant | runs | first {GOAL:.0%} right: steps | seconds | right | or a fifth off | instruments | CPSD |"
    )
    lines = [titles, "|---|---:|---|---|---:|---:|---:|---:|"]
    for variant in VARIANTS:
        runs = [results[name] for name in sorted(results) if name.rpartition(", seed ")[0] == variant]
        runs = [one for one in runs if one["curve"]]
        if not runs:
            continue
        reached = [next((p for p in one["curve"] if p["probe_key"] >= GOAL), None) for one in runs]
        steps = ", ".join(f"{point['step']:g}" if point else "-" for point in reached)
        seconds = ", ".join(f"{point['seconds']:.0f}" if point else "-" for point in reached)
        cells = [variant, f"{len(runs)}", steps, seconds]
        for name in ("probe_key", "probe_key_fifth", "probe_instruments"):
            means = [
                np.mean([p.get(name, np.nan) for p in one["curve"] if p["step"] in COMPARED_STEPS]) for one in runs
            ]
            scale, digits = (1, 2) if name == "probe_instruments" else (100, 0)
            mean, deviation = scale * np.mean(means), scale * np.std(means)
            cells.append("-" if np.isnan(mean) else f"{mean:.{digits}f} ± {deviation:.{digits}f}")
        place = DECIDED_STEP // LOOK_EVERY - 1
        cells.append(f"{np.mean([one['loss_cpsd'][place] for one in runs]):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + settings + "\n"


def main() -> None:
    """Run what is missing, write results after every run, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="rendered corpus; its validation pieces are listened to")
    parser.add_argument("--prepared_dir", required=True, help="its training split, prepared")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants alone")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    todo = [(v, seed) for seed in arguments.seeds for v in arguments.only if f"{v}, seed {seed}" not in results]
    settings = (
        "Zero-shot key signatures of 96 validation pieces (chance 8.3, within a fifth 25), calibrated on composed "
        f"pieces. Preset demo with {STEPS} steps, one thread a run, {arguments.jobs} runs at a time; each variant "
        "changes one thing. Steps and seconds of one core that each seed trained until the first look, one every "
        f"{LOOK_EVERY} steps, with {GOAL:.0%} right; - where {STEPS} steps were not enough, or less than "
        f"{HOPELESS:.0%} were right after {DECIDED_STEP}. Right, and right or a fifth off: percent, mean of the looks "
        f"after {', '.join(map(str, COMPARED_STEPS))} steps, and its deviation over seeds. Instruments: how well the "
        "nearest pieces by the contrastive token share a piece's instruments; 1 is chance. CPSD: over the "
        f"{LOOK_EVERY} steps before step {DECIDED_STEP}. Written by benchmarks/recipe.py."
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        runs = {pool.submit(run, arguments.corpus, arguments.prepared_dir, *one): one for one in todo}
        for done in as_completed(runs):
            variant, seed = runs[done]
            results[f"{variant}, seed {seed}"] = done.result()
            write_text_atomic(arguments.out, json.dumps(results, indent=None).replace('}, "', '},\n"') + "\n")
            print(
                f"{len(results)}: {variant}, seed {seed}: {results[f'{variant}, seed {seed}']['curve'][-1:]}",
                flush=True,
            )
    write_text_atomic(arguments.out.with_suffix(".md"), table(results, settings))


if __name__ == "__main__":
    main()
