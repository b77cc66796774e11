"""`mt2 index`: a collection that `mt2 similar` searches, made or brought up to date."""

import argparse
import json
import sys
from typing import Any

from .embed import (
    add_collection_arguments,
    check_sounds,
    dataset_rows,
    share_of_this_process,
    wait_for_all_processes,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 index` takes, but for files and model, which all commands take."""
    add_collection_arguments(parser)
    parser.add_argument(
        "--keep_missing", "--keep-missing", action="store_true", help="keep songs in the index whose files are gone"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make an index of songs, or bring one up to date: only what changed is embedded again.

    Returns:
        0 when all files could be used, 1 when some could not.

    Raises:
        ValueError: options, output or model cannot be used, or another process writes to the output.
    """
    shard, shards, device = share_of_this_process(arguments)
    with wait_for_all_processes():
        return _run(arguments, shard, shards, device)


def _run(arguments: argparse.Namespace, shard: int, shards: int, device: str) -> int:
    from mt2_music.collection.archive import check_output, failures_file, write_failures
    from mt2_music.collection.index import SongFile, find_songs
    from mt2_music.music_model import load

    check_sounds(arguments)
    check_output(arguments.output, shards)
    songs: Any = find_songs(arguments.files)
    if arguments.dataset:
        songs = (SongFile(name, cell, "", name, name) for name, cell in dataset_rows(arguments))
    model = load(arguments.model, device)
    options = {} if arguments.batch_size is None else {"batch_size": arguments.batch_size}
    share = {"shard": shard, "shards": shards}
    report = model.refresh(songs, arguments.output, keep_missing=arguments.keep_missing, **share, **options)
    failures = [{"file": name, "error": error} for name, error in report.failures.items()]
    write_failures(failures_file(arguments.output, shard, shards), failures)
    for root, number in report.kept.items():
        reason = "are kept" if arguments.keep_missing else "stay: it is missing or empty, such as a disk that is off"
        print(f"{number} songs of {root} are not there, and {reason}", file=sys.stderr)
    print(report, file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        rows: list[dict[str, Any]] = [{"file": name, "finished": True} for name in report.unchanged]
        rows += [{"file": name, "moved_from": before} for name, before in report.moved.items()]
        rows += [{"file": name, "dropped": True} for name in report.dropped]
        rows += [{"file": name, "seconds": round(seconds, 3)} for name, seconds in report.embedded.items()]
        print(json.dumps(rows + failures, indent=1))
    return int(bool(failures))
