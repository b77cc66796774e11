"""Probe representations.

`python -m mt2_music.train.probing.run --model DIR log-mel --data corpus=DIR --out results.json`

Embeds every clip once, fits one linear layer per task, readout and seed, and writes all scores. A run that is broken
off goes on where it was when it is started again.
"""

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cache import EmbeddingCache
from .clips import Clip, Splits
from .encoders import RANDOM_MODELS, STATISTICS, Encoder, MT2Encoder, load_encoder
from .heads import Keys
from .key_rules import KrumhanslTemplates, ZeroShotKey
from .metrics import load_metric
from .probe import Metric, probe
from .tasks import TASKS, Task

logger = logging.getLogger(__name__)

KRUMHANSL = "krumhansl"
PACKAGES = ("mt2-music", "torch", "transformers", "numpy", "mir_eval", "scikit-learn")
Scores = dict[str, dict[str, Any]]


class NoReadoutError(ValueError):
    """An encoder gives nothing that this kind of task could read."""


def run_task(
    task: Task, splits: Splits, encoder: Encoder, cache_dir: Path, seeds: Sequence[int], readouts: Sequence[str] = ()
) -> dict[str, Scores]:
    """Probe every readout of an encoder on one task.

    Args:
        task: what is asked.
        splits: its clips.
        encoder: what is probed.
        cache_dir: where embeddings are kept.
        seeds: one probe for each.
        readouts: which ones; all if empty.

    Returns:
        For every readout and every metric: mean, standard deviation over seeds, and values; and what validation chose.

    Raises:
        NoReadoutError: the encoder has none of these readouts for this kind of task.
        ValueError: a clip cannot be used.
    """
    cache = EmbeddingCache(cache_dir, encoder)
    cache.fill(clip for clips in splits.values() for clip in clips)
    example = cache(splits["train"][0])
    available = list(example.frames if task.head.in_time else example.vectors)
    chosen = [readout for readout in available if not readouts or readout in readouts]
    if not chosen:
        kind = "frames in time" if task.head.in_time else "vectors"
        wanted = f", least of all {', '.join(readouts)}" if readouts else ""
        raise NoReadoutError(f"it gives no {kind}{wanted}")
    metric = _metric(task)
    results = {}
    for readout in chosen:
        runs = [probe(cache, splits, readout, task.head, metric, task.main, seed) for seed in seeds]
        results[readout] = {
            "test": _summary([run.test for run in runs]),
            "validation": _summary([{task.main: run.validation} for run in runs]),
            "weight_decay": [run.weight_decay for run in runs],
        }
    return results


def run_rule(task: Task, splits: Splits, rule: Any, cache_dir: Path) -> Scores:
    """Score a rule that names keys without training: on the test split, once."""
    cache = EmbeddingCache(cache_dir, rule)
    clips = splits["test"]
    cache.fill(clips)
    answers = [rule.answer(cache(clip)) for clip in clips]
    return {"test": _summary([_metric(task)(answers, [task.head.reference(clip.label) for clip in clips])])}


def shuffled(splits: Splits, seed: int) -> Splits:
    """Return the splits with labels of training and validation dealt out anew: a probe must then fall to chance."""
    rng = np.random.default_rng(seed)

    def deal(clips: list[Clip]) -> list[Clip]:
        order = rng.permutation(len(clips))
        return [replace(clip, label=clips[int(other)].label) for clip, other in zip(clips, order, strict=True)]

    return {name: clips if name == "test" else deal(clips) for name, clips in splits.items()}


def _metric(task: Task) -> Metric:
    module = load_metric(task.metric)
    return lambda answers, references: module.compute(predictions=answers, references=references)


def _summary(scores: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "mean": float(np.mean([score[name] for score in scores])),
            "std": float(np.std([score[name] for score in scores], ddof=1)) if len(scores) > 1 else None,
            "values": [float(score[name]) for score in scores],
        }
        for name in scores[0]
    }


def _clips_hash(splits: Splits) -> str:
    """Hash of names and labels, so that scores of other data are never taken for finished."""
    named = [(split, clip.path.name, repr(clip.label)) for split, clips in splits.items() for clip in clips]
    return sha256(json.dumps(named).encode()).hexdigest()[:16]


def probe_model(
    source: str, tasks: dict[str, Task], data: dict[str, Splits], done: dict[str, Any], save: Any, arguments: Any
) -> None:
    """Add to `done` what is missing of one model's scores, and save after every task."""
    layers = None if arguments.layers == ["all"] else [int(layer) for layer in arguments.layers]
    if source == KRUMHANSL:
        rule: Any = KrumhanslTemplates()
        encoder, fingerprint = None, rule.fingerprint
    else:
        encoder = load_encoder(source, layers, arguments.trust_remote_code, arguments.device)
        rule = _zero_shot(encoder, arguments.transpositions)
        fingerprint = encoder.fingerprint if rule is None else rule.fingerprint
    if done.setdefault("fingerprint", fingerprint) != fingerprint:
        raise ValueError(f"{arguments.out} holds scores of another {source}: use another file")
    done["name"] = KRUMHANSL if encoder is None else encoder.name
    for name, task in tasks.items():
        splits = shuffled(data[name], 0) if arguments.shuffle_labels else data[name]
        key = {"clips": _clips_hash(splits), "seeds": list(arguments.seeds), "readouts": sorted(arguments.readouts)}
        scores = done.setdefault("tasks", {}).setdefault(name, {})
        if scores.get("of") == key:
            logger.info("%s: %s is there already", done["name"], name)
            continue
        started = time.perf_counter()
        readouts: dict[str, Scores] = {}
        skipped = ""
        if encoder is not None:
            try:
                readouts = run_task(task, splits, encoder, arguments.cache_dir, arguments.seeds, arguments.readouts)
            except NoReadoutError as error:
                skipped = str(error)
        if rule is not None and isinstance(task.head, Keys):
            readouts["no training" if encoder is None else "zero-shot"] = run_rule(
                task, splits, rule, arguments.cache_dir
            )
        elif encoder is None:
            skipped = "names keys only"
        scores.clear()
        scores |= {
            "of": key,
            "main": task.main,
            "sizes": {split: len(clips) for split, clips in splits.items()},
            "seconds": round(time.perf_counter() - started, 1),
            "readouts": readouts,
        }
        if skipped:
            scores["skipped"] = skipped
            logger.info("%s: %s left out: %s", done["name"], name, skipped)
        for readout, score in readouts.items():
            value = score["test"][task.main]
            spread = "" if value["std"] is None else f" +- {value['std']:.4f}"
            logger.info("%s, %s, %s: %s %.4f%s", done["name"], name, readout, task.main, value["mean"], spread)
        save()


def _zero_shot(encoder: Encoder, transpositions: int) -> ZeroShotKey | None:
    if not isinstance(encoder, MT2Encoder) or "equivariant" not in encoder.model.config.class_tokens:
        return None
    if encoder.model.config.key_calibration is None or not hasattr(encoder.model, "key_head"):
        return None
    return ZeroShotKey(encoder, transpositions)


def _choose_tasks(names: Sequence[str], data: dict[str, Path]) -> dict[str, Task]:
    chosen: dict[str, Task] = {}
    for name in names or sorted(data):
        matching = {key: task for key, task in TASKS.items() if name in (key, task.dataset, "all")}
        if name == "all":
            matching = {key: task for key, task in matching.items() if task.dataset in data}
        if not matching:
            raise ValueError(f"unknown task or data set {name!r}; tasks are {', '.join(TASKS)}")
        chosen |= matching
    without = sorted({task.dataset for task in chosen.values()} - set(data))
    if without:
        raise ValueError(f"say where the data is: {' '.join(f'--data {name}=DIR' for name in without)}")
    return chosen


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    baselines = ", ".join([*RANDOM_MODELS, *STATISTICS, KRUMHANSL, "constant"])
    parser.add_argument(
        "--model",
        nargs="+",
        required=True,
        help=f"folders or Hub names that AutoModel loads; module:function; or baselines: {baselines}",
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR", help="where each data set lies")
    parser.add_argument("--tasks", nargs="+", default=[], help="tasks or data sets (default: all of the data given)")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="scores; a begun file is completed")
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where embeddings are kept")
    parser.add_argument("--readouts", nargs="+", default=[], help="which ones (default: all)")
    parser.add_argument("--layers", nargs="+", default=[], help="hidden states to read besides the output, or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one probe each (default: 0 1 2)")
    parser.add_argument(
        "--transpositions", type=int, default=0, help="zero-shot keys: semitones up and down to average"
    )
    parser.add_argument("--shuffle_labels", action="store_true", help="a check: every score must fall to chance")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with models of others")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        places = dict(pair.split("=", 1) for pair in arguments.data if "=" in pair)
        if len(places) != len(arguments.data):
            raise ValueError(f"--data takes NAME=DIR, got {' '.join(arguments.data)}")
        folders = {name: Path(place).expanduser() for name, place in places.items()}
        tasks = _choose_tasks(arguments.tasks, folders)
        data = {name: task.load(folders[task.dataset]) for name, task in tasks.items()}
        results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"models": {}}

        def save() -> None:
            unfinished = arguments.out.with_name(arguments.out.name + ".part")
            unfinished.write_text(json.dumps(results, indent=1))
            os.replace(unfinished, arguments.out)

        # What a rendered corpus follows from, so that it can be rendered again.
        settings = {name: folder / "settings.json" for name, folder in folders.items()}
        described = {name: json.loads(path.read_text()) for name, path in settings.items() if path.is_file()}
        results["data"] = results.get("data", {}) | described
        results["versions"] = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
        for source in arguments.model:
            probe_model(source, tasks, data, results["models"].setdefault(source, {}), save, arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"scores in {arguments.out}; a table: python -m mt2_music.train.probing.report {arguments.out}")


if __name__ == "__main__":
    main()
