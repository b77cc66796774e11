"""Audio to training items: which tracks can be used, and two windows of one track at a time."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mt2_music.feature_extraction.feature_extraction_mt2 import open_audio, read_audio, resample
from mt2_music.files import AUDIO_SUFFIXES, audio_column, open_audio_cell, walk

from .augment import NUM_DRAWS

logger = logging.getLogger(__name__)

PROBE_SECONDS = 0.1  # decoded at both ends of a file before it is trusted
SILENCE_DBFS = -60.0  # a window whose root mean square lies below is drawn again
MAX_DRAWS = 8  # windows drawn from one track before another takes its place
MAX_SUBSTITUTES = 16  # tracks tried for one item before giving up


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
        audio = resample(audio.mean(axis=1), rate, sampling_rate)[:num_samples]
        if not np.isfinite(audio).all():
            raise ValueError(f"{track.name} contains NaN or infinite samples")
        return np.pad(audio, (0, num_samples - len(audio)))

    def report(self, path: Path | None = None) -> None:
        """Log every file that was left out, with its reason and their number; also write them to a JSON file."""
        for item in self.left_out:
            logger.warning("left out %s: %s", item.name, item.reason)
        logger.info("%d tracks, %.2f hours; %d files left out", len(self), self.hours, len(self.left_out))
        if path is not None:
            path.write_text(json.dumps([asdict(item) for item in self.left_out], indent=1))


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

    Files with other suffixes than those of audio are listed as left out.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    left_out: list[LeftOut] = []
    found = []
    for path in walk(folder, partial(_note_refusal, left_out)):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found.append((str(path), str(path)))
        else:
            left_out.append(LeftOut(str(path), f"not an audio file ({path.suffix or 'no suffix'})"))
    return Sources(found, left_out, str, str(folder))


def _note_refusal(left_out: list[LeftOut], error: OSError) -> None:
    left_out.append(LeftOut(str(error.filename), str(error)))


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
        try:
            num_samples, rate = sound_length(sources.open_source, source)
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


def sound_length(open_source: Callable[[Any], Any], source: Any) -> tuple[int, int]:
    """Return number of samples and rate of a sound, after its two ends were decoded: a header alone proves little.

    Raises:
        ValueError, OSError: it cannot be read, or ends before its end.
    """
    with open_audio(open_source(source)) as sound:
        if not len(sound.read(1)):
            raise ValueError("the file holds no audio")
        probe = int(PROBE_SECONDS * sound.samplerate)
        sound.seek(max(0, sound.frames - probe))
        if not len(sound.read(probe)):
            raise ValueError("the file breaks off before its end")
        return sound.frames, sound.samplerate


@dataclass(frozen=True)
class Windows:
    """Which two windows of a track are taken.

    Args:
        seconds: length of a window.
        max_gap_seconds: the second window starts at most so long after the end of the first, or as long before it.
        sampling_rate: of the windows, in hertz.
    """

    seconds: float
    max_gap_seconds: float
    sampling_rate: int

    @property
    def num_samples(self) -> int:
        """Samples of a window."""
        return round(self.seconds * self.sampling_rate)

    def starts(self, seconds: float, rng: np.random.Generator) -> tuple[float, float]:
        """Draw where the windows of a track start: side by side or with a gap where it is long enough, else anywhere.

        Args:
            seconds: length of the track.
            rng: of the draws.
        """
        room = max(0.0, seconds - self.seconds)
        first = rng.uniform(0, room)
        gap = self.seconds + rng.uniform(0, self.max_gap_seconds)
        sign = rng.choice([-1, 1])
        for second in (first + sign * gap, first - sign * gap):
            if 0 <= second <= room:
                return first, second
        return first, rng.uniform(0, room)


class WindowPairs(torch.utils.data.Dataset):
    """Items of two windows from one track, close in time, and three transpositions.

    Item i follows from seed, tracks, batch size and i alone: a run can be repeated, spread over processes and resumed
    exactly. Tracks come in an order that is drawn anew for every pass, and no batch holds a track twice. A track that
    gives no window is replaced by one that the pass leaves out, where there is one. With `minutes_per_draw`, long
    tracks come several times a pass, evenly spread, so that a few hours of songs are not lost among many short clips.

    Args:
        tracks: where to draw from.
        num_items: how many items there are; passes over the tracks follow one another.
        batch_size: items in a step of all processes together.
        windows: which two windows of a track.
        transpositions: lowest and highest transposition of a view, in constant-Q bins.
        transpose_b: draw the transposition of the second window apart from the first; False keeps them equal.
        seed: of all draws.
        minutes_per_draw: a track comes once a pass for every so many minutes of it, begun ones included; 0 for once.

    Raises:
        ValueError: fewer tracks than items in a batch, or one comes so often that a batch would hold it twice: a song
            would be its own negative.
    """

    def __init__(
        self,
        tracks: Tracks,
        num_items: int,
        batch_size: int,
        windows: Windows,
        transpositions: tuple[int, int],
        transpose_b: bool,
        seed: int,
        minutes_per_draw: float = 0.0,
    ) -> None:
        if not 2 <= batch_size <= len(tracks):
            raise ValueError(
                f"a batch of {batch_size} songs needs at least 2 and at most as many as there are tracks "
                f"({len(tracks)}): a song must not be its own negative. Lower the batch size or add music"
            )
        self.tracks = tracks
        self.num_items = num_items
        self.batch_size = batch_size
        self.draws = np.ones(len(tracks), dtype=int)
        if minutes_per_draw > 0:
            self.draws = np.ceil([track.seconds / (60 * minutes_per_draw) for track in tracks.tracks]).astype(int)
        num_draws = int(self.draws.sum())
        most = int(self.draws.argmax())
        if self.draws[most] > 1 and 4 * self.draws[most] * batch_size > num_draws:
            raise ValueError(
                f"{tracks[most].name} would come {self.draws[most]} times among {num_draws} items, too often for "
                f"batches of {batch_size} songs: raise minutes_per_draw, or add music"
            )
        self.items_per_pass = num_draws // batch_size * batch_size
        self.windows = windows
        self.transpositions = transpositions
        self.transpose_b = transpose_b
        self.seed = seed
        self._kept_order: tuple[int, np.ndarray] | None = None
        self._replaced: set[int] = set()  # tracks that gave no window once; each is named in the log once

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Draw item `index`.

        Returns:
            `waveforms`, int16 (2, samples); `transpositions`, (3,) of window A, window B and window A again, the
            last never equal to the first; `augmentation`, numbers from 0 to 1 that decide how each window is changed,
            (2, NUM_DRAWS); `num_draws`, how many pairs were drawn until one was not near-silent.
        """
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} of {self.num_items}")
        one_pass, position = divmod(index, self.items_per_pass)
        order = self._order(one_pass)
        rng = np.random.default_rng([self.seed, one_pass, 2, position])
        spare = order[self.items_per_pass :] if self.items_per_pass < len(order) else order
        waveforms, num_draws = self._draw(int(order[position]), spare, rng)
        return make_item(waveforms, num_draws, self.transpositions, self.transpose_b, rng)

    def _order(self, one_pass: int) -> np.ndarray:
        """Order of all draws in a pass; kept, since drawing it for every item would cost more than the item."""
        if self._kept_order is None or self._kept_order[0] != one_pass:
            rng = np.random.default_rng([self.seed, one_pass, 1])
            order = rng.permutation(len(self.tracks)) if self.draws.max() == 1 else self._spread(rng)
            self._kept_order = one_pass, order
        return self._kept_order[1]

    def _spread(self, rng: np.random.Generator) -> np.ndarray:
        """Order draws so that those of a track lie evenly over the pass, and never two of them in a batch."""
        tracks = np.repeat(np.arange(len(self.tracks)), self.draws)
        draw = np.concatenate([np.arange(count) for count in self.draws])
        while True:
            first = rng.random(len(self.tracks))
            order = tracks[np.argsort((draw + first[tracks]) / self.draws[tracks])]
            batches = np.sort(order[: self.items_per_pass].reshape(-1, self.batch_size), axis=1)
            if (np.diff(batches, axis=1) > 0).all():
                return order

    def _draw(self, track: int, spare: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        num_draws, reason = 0, ""
        for _ in range(MAX_SUBSTITUTES):
            pair, tries, reason = draw_pair(self.tracks, track, self.windows, rng)
            num_draws += tries
            if pair is not None:
                return pair, num_draws
            if track not in self._replaced:
                logger.warning("another track takes the place of one: %s", reason)
                self._replaced.add(track)
            track = int(rng.choice(spare))
        raise RuntimeError(f"{MAX_SUBSTITUTES} tracks in a row gave no usable window; the last one: {reason}")


def draw_pair(
    tracks: Tracks, track: int, windows: Windows, rng: np.random.Generator
) -> tuple[np.ndarray | None, int, str]:
    """Draw two windows of a track, neither of them near-silent.

    Returns:
        float32 (2, samples), or None where the track gives no such pair; how many pairs were tried; and what is wrong
        with the track, if there are none.
    """
    reason = f"nearly all of it is silent: {tracks[track].name}"
    for tries in range(1, MAX_DRAWS + 1):
        starts = windows.starts(tracks[track].seconds, rng)
        pair: list[np.ndarray] = []
        try:
            for start in starts:
                window = tracks.read(track, start, windows.num_samples, windows.sampling_rate)
                if _level_dbfs(window) <= SILENCE_DBFS:
                    break  # the other need not be read
                pair.append(window)
        except (ValueError, OSError) as error:
            return None, tries, str(error)
        if len(pair) == len(starts):
            return np.stack(pair).astype(np.float32), tries, ""
    return None, MAX_DRAWS, reason


def make_item(
    pair: np.ndarray, num_draws: int, transpositions: tuple[int, int], transpose_b: bool, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Make a training item of two windows, (2, samples), drawing what happens to them; see `WindowPairs`."""
    low, high = transpositions
    span = high - low + 1
    first, second = rng.integers(low, high + 1, size=2)
    third = low + (first - low + rng.integers(1, span)) % span if span > 1 else first
    return {
        "waveforms": torch.from_numpy(np.rint(np.clip(pair * 32768, -32768, 32767)).astype(np.int16)),
        "transpositions": torch.tensor([first, second if transpose_b else first, third]),
        "augmentation": torch.from_numpy(rng.random((2, NUM_DRAWS), dtype=np.float32)),
        "num_draws": torch.tensor(num_draws),
    }


def _level_dbfs(window: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(window, dtype=np.float64)) + 1e-20))
