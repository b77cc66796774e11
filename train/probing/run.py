"""Probe representations.

`python -m mt2_music.train.probing.run --model DIR log-mel --data corpus=DIR --out results.json`

Embeds every clip once, fits one linear layer per task, readout and seed, and writes all scores. Started again, it
completes what is missing: after a run that was broken off, or for more models, tasks, layers or readouts.
"""

import argparse
import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mt2_music.files import write_whole
from mt2_music.modeling_mt2 import MT2ForAudioClassification, MT2ForPreTraining

from .cache import EmbeddingCache, content_of
from .clips import Clip, Splits
from .encoders import RANDOM_MODELS, STATISTICS, Encoder, MT2Encoder, load_encoder
from .probe import BATCH_SIZES, LEARNING_RATE, MAX_STEPS, PATIENCE, WEIGHT_DECAYS, probe
from .rules import RULES, NamedKey, Rule, ZeroShotKey
from .tasks import TASKS, Task, metric_of

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
    """Return the splits with labels of training and validation dealt out anew: a probe must then fall to chance."""
    rng = np.random.default_rng(seed)

    def deal(clips: list[Clip]) -> list[Clip]:
        order = rng.permutation(len(clips))
        return [replace(clip, label=clips[int(other)].label) for clip, other in zip(clips, order, strict=True)]

    return {name: clips if name == "test" else deal(clips) for name, clips in splits.items()}


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
    clips = [(name, content_of(clip), repr(clip.label)) for name, clips in splits.items() for clip in clips]
    return {
        "clips": sha256(json.dumps(clips).encode()).hexdigest()[:16],
        "shuffled": shuffle,
        "protocol": sha256(repr(PROTOCOL).encode()).hexdigest()[:16],
    }


def _embedded(splits: Splits, cache: EmbeddingCache) -> tuple[Splits, dict[str, str]]:
    """Embed all clips; return the splits without those that cannot be, and these with the reason."""
    clips = [clip for some in splits.values() for clip in some]
    failed = cache.fill(clips)
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
            splits, left_out = _embedded(splits, cache)
            readouts |= run_task(task, splits, cache, self.arguments.seeds, self.arguments.readouts, readouts)
        for rule in rules:
            if rule.suits(task.head) and readouts.get(rule.readout, {}).get("rule") != rule.identity:
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
        write_whole(self.arguments.out, json.dumps(self.results, indent=1))


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
    baselines = ", ".join([*RANDOM_MODELS, *STATISTICS, *RULES, "constant"])
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
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        # What a rendered corpus follows from, so that it can be rendered again.
        settings = {name: folder / "settings.json" for name, folder in folders.items()}
        described = {name: json.loads(path.read_text()) for name, path in settings.items() if path.is_file()}
        results["data"] = results.get("data", {}) | described
        benchmark = Benchmark(arguments, tasks, data, results)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for source in arguments.model:
        try:
            benchmark.run_model(source)
        except (ValueError, OSError) as error:
            benchmark.failures.append(f"{source}: {error}")
            logger.error("%s: failed: %s", source, error)
    print(f"scores in {arguments.out}; a table: python -m mt2_music.train.probing.report {arguments.out}")
    if benchmark.failures:
        raise SystemExit("\n".join(["not everything could be scored:", *benchmark.failures]))


if __name__ == "__main__":
    main()
