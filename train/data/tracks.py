"""Which sounds of a folder or data set can be used, and why the others cannot."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.audio.datasets import audio_column, open_audio_cell
from mt2_music.audio.files import printable, printable_names, walk
from mt2_music.feature_extraction.decoding import measure, read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.interrupts import check, finishing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Track:
    """A piece of audio that can be read: a name for people, and its length at its own rate."""

    name: str
    source: Any
    num_samples: int
    sampling_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sampling_rate


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why."""

    name: str
    reason: str


class Tracks:
    """The usable tracks of a folder or data set, and what was left out.

    Args:
        tracks: usable tracks.
        left_out: the others, with reasons.
        open_source: turns a track's source into a path or a binary file object.
    """

    def __init__(self, tracks: list[Track], left_out: list[LeftOut], open_source: Callable[[Any], Any]) -> None:
        self.tracks = tracks
        self.left_out = left_out
        self._open_source = open_source

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> Track:
        return self.tracks[index]

    @property
    def hours(self) -> float:
        """Duration of all tracks in hours."""
        return sum(track.seconds for track in self.tracks) / 3600

    def read(self, index: int, start_seconds: float, num_samples: int, sampling_rate: int) -> np.ndarray:
        """Decode only the wanted part of a track.

        Returns:
            Mono float32 of shape (num_samples,) at `sampling_rate`, with zeros where the track ends early.

        Raises:
            ValueError: the part cannot be decoded, or holds NaN or infinite samples.
        """
        track = self.tracks[index]
        start = int(start_seconds * track.sampling_rate)
        wanted = int(np.ceil(num_samples * track.sampling_rate / sampling_rate))
        audio, rate = read_audio(self._open_source(track.source), start, wanted)
        if not len(audio):
            raise ValueError(f"{track.name} ends before {start_seconds:.1f} s")
        audio = resample(audio, rate, sampling_rate)[:num_samples]
        if not np.isfinite(audio).all():
            raise ValueError(f"{track.name} contains NaN or infinite samples")
        return np.pad(audio, (0, num_samples - len(audio)))

    def report(self, path: Path | None = None) -> None:
        """Log every file that was left out, with its reason and their number; also write them to a JSON file."""
        for item in self.left_out:
            logger.warning("left out %s: %s", item.name, item.reason)
        logger.info("%d tracks, %.2f hours; %d files left out", len(self), self.hours, len(self.left_out))
        if path is not None:
            path.write_text(json.dumps([asdict(item) for item in self.left_out], indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Sources:
    """Audio that was found and not opened yet.

    Args:
        found: name for people, and what `open_source` takes, of each.
        left_out: what is no audio.
        open_source: turns a source into a path or a binary file object.
        place: where it was found, for messages.
    """

    found: list[tuple[str, Any]]
    left_out: list[LeftOut]
    open_source: Callable[[Any], Any]
    place: str


def find_files(folder: str | Path) -> Sources:
    """Find the audio files in a folder and the folders below it, in the order of their names.

    Files with other suffixes than those of audio are listed as left out; hidden ones are counted in the log.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    found = walk(str(folder))
    if line := found.say_hidden():
        logger.warning("%s", line)
    left_out = [
        LeftOut(printable(path), f"not an audio file ({Path(path).suffix or 'no suffix'})") for path in found.others
    ]
    return Sources(printable_names(found.files), left_out, str, str(folder))


def find_rows(dataset: Any, column: str = "audio") -> Sources:
    """Take the audio column of a `datasets.Dataset`, as paths or as bytes; torchcodec and FFmpeg are not needed.

    Raises:
        ValueError: there is no such column.
    """
    encoded = audio_column(dataset, column)
    rows = [(f"row {row}", row) for row in range(len(encoded))]
    return Sources(rows, [], partial(_open_row, encoded, column), "the data set")


def _open_row(encoded: Any, column: str, row: int) -> Any:
    return open_audio_cell(encoded[row][column], f"row {row}")


def scan(sources: Sources, min_seconds: float) -> Tracks:
    """Look at both ends of every sound, and keep those that can be used.

    Args:
        sources: from `find_files` or `find_rows`.
        min_seconds: shorter ones are left out.

    Raises:
        ValueError: none is usable, or more than half cannot be read.
    """
    left_out = list(sources.left_out)
    tracks, unreadable = [], 0
    for name, source in sources.found:
        check()
        try:
            with finishing():
                num_samples, rate = sound_length(sources.open_source, source, name)
        except (ValueError, OSError) as error:
            left_out.append(LeftOut(name, str(error)))
            unreadable += 1
            continue
        if num_samples < min_seconds * rate:
            left_out.append(LeftOut(name, f"{num_samples / rate:.2f} s long, shorter than {min_seconds:g} s"))
        else:
            tracks.append(Track(name, source, num_samples, rate))
    found = Tracks(tracks, left_out, sources.open_source)
    if not tracks or unreadable > len(sources.found) / 2:
        found.report()
        counts = f"{len(sources.found)} audio files: {len(tracks)} usable, {unreadable} unreadable"
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in left_out[:3])
        raise ValueError(f"cannot train on {sources.place}, which holds {counts}. {reasons}")
    return found


def sound_length(open_source: Callable[[Any], Any], source: Any, name: str) -> tuple[int, int]:
    """Return number of samples and rate of a sound; one that breaks off, with most of it there, is named in the log.

    Raises:
        ValueError, OSError: it cannot be read, or most of it is missing.
    """
    num_samples, rate, note = measure(open_source(source), name)
    if note is not None:
        logger.warning("%s", note)
    return num_samples, rate
