"""Models, tasks and seeds to a file of scores."""

import argparse
import json
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.modeling_mt2 import MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.cache import EmbeddingCache, clip_hash
from mt2_music.train.probing.clips import Clip, Splits
from mt2_music.train.probing.encoders import Encoder, MT2Encoder, load_encoder
from mt2_music.train.probing.probe import BATCH_SIZES, LEARNING_RATE, MAX_STEPS, PATIENCE, WEIGHT_DECAYS, probe
from mt2_music.train.probing.rules import RULES, NamedKey, Rule, ZeroShotKey
from mt2_music.train.probing.tasks import TASKS, Task, metric_of

logger = logging.getLogger(__name__)

PACKAGES = ("mt2-music", "torch", "transformers", "numpy", "mir_eval", "scikit-learn")
PROTOCOL = ["metric", WEIGHT_DECAYS, LEARNING_RATE, BATCH_SIZES, MAX_STEPS, PATIENCE]
Scores = dict[str, Any]


def run_task(
    task: Task,
    splits: Splits,
    cache: EmbeddingCache,
    seeds: Sequence[int],
    readouts: Sequence[str] = (),
    done: dict[str, Scores] | None = None,
) -> dict[str, Scores]:
    """Probe the readouts of an encoder on one task.

    Args:
        task: what is asked.
        splits: its clips.
        cache: embeddings of the encoder, with frames if the task is one in time.
        seeds: one probe for each.
        readouts: which ones; all if empty.
        done: scores from before; those of the same seeds are kept.

    Returns:
        For every readout: the seeds, and for every metric on test, and the main one on validation, mean, standard
        deviation over seeds and values; and the weight decays that validation chose. Empty if the encoder gives
        nothing that this kind of task could read.
    """
    example = cache(splits["train"][0])
    available = list(example.frames if task.head.in_time else example.vectors)
    metric = metric_of(task)
    results = {}
    for readout in available:
        before = (done or {}).get(readout, {})
        if before.get("seeds") == list(seeds):
            results[readout] = before
        elif not readouts or readout in readouts:
            runs = [probe(cache, splits, readout, task.head, metric, task.main, seed) for seed in seeds]
            results[readout] = {
                "seeds": list(seeds),
                "test": _summary([run.test for run in runs]),
                "validation": _summary([{task.main: run.validation} for run in runs]),
                "weight_decay": [run.weight_decay for run in runs],
            }
    return results


def run_rule(task: Task, splits: Splits, rule: Rule, cache_dir: Path) -> Scores:
    """Score a rule that needs no probe, once, on the test split."""
    metric = metric_of(task)
    answers = rule.answers(splits, task.head, cache_dir, lambda tried, truth: metric(tried, truth)[task.main])
    truth = [task.head.reference(clip.label) for clip in splits["test"]]
    return {"rule": rule.identity, "test": _summary([metric(answers, truth)])}


def shuffled(splits: Splits, seed: int) -> Splits:
    """Return the splits with shuffled labels of training and validation: a probe must then fall to chance."""
    rng = np.random.default_rng(seed)

    def shuffle_labels(clips: list[Clip]) -> list[Clip]:
        order = rng.permutation(len(clips))
        return [replace(clip, label=clips[int(other)].label) for clip, other in zip(clips, order, strict=True)]

    return {name: clips if name == "test" else shuffle_labels(clips) for name, clips in splits.items()}


def _summary(scores: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "mean": float(np.mean([score[name] for score in scores])),
            "std": float(np.std([score[name] for score in scores], ddof=1)) if len(scores) > 1 else None,
            "values": [float(score[name]) for score in scores],
        }
        for name in scores[0]
    }


def identify(splits: Splits, shuffle: bool) -> dict[str, Any]:
    """Return what scores depend on besides encoder, readout and seed: audio, labels, and how the probe is fitted."""
    clips = [(name, clip_hash(clip), repr(clip.label)) for name, clips in splits.items() for clip in clips]
    return {
        "clips": sha256(json.dumps(clips).encode()).hexdigest()[:16],
        "shuffled": shuffle,
        "protocol": sha256(repr(PROTOCOL).encode()).hexdigest()[:16],
    }


def _usable(splits: Splits, find_unusable: Callable[[list[Clip]], dict[Clip, str]]) -> tuple[Splits, dict[str, str]]:
    """Return the splits without the clips that cannot be used, and these with the reason.

    Raises:
        ValueError: more than half cannot be.
    """
    clips = [clip for some in splits.values() for clip in some]
    failed = find_unusable(clips)
    for clip, reason in failed.items():
        logger.warning("left out %s: %s", clip.path, reason)
    if len(failed) > len(clips) / 2:
        raise ValueError(
            f"{len(failed)} of {len(clips)} clips cannot be used; the first: {next(iter(failed.values()))}"
        )
    kept = {name: [clip for clip in some if clip not in failed] for name, some in splits.items()}
    return kept, {str(clip.path): reason for clip, reason in failed.items()}


class Benchmark:
    """One run of the command: tasks, results, and where they are saved.

    Args:
        arguments: of the command line.
        tasks: what is asked, by name.
        data: clips of every task.
        results: of this run and those before it.
    """

    def __init__(
        self, arguments: argparse.Namespace, tasks: dict[str, Task], data: dict[str, Splits], results: dict[str, Any]
    ) -> None:
        self.arguments = arguments
        self.tasks = tasks
        self.data = {
            name: shuffled(splits, 0) if arguments.shuffle_labels else splits for name, splits in data.items()
        }
        self.identities = {name: identify(splits, arguments.shuffle_labels) for name, splits in self.data.items()}
        self.results = results
        self.failures: list[str] = []

    def run_model(self, source: str) -> None:
        """Probe one model on all tasks; a task that fails is noted and stops nothing.

        Raises:
            ValueError: there is no such model, or the results hold another one under its name.
        """
        arguments = self.arguments
        encoder: Encoder | None = None
        rules: list[Rule] = []
        if source in RULES:
            rules = [RULES[source]()]
            name, identity = source, rules[0].identity
        else:
            layers = None if arguments.layers == ["all"] else [int(layer) for layer in arguments.layers]
            encoder = load_encoder(source, layers, arguments.trust_remote_code, arguments.device)
            name, identity = encoder.name, encoder.identity
            rules = _without_probe(encoder, arguments.transpositions)
        models = self.results["models"]
        if any(other != source and model["name"] == name for other, model in models.items()):
            name = source
        model = models.setdefault(source, {"name": name, "identity": identity, "tasks": {}})
        if model["identity"] != identity:
            raise ValueError(f"{arguments.out} holds scores of another {source}: use another file")
        for task in self.tasks:
            try:
                self._run_task(task, model, encoder, rules)
            except (ValueError, OSError) as error:
                self.failures.append(f"{name}, {task}: {error}")
                logger.error("%s, %s: failed: %s", name, task, error)
            self.save()

    def _run_task(self, name: str, model: dict[str, Any], encoder: Encoder | None, rules: list[Rule]) -> None:
        task, splits, cache_dir = self.tasks[name], self.data[name], self.arguments.cache_dir
        of = self.identities[name]
        before = model["tasks"].get(name, {"of": of, "readouts": {}})
        if before["of"] != of:
            logger.info("%s, %s: scores of other data or settings are replaced", model["name"], name)
        readouts = dict(before["readouts"]) if before["of"] == of else {}
        left_out: dict[str, str] = {}
        if encoder is not None:
            cache = EmbeddingCache(cache_dir, encoder, with_frames=task.head.in_time)
            splits, left_out = _usable(splits, cache.fill)
            readouts |= run_task(task, splits, cache, self.arguments.seeds, self.arguments.readouts, readouts)
        for rule in rules:
            if rule.suits(task.head) and readouts.get(rule.readout, {}).get("rule") != rule.identity:
                asked = {name: splits[name] for name in ("validation", "test")}
                asked, without = _usable(asked, partial(rule.unusable, cache_dir=cache_dir))
                splits, left_out = splits | asked, left_out | without
                readouts[rule.readout] = run_rule(task, splits, rule, cache_dir)
        if readouts == before["readouts"]:
            state = "is there already" if readouts else "is nothing it answers"
            logger.info("%s: %s %s", model["name"], name, state)
            return
        model["tasks"][name] = {
            "of": of,
            "main": task.main,
            "readouts": readouts,
            "sizes": {split: len(clips) for split, clips in splits.items()},
            "left_out": left_out,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        }
        for readout, score in readouts.items():
            value = score["test"][task.main]
            spread = "" if value["std"] is None else f" +- {value['std']:.4f}"
            logger.info("%s, %s, %s: %s %.4f%s", model["name"], name, readout, task.main, value["mean"], spread)

    def save(self) -> None:
        """Write all results; the file is whole at any time."""
        write_text_atomic(self.arguments.out, json.dumps(self.results, indent=1))


def _without_probe(encoder: Encoder, transpositions: int) -> list[Rule]:
    if not isinstance(encoder, MT2Encoder):
        return []
    if isinstance(encoder.model, MT2ForAudioClassification):
        return [NamedKey(encoder, transpositions)]
    if not isinstance(encoder.model, MT2ForPreTraining):
        return []
    config = encoder.model.config
    if "equivariant" not in config.class_tokens or config.key_calibration is None:
        return []
    return [ZeroShotKey(encoder, transpositions)]


def choose_tasks(names: Sequence[str], data: dict[str, Path]) -> dict[str, Task]:
    """Return the tasks of the names and data sets given, or all of the data given."""
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
