"""Accompaniments: chords, bass and drums for any row of chord symbols over a grid of beats."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from mt2_music.music import NO_CHORD, chord_tones

from .score import Beat, Note, Score, Segment, in_order

KICK, SNARE, RIM, HAT, OPEN_HAT, CRASH = 36, 38, 37, 42, 46, 49


def accompany(
    rng: np.random.Generator, chords: Sequence[Segment], beats: Sequence[Beat], pulses: int = 2, drums: bool = False
) -> list[Note]:
    """Play chords, bass and drums in one style that is drawn for the whole piece.

    Args:
        rng: draws the style.
        chords: what to play; "N" is a rest.
        beats: the grid, at least two beats. The last beat lasts as long as the one before it.
        pulses: what a beat is divided into: 2, or 3 in compound metres.
        drums: play drums as well.

    Returns:
        Notes of the parts "chords", "bass" and "drums".

    Raises:
        ValueError: fewer than two beats, or a chord we cannot read.
    """
    if len(beats) < 2:
        raise ValueError(f"an accompaniment needs at least 2 beats, got {len(beats)}")
    chord_style, bass_style = int(rng.integers(4)), int(rng.integers(4))
    centre = int(rng.integers(55, 66))
    times = [beat.time for beat in beats]
    times.append(2 * times[-1] - times[-2])
    notes: list[Note] = []
    previous: list[int] = []
    for label, span in _spans(chords, beats):
        pitch_classes, bass = chord_tones(label)
        if not pitch_classes:
            continue
        previous = _voice(pitch_classes, previous or [centre], centre)
        bounds = [times[index] for index in span] + [times[span[-1] + 1]]
        notes += _play_chord(previous, bounds, chord_style, pulses)
        notes += _play_bass(pitch_classes, bass, bounds, bass_style)
    return notes + (_play_drums(rng, beats, times, pulses) if drums else [])


def humanised(score: Score, rng: np.random.Generator, seconds: float = 0.008, velocity: int = 12) -> Score:
    """Move every note a little in time and loudness, and every part as a whole in loudness; labels stay.

    Args:
        seconds: standard deviation of the shift in time.
        velocity: largest change of a single note, of 127.
    """
    parts = {part: int(rng.integers(-20, 13)) for part in sorted({note.part for note in score.notes})}
    shifts = rng.normal(0, seconds, len(score.notes))
    changes = rng.integers(-velocity, velocity + 1, len(score.notes))
    return replace(
        score,
        notes=in_order(
            replace(
                note,
                start=max(0.0, note.start + shift),
                end=max(0.0, note.start + shift) + note.end - note.start,
                velocity=int(np.clip(note.velocity + change + parts[note.part], 1, 127)),
            )
            for note, shift, change in zip(score.notes, shifts, changes, strict=True)
        ),
    )


def _spans(chords: Sequence[Segment], beats: Sequence[Beat]) -> list[tuple[str, list[int]]]:
    """Runs of beats with one chord in one bar."""
    labels, bars, bar = [], [], 0
    remaining = list(chords)
    for beat in beats:
        while remaining and remaining[0].end <= beat.time + 1e-3:
            remaining.pop(0)
        starts_later = not remaining or remaining[0].start > beat.time + 0.1
        labels.append(NO_CHORD if starts_later else remaining[0].label)
        bar += beat.position == 1
        bars.append(bar)
    groups = groupby(range(len(beats)), key=lambda index: (bars[index], labels[index]))
    return [(label, list(indices)) for (_, label), indices in groups]


def _voice(pitch_classes: list[int], previous: list[int], centre: int) -> list[int]:
    """Put each chord tone where it lies nearest to the last chord's middle, which is drawn back to the centre."""
    middle = min(max(sum(previous) / len(previous), centre - 6), centre + 6)
    return sorted(min(range(43 + (pc - 43) % 12, 84, 12), key=lambda p: abs(p - middle)) for pc in pitch_classes)


def _play_chord(voicing: list[int], bounds: list[float], style: int, pulses: int) -> list[Note]:
    start, end = bounds[0], bounds[-1]
    if style == 0:  # held
        return [Note(start, start + 0.95 * (end - start), pitch, 70, "chords") for pitch in voicing]
    notes = []
    for index, (left, right) in enumerate(zip(bounds, bounds[1:], strict=False)):
        beat = right - left
        if style == 1:  # on every beat
            notes += [Note(left, left + 0.7 * beat, pitch, 66, "chords") for pitch in voicing]
        elif style == 2:  # on the beat that starts the span, then between beats
            at = left if index == 0 else left + beat * (pulses - 1) / pulses
            notes += [Note(at, at + 0.45 * beat, pitch, 66, "chords") for pitch in voicing]
        else:  # broken
            notes += [
                Note(at, at + 1.5 * beat / pulses, voicing[(index * pulses + pulse) % len(voicing)], 68, "chords")
                for pulse, at in enumerate(left + beat * pulse / pulses for pulse in range(pulses))
            ]
    return notes


def _play_bass(pitch_classes: list[int], bass: int, bounds: list[float], style: int) -> list[Note]:
    low, third, fifth = (
        36 + (pc - 36) % 12 for pc in (bass, pitch_classes[1], pitch_classes[min(2, len(pitch_classes) - 1)])
    )
    start, end = bounds[0], bounds[-1]
    if style == 0 or len(bounds) == 2:
        return [Note(start, start + 0.9 * (end - start), low, 84, "bass")]
    if style == 1:
        middle = bounds[len(bounds) // 2]
        return [
            Note(start, start + 0.9 * (middle - start), low, 86, "bass"),
            Note(middle, middle + 0.9 * (end - middle), fifth, 78, "bass"),
        ]
    walk = [low, fifth] if style == 2 else [low, third, fifth, low]
    return [
        Note(left, left + 0.8 * (right - left), walk[index % len(walk)], 80, "bass")
        for index, (left, right) in enumerate(zip(bounds, bounds[1:], strict=False))
    ]


def _play_drums(rng: np.random.Generator, beats: Sequence[Beat], times: list[float], pulses: int) -> list[Note]:
    hat = int(rng.choice([HAT, HAT, OPEN_HAT, RIM]))
    backbeat, every_pulse = bool(rng.integers(2)), bool(rng.integers(2))
    notes = []
    for index, beat in enumerate(beats):
        length = times[index + 1] - times[index]
        for pulse in range(pulses if every_pulse else 1):
            at = beat.time + length * pulse / pulses
            notes.append(Note(at, at + 0.1, hat, 62 if pulse == 0 else 50, "drums"))
        if beat.position == 1:
            notes.append(Note(beat.time, beat.time + 0.1, KICK, 96, "drums"))
        elif backbeat and beat.position % 2 == 0:
            notes.append(Note(beat.time, beat.time + 0.1, SNARE, 86, "drums"))
        elif not backbeat:
            notes.append(Note(beat.time, beat.time + 0.1, SNARE if beat.position == 3 else KICK, 72, "drums"))
    if beats[0].position == 1 and rng.random() < 0.3:
        notes.append(Note(times[0], times[0] + 0.5, CRASH, 80, "drums"))
    return notes
