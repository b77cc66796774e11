"""What happens in a song when: segments with labels, and beats, and the text files that other programs read."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from mt2_music.music import NO_CHORD, camelot, open_key


@dataclass(frozen=True)
class KeySegment:
    """A stretch of a song in one key.

    Args:
        start, end: seconds.
        key: such as "A minor"; None where the song is silent or has no key.
        confidence: mean probability of the key over the segment; 0 without a key.
    """

    start: float
    end: float
    key: str | None
    confidence: float

    @property
    def label(self) -> str:
        """The key as files of labels have it, such as "A minor"; "N" where there is none."""
        return self.key or NO_CHORD

    @property
    def camelot(self) -> str | None:
        """The key in Camelot notation, such as "8A" for A minor; None where there is none."""
        return self.key and camelot(self.key)

    @property
    def open_key(self) -> str | None:
        """The key in Open Key notation, such as "1m" for A minor; None where there is none."""
        return self.key and open_key(self.key)


@dataclass(frozen=True)
class ChordSegment:
    """A stretch of a song with one chord.

    Args:
        start, end: seconds.
        label: major or minor triad in the syntax of Harte et al. 2005, such as "A:min"; "N" where there is none.
        seventh: the same with its seventh if it has one, such as "A:min7".
        confidence: mean probability of the label over the segment.
    """

    start: float
    end: float
    label: str
    seventh: str
    confidence: float


AnySegment = TypeVar("AnySegment", KeySegment, ChordSegment)


class Timeline(tuple[AnySegment, ...], Generic[AnySegment]):
    """Segments that follow one another, from the start of a song to its end."""

    __slots__ = ()

    def to_lab(self) -> str:
        """Return lines "start, end, label" with tabs between: label files of mir_eval, Audacity, Sonic Visualiser."""
        return _lines((f"{one.start:.3f}", f"{one.end:.3f}", one.label) for one in self)

    def to_dataframe(self) -> Any:
        """Return a pandas table, one row a segment."""
        import pandas

        return pandas.DataFrame([asdict(one) for one in self])


@dataclass(frozen=True)
class Beats:
    """The beats of a song.

    Args:
        times: seconds, (beats,).
        positions: in their bar, (beats,); 1 is a downbeat.
        confidences: probability of a beat at each, (beats,).
    """

    times: np.ndarray
    positions: np.ndarray
    confidences: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    @property
    def downbeats(self) -> np.ndarray:
        """Times of the first beats of bars in seconds, (bars,)."""
        return self.times[self.positions == 1]

    @property
    def tempo(self) -> float | None:
        """Beats per minute, from the median time between beats; None with fewer than two beats."""
        return 60 / float(np.median(np.diff(self.times))) if len(self) > 1 else None

    @property
    def metre(self) -> int | None:
        """Beats in most bars; None without a whole bar."""
        lengths = np.diff(np.flatnonzero(self.positions == 1))
        return int(np.bincount(lengths).argmax()) if len(lengths) else None

    def to_lab(self) -> str:
        """Return lines "time, position" with a tab between: what mir_eval and Sonic Visualiser read."""
        return _lines((f"{time:.3f}", str(place)) for time, place in zip(self.times, self.positions, strict=True))

    def to_dataframe(self) -> Any:
        """Return a pandas table, one row a beat."""
        import pandas

        return pandas.DataFrame({"time": self.times, "position": self.positions, "confidence": self.confidences})


def _lines(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)
