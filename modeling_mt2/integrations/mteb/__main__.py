"""Score a model on the audio tasks of MTEB.

`python -m mt2_music.integrations.mteb --model mt2-small --tasks GTZANGenre --output scores`

Without `--tasks`, on those of "MAEB(v1, audio-only)". Data sets are downloaded from the Hub, or read from a copy:
`--data GTZANGenre=DIR`. Scores are written as MTEB's own command writes them, one JSON file a task; started again, the
command computes only what is missing.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from mt2_music.audio.datasets import decoding_without_torchcodec
from mt2_music.interrupts import command

BENCHMARK = "MAEB(v1, audio-only)"


@command("mteb", "scores of finished tasks are kept; the same command goes on")
def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when all tasks were scored, 1 when some were not, 2 when nothing was tried.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        default="mt2-small",
        help="folder, Hub name or short name of a published model (default: %(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help=f"names in MTEB (default: those of {BENCHMARK})")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="folder with a copy of a task's data set, or with other sounds of its form; the scores say so",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of scores; what is missing is added")
    parser.add_argument(
        "--readout", default="mean", help="mean, equivariant, contrastive, or both of these (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: a GPU where there is one)")
    arguments = parser.parse_args(argv)
    logging.getLogger("mteb.evaluate").setLevel(logging.CRITICAL)  # what it says of tasks that fail is printed below
    try:
        from . import MT2Encoder

        tasks = choose_tasks(arguments.tasks, arguments.data)
        encoder = MT2Encoder(arguments.model, device=arguments.device, readout=arguments.readout)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    import mteb

    cache = mteb.ResultCache(arguments.output)
    failures = 0
    for task in tasks:
        before = cache.load_task_result(task.metadata.name, encoder.mteb_model_meta)
        other_data = before is not None and before.dataset_revision != task.metadata.revision
        with decoding_without_torchcodec():
            result = mteb.evaluate(
                encoder,
                task,
                cache=cache,
                overwrite_strategy="always" if other_data else "only-missing",
                raise_error=False,
                show_progress_bar=False,
            )
        for scored in result.task_results:
            print(f"{scored.task_name}: {task.metadata.main_score} {scored.get_score():.4f}", flush=True)
        for failure in result.exceptions or []:
            failures += 1
            print(f"{failure.task_name}: no score: {failure.exception}", file=sys.stderr)
    if failures < len(tasks):
        print(f"scores are in {arguments.output}")
    return int(failures > 0)


def choose_tasks(names: list[str] | None, places: list[str]) -> list[Any]:
    """Return tasks of MTEB that take audio alone.

    Args:
        names: None for those of the benchmark.
        places: "NAME=DIR" for those whose data sets are to be read from a folder. In their scores, the revision of the
            data set is that folder's name: they are never taken for those of the data set on the Hub.

    Raises:
        ValueError: there is no such task, or it takes more than audio; or a place is of none of the tasks.
        FileNotFoundError: a folder is missing.
    """
    import mteb

    known = mteb.get_benchmark(BENCHMARK).tasks if names is None else None
    try:
        tasks = list(known or mteb.get_tasks(tasks=names))
    except KeyError as error:
        raise ValueError(f"of MTEB's tasks, {error.args[0].removeprefix('KeyError: ')}") from error
    for task in tasks:
        if task.metadata.modalities != ["audio"]:
            raise ValueError(f"{task.metadata.name} takes {' and '.join(task.metadata.modalities)}, not audio alone")
    by_name = {task.metadata.name: task for task in tasks}
    for place in places:
        name, _, folder = place.partition("=")
        if name not in by_name:
            raise ValueError(f"--data takes NAME=DIR with the name of a task to be scored, got {place}")
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"--data {place}: there is no folder {folder!r}")
        metadata = by_name[name].metadata
        dataset = {**metadata.dataset, "path": folder, "revision": f"folder {Path(folder).resolve().name}"}
        by_name[name].metadata = metadata.model_copy(update={"dataset": dataset})
    return tasks


if __name__ == "__main__":
    sys.exit(main())
