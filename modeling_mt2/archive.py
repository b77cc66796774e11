"""Embed many sound files: `mt2 embed`, or `accelerate launch -m mt2_music.embed` on several processes.

A bad file is named with its reason and stops nothing. To a file, all embeddings are written at the end; to a folder,
in parts, and the same command goes on where it was broken off. Processes share a folder: each takes every so many-th
file and writes parts of its own.
"""

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.feature_extraction.feature_extraction_mt2 import _require as require

from .embed import embed_audio, load_model, provenance
from .files import audio_column, audio_files, load_named_dataset, named, open_stream, write_whole
from .modeling_mt2 import WINDOWS_PER_CHUNK, MT2Model
from .tables import SUFFIXES, Row, make_row, parts, read_embeddings, write_table

ROWS_PER_PART, BYTES_PER_PART, SECONDS_PER_PART = (
    512,
    64e6,
    300.0,
)  # whichever comes first: what a broken run may have to do again
PART, SETTINGS_FILE = "embeddings-", "settings.json"  # how names of parts begin; how rows of a folder are made

Source = tuple[str, Any]  # name of a sound, and what `embed_audio` takes


def each_file(sources: Iterable[Source], work: Callable[[Any], Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Do the work for every sound; one that cannot be used gives its reason and does not stop the rest.

    Returns:
        Name, result, and reason, of which either is None.
    """
    for name, sound in tqdm(sources, unit="file", disable=not sys.stderr.isatty()):
        try:
            yield name, work(sound), None
        except (ValueError, OSError, RuntimeError) as error:  # the last is torch's, such as of a full GPU
            tqdm.write(f"{name}: {error}", file=sys.stderr)
            yield name, None, str(error)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 embed` takes, but for files and model, which all commands take."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help=f"file ({', '.join(SUFFIXES)}), or a folder of Parquet files for an archive, which can go on",
    )
    parser.add_argument("--windows", action="store_true", help="also the vectors of all windows, with their times")
    parser.add_argument("--frames", action="store_true", help="also every frame")
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="between windows (default: their length)")
    parser.add_argument("--batch_size", type=int, default=WINDOWS_PER_CHUNK, help="windows at once: %(default)s")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps (default: a GPU where there is one)")
    parser.add_argument("--shards", type=int, default=1, help="into how many shares the files are divided")
    parser.add_argument("--shard", type=int, default=0, help="which share is this one's, from 0")
    parser.add_argument("--dataset", help="take the sounds of a `datasets` data set, by name or path")
    parser.add_argument("--split", default="train", help="of the data set (default: %(default)s)")
    parser.add_argument("--audio_column", default="audio", help="of the data set (default: %(default)s)")
    parser.add_argument("--streaming", action="store_true", help="read the data set as a stream")
    parser.add_argument("--json", action="store_true", help="print what became of every file")


def run(arguments: argparse.Namespace) -> int:
    """Write the embeddings of all readable files.

    Returns:
        0 when all could be used, 1 when some could not.

    Raises:
        ValueError: nothing can be done: of arguments, output or model.
    """
    shard, shards, device = _share(arguments)
    with _in_company():
        return _run(arguments, shard, shards, device)


@contextmanager
def _in_company() -> Iterator[None]:
    """Leave only when all processes of this launch are done: a launcher ends those of a process that failed."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def _run(arguments: argparse.Namespace, shard: int, shards: int, device: str) -> int:
    output = arguments.output
    to_folder = _check_output(output, shards)
    model = load_model(MT2Model, arguments.model)
    try:
        model.to(torch.device(device))  # type: ignore[arg-type]
    except (AssertionError, RuntimeError) as refusal:
        raise ValueError(f"cannot compute on {device!r}: {refusal}") from refusal
    extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
    source = provenance(arguments.model, model, extractor)
    embed = partial(
        embed_audio,
        model,
        extractor,
        hop_seconds=arguments.hop,
        frames=arguments.frames,
        batch_size=arguments.batch_size,
    )
    second = np.zeros(extractor.sampling_rate, np.float32)
    embed(second, extractor.sampling_rate)  # options are refused once, not per file
    done: set[str] = set()
    if to_folder:
        _check_settings(output, {"hop": arguments.hop, "windows": arguments.windows, "frames": arguments.frames})
        done = _finished(output, source)

    table = _Rows(output, f"{shard:05d}-of-{shards:05d}" if to_folder else None)
    results: list[dict[str, Any]] = [{"file": name, "finished": True} for name in sorted(done)]
    for name, song, error in each_file(_sources(arguments, shard, shards, done), embed):
        if song is None:
            results.append({"file": name, "error": error})
        else:
            results.append({"file": name, "seconds": round(song.seconds, 3)})
            table.add(make_row(name, song, source, arguments.windows, arguments.frames))
    table.write()
    failures = [result for result in results if "error" in result]
    report = output / f"failures-{table.share}.csv" if to_folder else output.with_suffix(".failures.csv")
    _write_failures(report, failures)
    if arguments.json:
        print(json.dumps(results, indent=1))
    if len(failures) == len(results):
        print("no file could be embedded; no embedding was written", file=sys.stderr)
    return int(bool(failures) or not results)


def _check_output(output: Path, shards: int) -> bool:
    """Tell whether the output is a folder, which is made if need be, and refuse what cannot be written."""
    to_folder = output.suffix not in SUFFIXES
    if to_folder and output.suffix and not output.is_dir():
        raise ValueError(f"cannot write {output}: the name must end in one of {', '.join(SUFFIXES)}, or be a folder's")
    if not output.parent.is_dir() or (output.is_file() if to_folder else output.is_dir()):
        raise ValueError(f"cannot write {output}: something else is there, or its folder does not exist")
    if not to_folder and shards > 1:
        raise ValueError("several processes cannot write one file: name a folder")
    if output.suffix != ".npz":
        require("pyarrow", "writing anything but npz")
    if to_folder:
        output.mkdir(exist_ok=True)
    return to_folder


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Leave in a folder how its rows are made, and refuse a folder whose rows were made otherwise."""
    path = folder / SETTINGS_FILE
    if path.is_file() and (before := json.loads(path.read_text())) != settings:
        raise ValueError(f"{folder} holds rows made with {before}, not {settings}: name another folder")
    write_whole(path, json.dumps(settings))


class _Rows:
    """Rows on their way to a file, or to a folder in parts.

    Args:
        output: file or folder.
        share: of this process, for the names of parts; None for a file.
    """

    def __init__(self, output: Path, share: str | None) -> None:
        self.output = output
        self.share = share
        self._rows: list[Row] = []
        self._bytes, self._since = 0, time.monotonic()

    def add(self, row: Row) -> None:
        """Take a row, and write a part if there is enough for one."""
        self._rows.append(row)
        self._bytes += sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
        waited = time.monotonic() - self._since
        if self.share and (
            len(self._rows) >= ROWS_PER_PART or self._bytes > BYTES_PER_PART or waited > SECONDS_PER_PART
        ):
            self.write()

    def write(self) -> None:
        """Write what is waiting."""
        if self._rows:
            write_table(self._next_part() if self.share else self.output, self._rows)
        self._rows, self._bytes, self._since = [], 0, time.monotonic()

    def _next_part(self) -> Path:
        number = 0
        while (path := self.output / f"{PART}{self.share}-{number:05d}.parquet").exists():
            number += 1
        return path


def _share(arguments: argparse.Namespace) -> tuple[int, int, str]:
    """Return which share of how many this process has, and its device: as `accelerate launch` and torchrun say."""
    if not 0 <= arguments.shard < arguments.shards:
        raise ValueError(f"--shard must be from 0 to {arguments.shards - 1}, got {arguments.shard}")
    rank, world, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    device = arguments.device
    if device == "auto":
        device = "mps" if torch.backends.mps.is_available() else "cpu"
        if torch.cuda.is_available():
            device = f"cuda:{local % torch.cuda.device_count()}"
    return arguments.shard * world + rank, arguments.shards * world, device


def _sources(arguments: argparse.Namespace, shard: int, shards: int, done: set[str]) -> Any:
    """Return the sounds of this share that are not done yet: a list, or an iterator over a stream."""
    if bool(arguments.files) == bool(arguments.dataset):
        raise ValueError("give files or --dataset")
    if not arguments.dataset:
        return [(name, path) for name, path in named(audio_files(arguments.files))[shard::shards] if name not in done]
    open_dataset = open_stream if arguments.streaming else load_named_dataset
    cells = audio_column(open_dataset(arguments.dataset, arguments.split), arguments.audio_column)
    place = f"{arguments.dataset} {arguments.split} row"
    numbered = (
        (f"{place} {number}", row[arguments.audio_column])
        for number, row in enumerate(cells)
        if number % shards == shard
    )
    return (item for item in numbered if item[0] not in done)


def _finished(folder: Path, source: tuple[str, ...]) -> set[str]:
    """Return the names in the parts of a folder, and remove parts that are torn.

    Raises:
        ValueError: they are another model's.
    """
    done: set[str] = set()
    for path in parts(folder):
        try:
            there = read_embeddings([path])
        except ValueError as error:
            if not path.name.startswith(PART):
                raise
            print(f"{error}; it is written again", file=sys.stderr)
            path.unlink(missing_ok=True)  # another process may have done it
            continue
        except FileNotFoundError:
            continue
        if there.source != source:
            raise ValueError(f"{folder} holds embeddings of {' '.join(there.source)}, not of {' '.join(source)}")
        done.update(there.files)
    return done


def _write_failures(path: Path, failures: list[dict[str, Any]]) -> None:
    """Write the table of failures, or remove that of an earlier run that had some."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.DictWriter(text, ["file", "error"], lineterminator="\n")
    table.writeheader()
    table.writerows(failures)
    write_whole(path, text.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0 when every file could be used, 1 when some could not, 2 when nothing was tried."""
    from .cli import main as mt2

    return mt2(["embed", *(sys.argv[1:] if argv is None else argv)])
