"""`mt2 embed`: embeddings of files, folders and data sets."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from mt2_music.interrupts import advise
from mt2_music.options import TABLE_SUFFIXES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 embed` takes, but for files and model, which all commands take."""
    add_collection_arguments(parser)
    parser.add_argument("--windows", action="store_true", help="also the vectors of all windows, with their times")
    parser.add_argument("--frames", action="store_true", help="also every frame")
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="between windows (default: their length)")


def add_collection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 index` takes too."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help=f"file ({', '.join(TABLE_SUFFIXES)}); or, for large collections, a folder of Parquet files, which an "
        "interrupted run continues",
    )
    parser.add_argument("--batch_size", type=int, help="windows at once: changes speed and memory, and no result")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps (default: a GPU where there is one)")
    parser.add_argument("--shards", type=int, default=1, help="into how many shares the files are divided")
    parser.add_argument("--shard", type=int, default=0, help="which share to embed, from 0")
    parser.add_argument("--dataset", help="embed the audio of a `datasets` data set, by name or path")
    parser.add_argument("--split", default="train", help="of the data set (default: %(default)s)")
    parser.add_argument("--audio_column", default="audio", help="of the data set (default: %(default)s)")
    parser.add_argument("--streaming", action="store_true", help="read the data set as a stream")
    parser.add_argument("--json", action="store_true", help="print one list of objects: what was done with every file")


def run(arguments: argparse.Namespace) -> int:
    """Write embeddings of songs to a file or a folder.

    Returns:
        0 when all files could be used, 1 when some could not.

    Raises:
        ValueError: options, output or model cannot be used.
    """
    from mt2_music.collection.archive import check_output
    from mt2_music.collection.stores import only_writer

    shard, shards, device = share_of_this_process(arguments)
    with wait_for_all_processes():
        to_folder = check_output(arguments.output, shards)
        with only_writer(arguments.output, shard, shards):
            return _run(arguments, shard, shards, device, to_folder)


@contextmanager
def wait_for_all_processes() -> Iterator[None]:
    """Leave only when all processes of this launch are done: a launcher ends those of a process that failed."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    import torch

    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def _run(arguments: argparse.Namespace, shard: int, shards: int, device: str, to_folder: bool) -> int:
    import numpy as np

    from mt2_music.collection.archive import (
        ArchiveWriter,
        check_settings,
        each_file,
        failures_file,
        finished_files,
        write_failures,
    )
    from mt2_music.collection.tables import make_row
    from mt2_music.music_model import load
    from mt2_music.storage import file_facts

    output = arguments.output
    model = load(arguments.model, device)
    options: dict[str, Any] = {"hop_seconds": arguments.hop, "frames": arguments.frames}
    if arguments.batch_size is not None:
        options["batch_size"] = arguments.batch_size
    embed: Any = partial(model.embed, **options)
    rate = model.extractor.sampling_rate
    embed(np.zeros(rate, np.float32), rate)  # options are refused once, and not for every file
    done: set[str] = set()
    if to_folder:
        check_settings(output, {"hop": arguments.hop, "windows": arguments.windows, "frames": arguments.frames})
        done = finished_files(output, model.source)

    table = ArchiveWriter(output, f"{shard:05d}-of-{shards:05d}" if to_folder else None)
    results: list[dict[str, Any]] = [{"file": name, "finished": True} for name in sorted(done)]
    warned: dict[str, str] = {}

    def work(sound: Any) -> Any:
        return file_facts(sound) if isinstance(sound, str) else {}, embed(sound)

    try:
        for name, result, error in each_file(_sources(arguments, shard, shards, done), work, warned):
            if result is None:
                results.append({"file": name, "error": error})
                continue
            facts, song = result
            warning = {"warning": warned[name]} if name in warned else {}
            results.append({"file": name, "seconds": round(song.seconds, 3), **warning})
            table.add(make_row(name, song, model.source, arguments.windows, arguments.frames, facts))
    except KeyboardInterrupt as stop:
        raise advise(stop, table.write_unfinished()) from None
    table.write()
    failures = [result for result in results if "error" in result]
    write_failures(failures_file(output, shard, shards), failures)
    if arguments.json:
        print(json.dumps(results, indent=1))
    if len(failures) == len(results):
        print("no file could be embedded; no embedding was written", file=sys.stderr)
    return int(bool(failures) or not results)


def share_of_this_process(arguments: argparse.Namespace) -> tuple[int, int, str]:
    """Return which share of how many this process has, and its device: as `accelerate launch` and torchrun say."""
    if not 0 <= arguments.shard < arguments.shards:
        raise ValueError(f"--shard must be from 0 to {arguments.shards - 1}, got {arguments.shard}")
    rank, world, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    device = arguments.device
    if device == "auto":
        from mt2_music.loading import default_device

        device = default_device(local)
    return arguments.shard * world + rank, arguments.shards * world, device


def check_sounds(arguments: argparse.Namespace) -> None:
    """Refuse a command without sounds, or with two kinds of them."""
    if bool(arguments.files) == bool(arguments.dataset):
        raise ValueError("give files or --dataset")


def dataset_rows(arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the names and cells of the data set, or of the stream."""
    from mt2_music.audio.datasets import audio_column, load_named_dataset, open_stream

    open_dataset = open_stream if arguments.streaming else load_named_dataset
    cells = audio_column(open_dataset(arguments.dataset, arguments.split), arguments.audio_column)
    for number, row in enumerate(cells):
        yield f"{arguments.dataset} {arguments.split} row {number}", row[arguments.audio_column]


def _sources(arguments: argparse.Namespace, shard: int, shards: int, done: set[str]) -> Any:
    """Return the names and songs of this share that are not done yet: a list, or an iterator over a stream."""
    from mt2_music.cli.songs import named_files

    check_sounds(arguments)
    if not arguments.dataset:
        files = named_files(arguments.files)[shard::shards]
        return [(name, path) for name, path in files if name not in done]
    share = (item for number, item in enumerate(dataset_rows(arguments)) if number % shards == shard)
    return (item for item in share if item[0] not in done)
