"""Probe representations.

`python -m mt2_music.train.probing.run --model DIR log-mel --data corpus=DIR --out results.json`

Embeds every clip once, fits one linear layer per task, readout and seed, and writes all scores. Started again, it
computes only what is missing: after an interrupted run, or for more models, tasks, layers or readouts.
"""

import argparse
import json
import logging
from pathlib import Path

import torch

from mt2_music.interrupts import command
from mt2_music.train.probing.encoders import RANDOM_MODELS, STATISTICS
from mt2_music.train.probing.rules import RULES

from .benchmark import Benchmark, choose_tasks

logger = logging.getLogger(__name__)


@command("probing", "scores and embeddings so far are kept; the same command goes on")
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
    parser.add_argument(
        "--out", type=Path, default=Path("results.json"), help="file of scores; an unfinished one is completed"
    )
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where embeddings are kept")
    parser.add_argument("--readouts", nargs="+", default=[], help="readouts to probe (default: all)")
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
        tasks = choose_tasks(arguments.tasks, folders)
        data = {name: task.load(folders[task.dataset]) for name, task in tasks.items()}
        results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {"models": {}}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        # What a rendered corpus follows from, so that it can be rendered again.
        settings = {name: folder / "settings.json" for name, folder in folders.items()}
        described = {
            name: json.loads(path.read_text(encoding="utf-8")) for name, path in settings.items() if path.is_file()
        }
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
