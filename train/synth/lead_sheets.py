"""MusicXML as plain data: notes of each staff, chord symbols in Harte's syntax, key signatures, beats; in seconds."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.music import NO_CHORD, parse_pitch_class

from .score import Beat, Segment, merge

VELOCITY = 90  # of every note: most sheets say nothing of loudness
DEFAULT_BPM = 120.0  # quarters a minute where no metronome mark says otherwise
MAX_QUARTERS_PER_CHORD = 32  # on average; with fewer symbols they are strays, and do not tell the harmony

# Kind of a chord symbol, as MusicXML or music21 call it: shorthand and further degrees. Eleventh and thirteenth chords
# have no shorthand in Harte's paper. Power chords and pedals have no third to play and stay unknown, as others do.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "major": ("maj", ()),
    "minor": ("min", ()),
    "augmented": ("aug", ()),
    "diminished": ("dim", ()),
    "dominant-seventh": ("7", ()),
    "major-seventh": ("maj7", ()),
    "minor-seventh": ("min7", ()),
    "diminished-seventh": ("dim7", ()),
    "half-diminished-seventh": ("hdim7", ()),
    "augmented-seventh": ("aug", ("b7",)),
    "augmented-major-seventh": ("aug", ("7",)),
    "seventh-flat-five": ("7", ("*5", "b5")),
    "minor-major-seventh": ("minmaj7", ()),
    "minor-major": ("minmaj7", ()),
    "major-sixth": ("maj6", ()),
    "minor-sixth": ("min6", ()),
    "maj69": ("maj6", ("9",)),
    "dominant-ninth": ("9", ()),
    "major-ninth": ("maj9", ()),
    "minor-ninth": ("min9", ()),
    "minor-major-ninth": ("minmaj7", ("9",)),
    "augmented-ninth": ("aug", ("b7", "9")),
    "augmented-dominant-ninth": ("aug", ("b7", "9")),
    "half-diminished-ninth": ("hdim7", ("9",)),
    "dominant-11th": ("9", ("11",)),
    "major-11th": ("maj9", ("11",)),
    "minor-11th": ("min9", ("11",)),
    "dominant-13th": ("9", ("13",)),
    "major-13th": ("maj9", ("13",)),
    "minor-13th": ("min9", ("13",)),
    "suspended-second": ("sus2", ()),
    "suspended-fourth": ("sus4", ()),
    "suspended-fourth-seventh": ("sus4", ("b7",)),
}
ALTERED_FIFTHS = {("min7", "b5"): "hdim7", ("min", "b5"): "dim", ("maj", "#5"): "aug"}
PERFECT = ("maj", "min", "7", "maj7", "min7", "minmaj7", "maj6", "min6", "9", "maj9", "min9")  # with a perfect fifth
INTERVALS = ("1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7")  # names of a bass above its root


@dataclass(frozen=True)
class Track:
    """Notes of one staff or MIDI track, each as (start, end, pitch, velocity), and what tells its role."""

    name: str
    notes: tuple[tuple[float, float, int, int], ...]
    program: int | None = None
    is_drum: bool = False


@dataclass(frozen=True)
class Signature:
    """A key signature from `time` on: the major key it belongs to, and whether its minor key is meant expressly."""

    time: float
    tonic: int
    says_minor: bool


@dataclass(frozen=True)
class Sheet:
    """Contents of a file, before parts and keys are derived from them."""

    tracks: tuple[Track, ...]
    signatures: tuple[Signature, ...]
    chords: tuple[Segment, ...]
    beats: tuple[Beat, ...]


def parse_musicxml(path: Path) -> Sheet:
    """Read a MusicXML file, repeats played out where they are well formed, at sounding pitch.

    Ties are joined; grace notes, unpitched percussion and chord symbols that cannot be named are left out. A chord
    lasts until the next symbol, so one that cannot be named, or a plain "N.C.", ends it.

    Raises:
        ValueError: the file cannot be read.
        ImportError: music21 is not installed.
    """
    try:
        from music21 import converter, instrument, key, repeat, stream, tempo
    except ImportError as error:
        raise ImportError('MusicXML needs music21: pip install "mt2-music[synth]"') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pickles would fill the user's temporary folder, and be read in place of a file that has changed.
            score: Any = converter.parseFile(path, forceSource=True, storePickle=False)
            if any(one.transposition for one in score.recurse().getElementsByClass(instrument.Instrument)):
                score = score.toSoundingPitch()
            try:
                score = score.expandRepeats()
            except (repeat.ExpanderException, IndexError):
                pass  # as it is written, then: one sheet in six has an ending or a sign too many
            parts = [(part, part.flatten()) for part in score.parts]
            if not parts:
                raise ValueError("it holds no parts")
            clock = _Clock(mark for _, flat in parts for mark in flat.getElementsByClass(tempo.MetronomeMark))
            end = clock(max(float(flat.highestTime) for _, flat in parts))
            signatures = {float(one.offset): one for one in parts[0][1].getElementsByClass(key.KeySignature)}
            return Sheet(
                tuple(Track(str(part.partName or ""), tuple(_notes(flat, clock))) for part, flat in parts),
                tuple(
                    Signature(clock(offset), one.sharps * 7 % 12, getattr(one, "mode", None) == "minor")
                    for offset, one in sorted(signatures.items())
                ),
                _chords([flat for _, flat in parts], clock, end),
                tuple(_beats(parts[0][0].getElementsByClass(stream.Measure), clock)),
            )
    except Exception as error:  # music21 has a dozen families of errors for files that are not what they claim to be
        raise ValueError(f"cannot read {path}: {type(error).__name__}: {error}") from error


class _Clock:
    """Turns quarters since the beginning into seconds."""

    def __init__(self, marks: Iterable[Any]) -> None:
        # Words such as "Lively" come with a number that music21 made up.
        stated = {float(mark.offset): mark.getQuarterBPM() for mark in marks if not mark.numberImplicit}
        tempi = {0.0: DEFAULT_BPM} | {offset: float(bpm) for offset, bpm in stated.items() if bpm}
        self.offsets = np.array(sorted(tempi))
        self.seconds_per_quarter = np.array([60 / tempi[offset] for offset in sorted(tempi)])
        self.starts = np.concatenate([[0.0], np.cumsum(np.diff(self.offsets) * self.seconds_per_quarter[:-1])])

    def __call__(self, offset: float) -> float:
        place = int(np.searchsorted(self.offsets, offset, side="right")) - 1
        return float(self.starts[place] + (offset - self.offsets[place]) * self.seconds_per_quarter[place])


def _notes(flat: Any, clock: _Clock) -> Iterator[tuple[float, float, int, int]]:
    from music21 import harmony

    sounding: dict[int, tuple[float, float]] = {}  # tied notes that may go on: pitch to start and end
    for element in flat.notes:
        if isinstance(element, harmony.Harmony) or element.duration.isGrace:
            continue
        start, end = float(element.offset), float(element.offset + element.quarterLength)
        for note in getattr(element, "notes", [element]):
            if not hasattr(note, "pitch"):
                continue  # unpitched
            pitch = note.pitch.midi
            tie = note.tie.type if note.tie else None
            before = sounding.pop(pitch, None)
            if before is not None:
                if tie in ("stop", "continue") and abs(before[1] - start) < 1e-3:
                    start = before[0]
                else:
                    yield clock(before[0]), clock(before[1]), pitch, VELOCITY
            if tie in ("start", "continue"):
                sounding[pitch] = start, end
            else:
                yield clock(start), clock(end), pitch, VELOCITY
    for pitch, (start, end) in sounding.items():
        yield clock(start), clock(end), pitch, VELOCITY


def _chords(parts: list[Any], clock: _Clock, end: float) -> tuple[Segment, ...]:
    from music21 import expressions, harmony

    symbols: dict[float, str | None] = {}
    for flat in parts:
        for words in flat.getElementsByClass(expressions.TextExpression):
            if words.content and words.content.strip().upper() in ("N.C.", "NC"):
                symbols[float(words.offset)] = NO_CHORD
        for symbol in flat.getElementsByClass(harmony.ChordSymbol):
            symbols[float(symbol.offset)] = _name(symbol)
    if not symbols or max(float(flat.highestTime) for flat in parts) > MAX_QUARTERS_PER_CHORD * len(symbols):
        return ()
    times = [clock(offset) for offset in sorted(symbols)] + [end]
    labels = [symbols[offset] for offset in sorted(symbols)]
    return merge(Segment(*span, label) for span, label in zip(pairwise(times), labels, strict=True) if label)


def _name(symbol: Any) -> str | None:
    if symbol.chordKind == "none":
        return NO_CHORD
    degrees = [
        (step.modType, step.degree, int(step.interval.semitones) if step.interval else 0)
        for step in symbol.chordStepModifications
    ]
    return harte(symbol.root().name, symbol.chordKind, symbol.bass().name, degrees)


def harte(root: str, kind: str, bass: str, degrees: Iterable[tuple[str, int, int]] = ()) -> str | None:
    """Name a chord in Harte's syntax.

    Args:
        root, bass: such as "Eb" or "E-".
        kind: one of `KINDS`.
        degrees: further degrees as MusicXML has them, each with what to do ("add", "alter" or "subtract"), its number,
            and semitones above what it is in the chord or, if it is not in it, in a dominant chord.

    Returns:
        Such as "Eb:min7/b3", or None of kinds and degrees we cannot name.
    """
    if kind not in KINDS:
        return None
    shorthand, written = KINDS[kind]
    extra = list(written)
    for action, number, semitones in degrees:
        sign = semitones - (number == 7)  # the seventh of a dominant chord is minor
        name = f"{'#' * max(sign, 0)}{'b' * max(-sign, 0)}{number}"
        if action == "alter" and not extra and (shorthand, name) in ALTERED_FIFTHS:
            shorthand = ALTERED_FIFTHS[shorthand, name]
        elif action == "alter" and str(number) in extra:
            extra[extra.index(str(number))] = name
        elif action == "alter" and (number == 9 and shorthand.endswith("9") or number == 5 and shorthand in PERFECT):
            extra += [f"*{number}", name]
        elif action == "add" or action == "alter" and number > 7:
            extra.append(name)
        else:
            return None
    label = root.replace("-", "b") + ":" + shorthand + (f"({','.join(extra)})" if extra else "")
    above = (parse_pitch_class(bass) - parse_pitch_class(root)) % 12
    return f"{label}/{INTERVALS[above]}" if above else label


def _beats(measures: Iterable[Any], clock: _Clock) -> Iterator[Beat]:
    """Beats of every measure that a time signature governs, three quavers each in compound metres.

    A short measure goes on where a short one before it broke off, as where a repeat begins with an upbeat; the first
    one ends at the barline.
    """
    signature, reached, first = None, 0.0, True
    bars = list(measures)
    starts = [float(bar.offset) for bar in bars]
    ends = [*starts[1:], starts[-1] + float(bars[-1].duration.quarterLength)] if bars else []
    for bar, start, end in zip(bars, starts, ends, strict=True):
        signature = bar.timeSignature or signature
        if signature is None:
            continue
        full, length = float(signature.barDuration.quarterLength), end - start
        if first and length < full - 1e-6:
            reached = full - length
        elif reached + length > full + 1e-6:
            reached = 0.0
        first = False
        places = [float(offset) for offset in signature.getBeatOffsets()]
        for bar_start in np.arange(0.0, reached + length - 1e-6, full):  # one, but for measures longer than a bar
            for number, place in enumerate(places, start=1):
                since = float(bar_start) + place - reached
                if -1e-6 <= since < length - 1e-6:
                    yield Beat(clock(start + since), number)
        reached = reached + length if reached + length < full - 1e-6 else 0.0
