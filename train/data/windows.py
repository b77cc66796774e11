"""Training items: two windows of one track at a time."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from .tracks import Tracks

logger = logging.getLogger(__name__)

NUM_DRAWS = 15  # uniform numbers from 0 to 1 that decide how one window is changed; see `Augmentation`
SILENCE_DBFS = -60.0  # a window whose root mean square lies below is drawn again
MAX_DRAWS = 8  # windows drawn from one track before another takes its place
SHORT_SHARE = 0.5  # of the steps, where windows may be short
MAX_SUBSTITUTES = 16  # tracks tried for one item before giving up


@dataclass(frozen=True)
class Windows:
    """Which two windows of a track are taken.

    Args:
        seconds: length of a window.
        max_gap_seconds: the second window starts at most so long after the end of the first, or as long before it.
        sampling_rate: of the windows, in hertz.
        shortest_seconds: in half of all steps windows last from this to `seconds`; 0 for windows of one length.
    """

    seconds: float
    max_gap_seconds: float
    sampling_rate: int
    shortest_seconds: float = 0.0

    def of_step(self, step: int, seed: int) -> "Windows":
        """Return the windows of one step, whose length is drawn evenly in octaves where they may be short."""
        if not self.shortest_seconds:
            return self
        rng = np.random.default_rng([seed, 6, step])
        share = rng.random() if rng.random() < SHORT_SHARE else 1.0
        return replace(self, seconds=self.shortest_seconds * (self.seconds / self.shortest_seconds) ** share)

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


@dataclass(frozen=True)
class Transpositions:
    """How views are transposed, in constant-Q bins.

    Args:
        lowest, highest: of every transposition.
        of_a: transpose window A as it is first encoded; False leaves it where it sounds.
        of_b: transpose window B apart from A; False keeps them equal, as published.
    """

    lowest: int
    highest: int
    of_a: bool = False
    of_b: bool = True

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """Draw those of window A, window B, and window A again, which is never equal to the first, (3,)."""
        span = self.highest - self.lowest + 1
        first, second = rng.integers(self.lowest, self.highest + 1, size=2)
        first = first if self.of_a else 0
        third = self.lowest + (first - self.lowest + rng.integers(1, span)) % span if span > 1 else first
        return torch.tensor([first, second if self.of_b else first, third])


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
        transpositions: how views are transposed.
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
        transpositions: Transpositions,
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
        self.seed = seed
        self._kept_order: tuple[int, np.ndarray] | None = None
        self._replaced: set[int] = set()  # tracks that gave no window once; each is named in the log once

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Draw item `index`.

        Returns:
            `waveforms`, int16 (2, samples); `transpositions`, (3,) of window A, window B and window A again;
            `augmentation`, numbers from 0 to 1 that decide how each window is changed, (2, NUM_DRAWS); `num_draws`,
            how many pairs were drawn until one was not near-silent; and `song`, a number of its own for every item.
        """
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} of {self.num_items}")
        one_pass, position = divmod(index, self.items_per_pass)
        order = self._order(one_pass)
        rng = np.random.default_rng([self.seed, one_pass, 2, position])
        spare = order[self.items_per_pass :] if self.items_per_pass < len(order) else order
        windows = self.windows.of_step(index // self.batch_size, self.seed)
        waveforms, num_draws = self._draw(int(order[position]), spare, windows, rng)
        return make_item(waveforms, num_draws, index, self.transpositions, rng)

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

    def _draw(
        self, track: int, spare: np.ndarray, windows: Windows, rng: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        num_draws, reason = 0, ""
        for _ in range(MAX_SUBSTITUTES):
            pair, tries, reason = draw_pair(self.tracks, track, windows, rng)
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
                if level_dbfs(window) <= SILENCE_DBFS:
                    break  # the other need not be read
                pair.append(window)
        except (ValueError, OSError) as error:
            return None, tries, str(error)
        if len(pair) == len(starts):
            return np.stack(pair).astype(np.float32), tries, ""
    return None, MAX_DRAWS, reason


def make_item(
    waveforms: np.ndarray, num_draws: int, song: int, transpositions: Transpositions, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Make a training item of windows, (windows, samples), drawing what happens to them; see `WindowPairs`."""
    if waveforms.dtype != np.int16:
        waveforms = np.rint(np.clip(waveforms * 32768, -32768, 32767)).astype(np.int16)
    return {
        "waveforms": torch.from_numpy(waveforms),
        "transpositions": transpositions.draw(rng),
        "augmentation": torch.from_numpy(rng.random((len(waveforms), NUM_DRAWS), dtype=np.float32)),
        "num_draws": torch.tensor(num_draws),
        "song": torch.tensor(song),
    }


def level_dbfs(window: np.ndarray) -> float:
    """Return the root mean square of a float waveform in dB of full scale."""
    return 10 * float(np.log10(np.mean(np.square(window, dtype=np.float64)) + 1e-20))
