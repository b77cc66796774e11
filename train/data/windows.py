"""Training items: two windows of one track at a time."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from .tracks import Tracks

logger = logging.getLogger(__name__)
SILENCE_DBFS = -60.0  # a window whose root mean square lies below is drawn again
MAX_DRAWS = 8  # windows drawn from one track before another takes its place
MAX_SUBSTITUTES = 16  # tracks tried for one item before giving up


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


NUM_DRAWS = 15  # uniform numbers from 0 to 1 that one window needs
