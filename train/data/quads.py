"""Training items of quads: two scores x two orchestrations, which say what two windows share.

A quad is four recordings of equal length, each with its own instruments' bank, room and microphone:

    ======== ================================ ================================
    .        orchestration 0                  orchestration 1
    ======== ================================ ================================
    score 0  windows A and B of song 0        A's instant again: Y of song 0
    score 1  A's instant again: Y of song 1   windows A and B of song 1
    ======== ================================ ================================

(or with the orchestrations exchanged.) A and Y are the same music at the same instant by other instruments; A of one
song and Y of the other are other music by the same instruments.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .prepared import SAMPLING_RATE, PreparedTracks
from .windows import MAX_DRAWS, SILENCE_DBFS, Transpositions, WindowPairs, Windows, level_dbfs, make_item

QUADS_FILE = "quads.jsonl"  # of a folder of quads, beside its shards: what each quad is
FIRST_SONG = 2**40  # number of the first song of a quad; songs of recordings have lower ones


@dataclass(frozen=True)
class Quad:
    """Four tracks of a folder, and what is known of them.

    Args:
        tracks: index of each, [score][orchestration].
        tempos: beats per minute of each score.
        solo: whether every orchestration is one instrument.
    """

    tracks: tuple[tuple[int, int], tuple[int, int]]
    tempos: tuple[float, float]
    solo: bool


def track_name(quad: str, score: int, orchestration: int) -> str:
    """Name one of the four tracks of a quad."""
    return f"{quad}/score {score} orchestration {orchestration}"


class Quads:
    """The quads of a folder that `mt2_music.train.synth.quads` has rendered.

    Args:
        folder: prepared folder of quads.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the folder is not finished, or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder).expanduser()
        if not (folder / QUADS_FILE).is_file():
            raise FileNotFoundError(f"no quads in {folder}: {QUADS_FILE} is missing; render them again to finish")
        self.tracks = PreparedTracks(folder, 0.0)
        place = {track.name: index for index, track in enumerate(self.tracks.tracks)}
        self.quads = []
        for line in (folder / QUADS_FILE).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            # Tuples, not generators of generators: those would name the second score twice.
            first, second = (tuple(place[track_name(row["id"], score, which)] for which in (0, 1)) for score in (0, 1))
            self.quads.append(Quad((first, second), tuple(row["tempos"]), row["solo"]))  # type: ignore[arg-type]
        self.seconds = min(track.seconds for track in self.tracks.tracks)

    def numbers(self, solo: bool) -> np.ndarray:
        """Return the numbers of the quads of single instruments, or of all others."""
        return np.array([number for number, quad in enumerate(self.quads) if quad.solo == solo], int)


class QuadsAndSongs(torch.utils.data.Dataset):
    """Items of quads, and of songs as `WindowPairs` gives them, in a fixed arrangement of every batch.

    Of the items of a process in one step, the first are songs of quads of single instruments, then those of other
    quads, two items each, and then recordings. Which ones follows from the step and their place among those of all
    processes, so that a run on several processes trains on the same music as on one.

    Args:
        quads: where to draw from.
        songs: recordings, with as many items in a step as are left in a batch; None where quads fill it.
        batch_size: items in a step of one process.
        songs_of_quads: how many of them are of quads; even.
        songs_of_solos: how many of these are of single instruments; even.
        processes: how many there are.
        num_steps: forward passes of every process.
        windows, transpositions, seed: as for `WindowPairs`.

    Raises:
        ValueError: fewer quads of a kind than a step needs, or windows longer than the quads.
    """

    def __init__(
        self,
        quads: Quads,
        songs: WindowPairs | None,
        batch_size: int,
        songs_of_quads: int,
        songs_of_solos: int,
        processes: int,
        num_steps: int,
        windows: Windows,
        transpositions: Transpositions,
        seed: int,
    ) -> None:
        if windows.seconds >= quads.seconds:
            raise ValueError(f"windows of {windows.seconds:g} s do not fit into quads of {quads.seconds:g} s")
        self.quads = quads
        self.songs = songs
        self.batch_size = batch_size
        self.processes = processes
        self.num_items = num_steps * processes * batch_size
        self.windows = windows
        self.transpositions = transpositions
        self.seed = seed
        # Of each kind: its quads, how many a process takes in a step, and its first place in the batch.
        counts = {True: songs_of_solos // 2, False: (songs_of_quads - songs_of_solos) // 2}
        self.kinds = [(quads.numbers(solo), count, 0 if solo else songs_of_solos) for solo, count in counts.items()]
        self.songs_of_quads = songs_of_quads
        for (numbers, count, _), name in zip(self.kinds, ("single instruments", "several instruments"), strict=True):
            if count * processes > len(numbers):
                raise ValueError(f"a step needs {count * processes} quads of {name}, and there are {len(numbers)}")

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Draw item `index`.

        Returns:
            What `WindowPairs` returns, with three windows, of which the third is silence in a recording; `sound`,
            the number of the song that the orchestration of Y plays; and `tempo`, in beats per minute, or 0.
        """
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} of {self.num_items}")
        batch, place = divmod(index, self.batch_size)
        step, process = divmod(batch, self.processes)
        if place < self.songs_of_quads:
            numbers, count, first = next(kind for kind in reversed(self.kinds) if kind[1] and place >= kind[2])
            pair, member = divmod(place - first, 2)
            drawn = (step * self.processes + process) * count + pair
            return self._quad_item(numbers, drawn, count * self.processes, member, step)
        assert self.songs is not None
        each = self.batch_size - self.songs_of_quads
        item = self.songs[(step * self.processes + process) * each + place - self.songs_of_quads]
        silent = torch.zeros_like(item["waveforms"][:1])
        more = torch.zeros_like(item["augmentation"][:1])
        return {
            **item,
            "waveforms": torch.cat([item["waveforms"], silent]),
            "augmentation": torch.cat([item["augmentation"], more]),
            "sound": item["song"],
            "tempo": torch.tensor(0.0),
        }

    def _quad_item(
        self, numbers: np.ndarray, drawn: int, in_step: int, member: int, step: int
    ) -> dict[str, torch.Tensor]:
        """Draw a song of the quad that is number `drawn` of its kind, of which a step has `in_step`."""
        one_pass, place = divmod(drawn, len(numbers) // in_step * in_step)  # so that no step holds a quad twice
        number = int(np.random.default_rng([self.seed, 3, one_pass]).permutation(len(numbers))[place])
        number = int(numbers[number])
        exchanged = int(np.random.default_rng([self.seed, 4, number, one_pass]).integers(2))
        rng = np.random.default_rng([self.seed, 5, number, one_pass, member])
        quad = self.quads.quads[number]
        own = member ^ exchanged  # orchestration of A and B
        track, other = quad.tracks[member][own], quad.tracks[member][1 - own]
        windows = self.windows.of_step(step, self.seed)
        waveforms, num_draws = self._draw(track, other, windows, rng)
        song = FIRST_SONG + 2 * number + member
        item = make_item(waveforms, num_draws, song, self.transpositions, rng)
        return {**item, "sound": torch.tensor(song ^ 1), "tempo": torch.tensor(quad.tempos[member])}

    def _draw(self, track: int, other: int, windows: Windows, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Draw windows A, B and Y, int16 (3, samples); the loudest of what was drawn if all are near-silent."""
        best: tuple[float, Any] = (-np.inf, None)
        tries = 0
        while best[0] <= SILENCE_DBFS and tries < MAX_DRAWS:
            tries += 1
            starts = windows.starts(self.quads.seconds, rng)
            places = [(track, starts[0]), (track, starts[1]), (other, starts[0])]
            drawn = np.stack(
                [self.quads.tracks.samples(t, int(s * SAMPLING_RATE), windows.num_samples) for t, s in places]
            )
            level = min(level_dbfs(window[::8].astype(np.float32) / 32768) for window in drawn)
            best = max(best, (level, drawn), key=lambda pair: pair[0])
        return best[1], tries


__all__ = ["QUADS_FILE", "Quad", "Quads", "QuadsAndSongs", "track_name"]
