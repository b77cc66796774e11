"""Tracks that were decoded once into memory-mapped shards of 16 kHz int16."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from tqdm import tqdm

from mt2_music.feature_extraction.decoding import IncompleteAudioWarning, read_blocks
from mt2_music.interrupts import PATIENCE_SECONDS, check, process_pool
from mt2_music.storage import atomic_path, write_text_atomic

from .tracks import LeftOut, Sources, Track, Tracks

logger = logging.getLogger(__name__)

SAMPLING_RATE = 16000
TRACKS_PER_SHARD = 32
SETTINGS_FILE = "prepared.json"
SCHEMA = pyarrow.schema([("name", pyarrow.string()), ("samples", pyarrow.large_list(pyarrow.int16()))])


def prepare(sources: Sources, output_dir: str | Path, workers: int | None = None) -> list[LeftOut]:
    """Decode all sounds into shards, or those that are still missing.

    Args:
        sources: from `find_files` or `find_rows`.
        output_dir: folder of the shards.
        workers: processes; as many as there are cores if not given.

    Returns:
        What was left out, with reasons.

    Raises:
        ValueError: there is nothing to decode or nothing could be, or the folder was begun with other sounds.
        OSError: the disk is full or cannot be written; the shards that are done stay.
        BrokenProcessPool: a worker was killed; the shards that are done stay.
    """
    output_dir = Path(output_dir).expanduser()
    if not sources.found:
        raise ValueError(f"{sources.place} holds no audio")
    output_dir.mkdir(parents=True, exist_ok=True)
    parts = [sources.found[at : at + TRACKS_PER_SHARD] for at in range(0, len(sources.found), TRACKS_PER_SHARD)]
    names = hashlib.sha256("\n".join(name for name, _ in sources.found).encode()).hexdigest()
    settings = {"sampling_rate": SAMPLING_RATE, "shards": len(parts), "names": names}
    begun = output_dir / SETTINGS_FILE
    if begun.exists() and json.loads(begun.read_text(encoding="utf-8")) != settings:
        raise ValueError(f"{output_dir} was begun with other sounds: use another folder")
    write_text_atomic(begun, json.dumps(settings, indent=1))
    for unfinished in output_dir.glob("*.part"):  # of a run that was killed
        unfinished.unlink()
    todo = [shard for shard in range(len(parts)) if not (output_dir / _shard_name(shard)).exists()]
    make = partial(_write_shard, output_dir, sources.open_source)
    finished = len(sources.found) - sum(len(parts[shard]) for shard in todo)
    progress = tqdm(total=len(sources.found), initial=finished, unit="track", desc="decoding")
    with process_pool(workers) as pool, progress:
        for count in pool.map(make, todo, [parts[shard] for shard in todo]):
            progress.update(count)
    left_out = [*sources.left_out, *_left_out(output_dir, len(parts))]
    if not any(len(_open_shard(output_dir / _shard_name(shard))) for shard in range(len(parts))):
        first = left_out[0]
        raise ValueError(f"nothing in {sources.place} could be decoded; the first: {first.name}: {first.reason}")
    return left_out


def _write_shard(folder: Path, open_source: Any, shard: int, sounds: list[tuple[str, Any]]) -> int:
    """Write one shard, and before it the list of what it lacks; return how many sounds it was made from."""
    left_out: list[LeftOut] = []

    def decoded() -> Iterator[tuple[str, np.ndarray]]:
        for name, source in sounds:
            check()
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", IncompleteAudioWarning)
                    samples = _decode(open_source(source))
            except (ValueError, OSError) as error:
                left_out.append(LeftOut(name, str(error)))
                continue
            for warning in caught:
                logger.warning("%s", warning.message)
            yield name, samples

    write_shard(folder, shard, decoded(), left_out)
    return len(sounds)


def write_shard(folder: Path, shard: int, tracks: Iterable[tuple[str, np.ndarray]], left_out: list[LeftOut]) -> None:
    """Write one shard of a prepared folder; it appears whole, after the list of what it lacks.

    Args:
        folder: of the shards.
        shard: its number.
        tracks: names and samples, int16 at 16 kHz, written as they come.
        left_out: what is missing and why, complete when `tracks` has ended.
    """
    path = folder / _shard_name(shard)
    with atomic_path(path) as unfinished:
        with pyarrow.OSFile(str(unfinished), "wb") as file, pyarrow.ipc.new_stream(file, SCHEMA) as writer:
            for name, samples in tracks:
                offsets = pyarrow.array([0, len(samples)], pyarrow.int64())
                row = pyarrow.LargeListArray.from_arrays(offsets, pyarrow.array(samples))
                # One batch a track, so that each lies in one piece.
                writer.write_batch(pyarrow.record_batch([pyarrow.array([name]), row], schema=SCHEMA))
        write_text_atomic(path.with_suffix(".json"), json.dumps([asdict(item) for item in left_out], indent=1))


def _decode(file: Any) -> np.ndarray:
    """Decode a sound to 16 kHz mono int16, (samples,)."""
    blocks = []
    for block in read_blocks(file, SAMPLING_RATE):
        check(PATIENCE_SECONDS)
        if not np.isfinite(block).all():
            raise ValueError("it contains NaN or infinite samples")
        blocks.append(np.clip(np.rint(block * 32768), -32768, 32767).astype(np.int16))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    if not len(samples):
        raise ValueError("the file holds no audio")
    return samples


class PreparedTracks(Tracks):
    """Tracks of a prepared folder; windows are read from the mapped shards, without decoding.

    Args:
        folder: what `prepare` has written.
        min_seconds: shorter tracks are left out.

    Raises:
        FileNotFoundError: nothing was prepared there.
        ValueError: shards are missing or broken, or no track is long enough.
    """

    def __init__(self, folder: str | Path, min_seconds: float) -> None:
        folder = Path(folder).expanduser()
        if not (folder / SETTINGS_FILE).is_file():
            raise FileNotFoundError(f"nothing was prepared in {folder}: {SETTINGS_FILE} is missing")
        shards = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))["shards"]
        self._paths = [folder / _shard_name(shard) for shard in range(shards)]
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing:
            raise ValueError(f"{folder} is not finished, {len(missing)} of {shards} shards are missing: prepare again")
        self._tables: dict[int, pyarrow.Table] = {}
        tracks, left_out = [], _left_out(folder, shards)
        for shard in range(shards):
            table = self._table(shard)
            names = table.column("name").to_pylist()
            for row, (name, samples) in enumerate(zip(names, table.column("samples").chunks, strict=True)):
                size = len(samples.values)
                if size < min_seconds * SAMPLING_RATE:
                    reason = f"{size / SAMPLING_RATE:.2f} s long, shorter than {min_seconds:g} s"
                    left_out.append(LeftOut(name, reason))
                else:
                    tracks.append(Track(name, (shard, row), size, SAMPLING_RATE))
        if not tracks:
            raise ValueError(f"no track in {folder} lasts {min_seconds:g} s")
        super().__init__(tracks, left_out, str)

    def read(self, index: int, start_seconds: float, num_samples: int, sampling_rate: int) -> np.ndarray:
        """Copy the wanted part of a track out of its shard.

        Returns:
            Mono float32 of shape (num_samples,), with zeros where the track ends early.

        Raises:
            ValueError: another sampling rate than that of the shards.
        """
        if sampling_rate != SAMPLING_RATE:
            raise ValueError(f"prepared tracks are sampled at {SAMPLING_RATE} Hz, not at {sampling_rate}")
        part = self.samples(index, int(start_seconds * SAMPLING_RATE), num_samples).astype(np.float32) / 32768
        return np.pad(part, (0, num_samples - len(part)))

    def samples(self, index: int, start: int, num_samples: int) -> np.ndarray:
        """Return samples of a track as they are stored, int16, without copying them; fewer where it ends early."""
        shard, row = self.tracks[index].source
        samples = self._table(shard).column("samples").chunk(row).values
        return samples.slice(start, num_samples).to_numpy(zero_copy_only=True)

    def _table(self, shard: int) -> pyarrow.Table:
        if shard not in self._tables:
            self._tables[shard] = _open_shard(self._paths[shard])
        return self._tables[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}  # a worker maps the shards itself


def _open_shard(path: Path) -> pyarrow.Table:
    try:
        table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is broken: {error}. Delete it and prepare again") from error
    if table.schema != SCHEMA:
        raise ValueError(f"{path} is no shard of prepared audio: it holds {table.schema.names}")
    return table


def _left_out(folder: Path, shards: int) -> list[LeftOut]:
    lists = (
        json.loads((folder / _shard_name(shard)).with_suffix(".json").read_text(encoding="utf-8"))
        for shard in range(shards)
    )
    return [LeftOut(**item) for items in lists for item in items]


def _shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.arrow"
