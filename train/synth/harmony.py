"""A generator of functional harmony: phrases with cadences in any major or minor key, for four parts."""

from dataclasses import dataclass

import numpy as np

from mt2_music.embed import MAJOR_TONICS, MINOR_TONICS

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

# Chords as (semitones above the tonic, intervals), by mode and degree name.
CHORDS = {
    "major": {
        "I": (0, (0, 4, 7)),
        "ii": (2, (0, 3, 7)),
        "iii": (4, (0, 3, 7)),
        "IV": (5, (0, 4, 7)),
        "V": (7, (0, 4, 7)),
        "V7": (7, (0, 4, 7, 10)),
        "vi": (9, (0, 3, 7)),
        "ii7": (2, (0, 3, 7, 10)),
        "V/V": (2, (0, 4, 7, 10)),
        "V/vi": (4, (0, 4, 7, 10)),
    },
    "minor": {
        "i": (0, (0, 3, 7)),
        "ii": (2, (0, 3, 6)),
        "III": (3, (0, 4, 7)),
        "iv": (5, (0, 3, 7)),
        "v": (7, (0, 3, 7)),
        "V": (7, (0, 4, 7)),
        "V7": (7, (0, 4, 7, 10)),
        "VI": (8, (0, 4, 7)),
        "VII": (10, (0, 4, 7)),
        "V/iv": (0, (0, 4, 7, 10)),
    },
}

# Where a chord may go inside a phrase. Repetition of a name makes it likelier.
MOVES = {
    "major": {
        "I": ("IV", "IV", "V", "vi", "vi", "ii", "iii"),
        "ii": ("V", "V", "V7"),
        "ii7": ("V", "V7", "V7"),
        "iii": ("vi", "IV"),
        "IV": ("I", "V", "V", "ii", "ii7"),
        "V": ("I", "I", "vi", "IV"),
        "V7": ("I", "I", "I", "vi"),
        "vi": ("IV", "ii", "ii7", "V", "V/V"),
        "V/V": ("V", "V7"),
        "V/vi": ("vi",),
    },
    "minor": {
        "i": ("iv", "iv", "v", "VI", "VI", "VII", "VII", "ii", "V/iv"),
        "ii": ("V", "V7"),
        "III": ("VI", "iv", "VII"),
        "iv": ("i", "v", "V7", "VII"),
        "v": ("i", "VI", "iv"),
        "V": ("i", "i", "VI"),
        "V7": ("i", "i", "VI"),
        "VI": ("iv", "ii", "III", "V", "VII"),
        "VII": ("III", "i"),
        "V/iv": ("iv",),
    },
}
CADENCES = {
    "major": (("IV", "V7", "I"), ("ii7", "V7", "I"), ("IV", "V", "I")),
    "minor": (("iv", "V7", "i"), ("ii", "V7", "i"), ("VI", "VII", "i"), ("iv", "v", "i")),
}
OPENINGS = {"major": ("I", "I", "I", "vi", "IV"), "minor": ("i", "i", "i", "VI", "iv")}
RELATIVE_SHARE = 0.4  # of the phrases after the first, how many stand in the relative key


@dataclass(frozen=True)
class Note:
    """One note: times in seconds, MIDI pitch (General MIDI drum number for drums), velocity 1 to 127."""

    start: float
    end: float
    pitch: int
    velocity: int
    part: str


@dataclass(frozen=True)
class Score:
    """Notes in the order of their starts, and the labels that are known of them."""

    notes: tuple[Note, ...]
    tonic: int
    mode: str
    tempo: float

    @property
    def signature(self) -> int:
        """Pitch class of the major key with this key's signature, C = 0."""
        return self.tonic if self.mode == "major" else (self.tonic + 3) % 12

    @property
    def key(self) -> str:
        """Name such as "Eb minor"."""
        return f"{(MAJOR_TONICS if self.mode == 'major' else MINOR_TONICS)[self.tonic]} {self.mode}"


def compose(rng: np.random.Generator, seconds: float, tonic: int, mode: str) -> Score:
    """Write a piece in one key that lasts about `seconds`, cut at the barline.

    Args:
        rng: source of every choice; the same state gives the same piece.
        seconds: wanted length.
        tonic: pitch class of the tonic, C = 0.
        mode: "major" or "minor".

    Returns:
        Melody, chords and bass that follow a phrase-wise progression with cadences, and in half of the pieces drums.
        Some phrases stand in the relative key, as in most real pieces: what stays is the key signature. The label is
        the key of the first phrase.
    """
    tempo = float(rng.uniform(60, 180))
    beats_per_bar = int(rng.choice([3, 4, 4, 4]))
    beat = 60 / tempo
    num_bars = max(4, round(seconds / (beat * beats_per_bar)))
    style = {"chords": int(rng.integers(3)), "bass": int(rng.integers(3)), "drums": bool(rng.integers(2))}
    notes: list[Note] = []
    melody_pitch = int(rng.integers(64, 80))
    voicing: list[int] = []
    for bar, (local_tonic, local_mode, name) in enumerate(_progression(rng, tonic, mode, num_bars)):
        start = bar * beats_per_bar * beat
        root, intervals = CHORDS[local_mode][name]
        pitch_classes = [(local_tonic + root + interval) % 12 for interval in intervals]
        voicing = _voice(pitch_classes, voicing or [55, 60, 64])
        notes += _chords(voicing, start, beat, beats_per_bar, style["chords"])
        notes += _bass(pitch_classes, start, beat, beats_per_bar, style["bass"])
        melody, melody_pitch = _melody(
            rng, (local_tonic, local_mode), pitch_classes, melody_pitch, start, beat, beats_per_bar
        )
        notes += melody
        if style["drums"]:
            notes += _drums(start, beat, beats_per_bar)
    humanised = [
        Note(
            max(0.0, note.start + shift),
            note.end + shift,
            note.pitch,
            int(np.clip(note.velocity + change, 1, 127)),
            note.part,
        )
        for note, shift, change in zip(
            notes, rng.normal(0, 0.008, len(notes)), rng.integers(-12, 13, len(notes)), strict=True
        )
    ]
    return Score(tuple(sorted(humanised, key=lambda note: (note.start, note.pitch))), tonic, mode, tempo)


def _progression(rng: np.random.Generator, tonic: int, mode: str, num_bars: int) -> list[tuple[int, str, str]]:
    """Phrases of four or eight bars, each with a cadence: tonic, mode and chord name of every bar."""
    relative = ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")
    bars: list[tuple[int, str, str]] = []
    while len(bars) < num_bars:
        here = relative if bars and rng.random() < RELATIVE_SHARE else (tonic, mode)
        phrase = [str(rng.choice(OPENINGS[here[1]]))]
        length = int(rng.choice([4, 4, 8]))
        while len(phrase) < length - 3:
            phrase.append(str(rng.choice(MOVES[here[1]][phrase[-1]])))
        cadences = CADENCES[here[1]]
        bars += [(*here, name) for name in [*phrase, *cadences[int(rng.integers(len(cadences)))]]]
    return bars[:num_bars]


def _voice(pitch_classes: list[int], previous: list[int]) -> list[int]:
    """Put each chord tone where it lies nearest to the last chord's middle."""
    centre = sum(previous) / len(previous)
    centre = min(max(centre, 54), 66)
    return sorted(
        min((p for p in range(43, 80) if p % 12 == pc), key=lambda p: abs(p - centre)) for pc in pitch_classes
    )


def _chords(voicing: list[int], start: float, beat: float, beats: int, style: int) -> list[Note]:
    if style == 0:  # held
        return [Note(start, start + beats * beat * 0.95, pitch, 70, "chords") for pitch in voicing]
    if style == 1:  # on every beat
        return [
            Note(start + b * beat, start + (b + 0.7) * beat, pitch, 66, "chords")
            for b in range(beats)
            for pitch in voicing
        ]
    return [  # broken, in eighths
        Note(start + e * beat / 2, start + (e + 1.5) * beat / 2, voicing[e % len(voicing)], 68, "chords")
        for e in range(2 * beats)
    ]


def _bass(pitch_classes: list[int], start: float, beat: float, beats: int, style: int) -> list[Note]:
    root, fifth = 36 + (pitch_classes[0] - 36) % 12, 36 + (pitch_classes[2] - 36) % 12
    if style == 0:
        return [Note(start, start + beats * beat * 0.9, root, 84, "bass")]
    if style == 1:
        half = beats - beats // 2
        return [
            Note(start, start + half * beat * 0.9, root, 86, "bass"),
            Note(start + half * beat, start + beats * beat * 0.9, fifth, 78, "bass"),
        ]
    return [
        Note(start + b * beat, start + (b + 0.8) * beat, root if b % 2 == 0 else fifth, 80, "bass")
        for b in range(beats)
    ]


def _melody(
    rng: np.random.Generator,
    key: tuple[int, str],
    pitch_classes: list[int],
    pitch: int,
    start: float,
    beat: float,
    beats: int,
) -> tuple[list[Note], int]:
    """Chord tones on the beats, steps of the scale between them, with the leading note raised over the dominant."""
    tonic, mode = key
    scale = {(tonic + step) % 12 for step in SCALES[mode]} | set(pitch_classes)
    if (tonic + 11) % 12 in pitch_classes:
        scale.discard((tonic + 10) % 12)
    notes = []
    time = 0.0
    while time < beats - 1e-6:
        length = min(float(rng.choice([0.5, 0.5, 1.0, 1.0, 2.0])), beats - time)
        wanted = set(pitch_classes) if time == int(time) else scale
        target = int(np.clip(pitch + rng.integers(-5, 6), 60, 86))
        pitch = min((p for p in range(58, 90) if p % 12 in wanted), key=lambda p: abs(p - target))
        if rng.random() < 0.9:
            notes.append(Note(start + time * beat, start + (time + length * 0.92) * beat, pitch, 92, "melody"))
        time += length
    return notes, pitch


def _drums(start: float, beat: float, beats: int) -> list[Note]:
    kick, snare, hat = 36, 38, 42
    notes = [Note(start + e * beat / 2, start + e * beat / 2 + 0.1, hat, 60, "drums") for e in range(2 * beats)]
    for b in range(beats):
        drum = kick if b % 2 == 0 else snare
        notes.append(Note(start + b * beat, start + b * beat + 0.1, drum, 88, "drums"))
    return notes
