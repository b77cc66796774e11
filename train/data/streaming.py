"""Training items from a stream of audio, for corpora larger than a disk; nothing is counted or listed beforehand."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mt2_music.audio.datasets import audio_column, open_audio_cell
from mt2_music.audio.files import printable

from .tracks import Track, Tracks, sound_length
from .windows import Transpositions, Windows, draw_pair, make_item

logger = logging.getLogger(__name__)


class TooFewTracksError(ValueError):
    """A whole pass of a stream does not fill a batch."""


class StreamedPairs(torch.utils.data.IterableDataset):
    """Items as those of `WindowPairs`, one a track and pass, in the order of a shuffled stream that is read for ever.

    Every process reads its own part of the stream, and every worker its own part of that. No batch holds a track
    twice: what is left of a pass when it ends, less than a batch, is dropped. Tracks that give no window are named in
    the log and passed over. A run that goes on reads from the start again and skips what it had.

    Args:
        stream: a `datasets.IterableDataset`.
        column: its column of audio.
        batch_size: items in a step of one process.
        windows, transpositions, seed: as for `WindowPairs`.
        rank, world_size: which process of how many this is.
        buffer_size: tracks among which the next one is drawn.

    Raises:
        ValueError: there is no such column.
        TooFewTracksError: while it is read, less than a batch of usable tracks in a whole pass.
    """

    def __init__(
        self,
        stream: Any,
        column: str,
        batch_size: int,
        windows: Windows,
        transpositions: Transpositions,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        buffer_size: int = 256,
    ) -> None:
        from datasets.distributed import split_dataset_by_node

        if batch_size * world_size < 2:
            raise ValueError("a batch needs at least two songs: there would be no negatives")
        encoded = audio_column(stream, column).shuffle(seed=seed, buffer_size=buffer_size)
        self.stream = split_dataset_by_node(encoded, rank, world_size)
        self.column = column
        self.batch_size = batch_size
        self.windows = windows
        self.transpositions = transpositions
        self.seed = seed
        self.rank = rank

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Read the stream, pass after pass."""
        worker = torch.utils.data.get_worker_info()
        number = 0 if worker is None else worker.id
        one_pass = 0
        while True:
            self.stream.set_epoch(one_pass)
            rows, items = 0, 0
            batch: list[dict[str, torch.Tensor]] = []
            for row in self.stream:
                rng = np.random.default_rng([self.seed, one_pass, self.rank, number, rows])
                rows += 1
                item = self._item(row[self.column], f"row {rows} of pass {one_pass + 1}", rng)
                if item is not None:
                    batch.append(item)
                if len(batch) == self.batch_size:
                    items += len(batch)
                    yield from batch
                    batch = []
            if not rows and number:
                return  # more workers than the stream has shards
            if not items:
                raise TooFewTracksError(
                    f"the stream gave {len(batch)} usable tracks of {rows} in a whole pass, and a batch needs "
                    f"{self.batch_size}: lower the batch size, the number of processes or that of workers"
                )
            one_pass += 1

    def _item(self, cell: Any, name: str, rng: np.random.Generator) -> dict[str, torch.Tensor] | None:
        if cell is not None and cell.get("path"):
            name = printable(cell["path"])
        reason = f"shorter than {self.windows.seconds:g} s"
        try:
            num_samples, rate = sound_length(lambda cell: open_audio_cell(cell, name), cell, name)
            track = Track(name, cell, num_samples, rate)
            if track.seconds >= self.windows.seconds:
                tracks = Tracks([track], [], lambda cell: open_audio_cell(cell, name))
                pair, num_draws, reason = draw_pair(tracks, 0, self.windows, rng)
                if pair is not None:
                    return make_item(pair, num_draws, int(rng.integers(2**62)), self.transpositions, rng)
        except (ValueError, OSError) as error:
            reason = str(error)
        logger.warning("left out %s: %s", name, reason)
        return None
