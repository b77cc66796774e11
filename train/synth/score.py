"""What a score is here: notes of named parts, and what is known of keys, chords and beats. All times in seconds."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mt2_music.music import transpose_chord, transpose_key

ROLES = ("melody", "chords", "bass", "drums")


@dataclass(frozen=True)
class Note:
    """One note.

    Args:
        start, end: seconds.
        pitch: MIDI pitch; of drums, the General MIDI drum number.
        velocity: 1 to 127.
        part: one of `ROLES`, or one of them and a number, such as "melody 2". A part is played by one instrument.
    """

    start: float
    end: float
    pitch: int
    velocity: int
    part: str

    @property
    def role(self) -> str:
        """What the part does in the music, one of `ROLES`."""
        return self.part.split()[0]


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one label: a key such as "Eb minor", or a chord in Harte's syntax such as "Eb:min7/b3".

    Source: Harte et al., Symbolic representation of musical chords, ISMIR 2005.
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Beat:
    """A beat and its place in the bar, 1 for the downbeat."""

    time: float
    position: int


@dataclass(frozen=True)
class Score:
    """Notes, and the labels that are known of them; what is unknown is left empty, never guessed.

    Args:
        notes: in the order of their starts.
        keys, chords: segments in order, without overlap.
        beats: in order.
    """

    notes: tuple[Note, ...]
    keys: tuple[Segment, ...] = ()
    chords: tuple[Segment, ...] = ()
    beats: tuple[Beat, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds until the last note has ended."""
        return max((note.end for note in self.notes), default=0.0)

    @property
    def key(self) -> str | None:
        """The key that lasts longest in all, or None where keys are unknown."""
        return main_key(self.keys)

    @property
    def tempo(self) -> float | None:
        """Beats per minute by the median distance of beats, or None where beats are unknown."""
        return float(60 / np.median(np.diff([beat.time for beat in self.beats]))) if len(self.beats) > 1 else None

    def transposed(self, semitones: int) -> "Score":
        """Return the score some semitones higher, labels included; drums stay."""
        return Score(
            tuple(n if n.role == "drums" else replace(n, pitch=n.pitch + semitones) for n in self.notes),
            tuple(replace(key, label=transpose_key(key.label, semitones)) for key in self.keys),
            tuple(replace(chord, label=transpose_chord(chord.label, semitones)) for chord in self.chords),
            self.beats,
        )

    def stretched(self, factor: float) -> "Score":
        """Return the score played in `factor` times the time."""
        return Score(
            tuple(replace(note, start=note.start * factor, end=note.end * factor) for note in self.notes),
            tuple(replace(key, start=key.start * factor, end=key.end * factor) for key in self.keys),
            tuple(replace(chord, start=chord.start * factor, end=chord.end * factor) for chord in self.chords),
            tuple(replace(beat, time=beat.time * factor) for beat in self.beats),
        )

    def excerpt(self, start: float, seconds: float) -> "Score":
        """Return what sounds between `start` and `start + seconds`, with `start` as the new 0.

        Notes that began earlier are left out: a voice that enters in the middle of its note would be no note.
        """
        end = start + seconds
        return Score(
            tuple(
                replace(note, start=note.start - start, end=min(note.end, end) - start)
                for note in self.notes
                if start <= note.start < end
            ),
            _cut(self.keys, start, end),
            _cut(self.chords, start, end),
            tuple(replace(beat, time=beat.time - start) for beat in self.beats if start <= beat.time < end),
        )


def main_key(keys: Iterable[Segment]) -> str | None:
    """Return the label that lasts longest in all, the earlier one of equals; None of nothing."""
    lasting: dict[str, float] = defaultdict(float)
    for key in keys:
        lasting[key.label] += key.end - key.start
    return max(lasting, key=lambda label: round(lasting[label], 3), default=None)


def in_order(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Sort notes by start, then pitch and part."""
    return tuple(sorted(notes, key=lambda note: (note.start, note.pitch, note.part)))


def merge(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Join neighbours with one label, and leave out segments without length."""
    merged: list[Segment] = []
    for segment in segments:
        if segment.end <= segment.start:
            continue
        if merged and merged[-1].label == segment.label and abs(merged[-1].end - segment.start) < 1e-6:
            merged[-1] = replace(merged[-1], end=segment.end)
        else:
            merged.append(segment)
    return tuple(merged)


def _cut(segments: Sequence[Segment], start: float, end: float) -> tuple[Segment, ...]:
    inside = (Segment(max(s.start, start) - start, min(s.end, end) - start, s.label) for s in segments)
    return tuple(segment for segment in inside if segment.end > segment.start)
