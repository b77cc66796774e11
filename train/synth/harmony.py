"""A generator of functional harmony: phrases with cadences in any major or minor key, for four parts."""

import numpy as np

from mt2_music.music import chord_tones, key_name, relative_key

from .arrange import accompany
from .score import Beat, Note, Score, Segment, in_order, merge

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

# Chords as (semitones above the tonic, Harte's shorthand), by mode and degree name.
CHORDS = {
    "major": {
        "I": (0, "maj"),
        "ii": (2, "min"),
        "iii": (4, "min"),
        "IV": (5, "maj"),
        "V": (7, "maj"),
        "V7": (7, "7"),
        "vi": (9, "min"),
        "ii7": (2, "min7"),
        "V/V": (2, "7"),
        "V/vi": (4, "7"),
    },
    "minor": {
        "i": (0, "min"),
        "ii": (2, "dim"),
        "III": (3, "maj"),
        "iv": (5, "min"),
        "v": (7, "min"),
        "V": (7, "maj"),
        "V7": (7, "7"),
        "VI": (8, "maj"),
        "VII": (10, "maj"),
        "V/iv": (0, "7"),
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

# Rich pieces only.
SEVENTHS = {"maj": "maj7", "min": "min7", "dim": "hdim7"}
SEVENTHS_SHARE, INVERSION_SHARE = 0.35, 0.15  # of pieces with seventh chords; of chords over their third or fifth
MODULATING_SHARE, MODULATION_SHARE = 0.4, 0.4  # of pieces that modulate; in them, of phrases that begin with it
RICH_RELATIVE_SHARE = 0.2  # as RELATIVE_SHARE
# Beats in a bar and pulses in a beat: 4/4, 3/4, 2/4, 6/8, 12/8, 5/4.
METRES = ((4, 2), (4, 2), (4, 2), (3, 2), (3, 2), (2, 2), (2, 3), (4, 3), (5, 2))
PLAIN_METRES = ((3, 2), (4, 2), (4, 2), (4, 2))


def compose(rng: np.random.Generator, seconds: float, tonic: int, mode: str, rich: bool = False) -> Score:
    """Write a piece that lasts about `seconds`, cut at the barline.

    Args:
        rng: source of every choice; the same state gives the same piece.
        seconds: wanted length.
        tonic: pitch class of the tonic at the start, C = 0.
        mode: "major" or "minor".
        rich: also seventh chords, inversions, modulations to near keys, two chords in a bar, compound and odd metres.

    Returns:
        Melody, chords and bass that follow a phrase-wise progression with cadences, and in half of the pieces drums;
        with its keys, chords and beats. Some phrases stand in the relative key, as in most real pieces, so what stays
        of a plain piece is the key signature.
    """
    beats_per_bar, pulses = (METRES if rich else PLAIN_METRES)[
        int(rng.integers(len(METRES if rich else PLAIN_METRES)))
    ]
    tempo = float(rng.uniform(60, 180 if pulses == 2 else 120))
    beat = 60 / tempo
    num_bars = max(4, round(seconds / (beat * beats_per_bar)))
    beats = [Beat(index * beat, index % beats_per_bar + 1) for index in range(num_bars * beats_per_bar)]
    per_bar = 2 if rich and beats_per_bar == 4 and rng.random() < 0.3 else 1
    length = beat * beats_per_bar / per_bar  # of one chord
    progression = _progression(rng, (tonic, mode), num_bars * per_bar, rich)
    sevenths = rich and rng.random() < SEVENTHS_SHARE
    keys, chords = [], []
    for index, ((local_tonic, local_mode), name) in enumerate(progression):
        start, end = index * length, (index + 1) * length
        keys.append(Segment(start, end, key_name(local_tonic, local_mode)))
        chords.append(Segment(start, end, _chord_label(rng, local_tonic, local_mode, name, sevenths, rich)))
    drums = bool(rng.integers(2))
    notes = accompany(rng, chords, beats, pulses, drums)
    pitch = int(rng.integers(64, 80))
    for (key, _), chord in zip(progression, chords, strict=True):
        melody, pitch = _melody(rng, key, chord, pitch, beat, beats_per_bar // per_bar, pulses)
        notes += melody
    return Score(in_order(notes), merge(keys), merge(chords), tuple(beats))


def _progression(
    rng: np.random.Generator, home: tuple[int, str], num_chords: int, rich: bool
) -> list[tuple[tuple[int, str], str]]:
    """Phrases of four or eight chords, each with a cadence: key and name of every chord."""
    chords: list[tuple[tuple[int, str], str]] = []
    relative_share = RICH_RELATIVE_SHARE if rich else RELATIVE_SHARE
    modulates = rich and rng.random() < MODULATING_SHARE
    while len(chords) < num_chords:
        if chords and modulates and rng.random() < MODULATION_SHARE:
            home = _near_key(rng, *home)
        here = relative_key(*home) if chords and rng.random() < relative_share else home
        mode = here[1]
        phrase = [str(rng.choice(OPENINGS[mode]))]
        length = int(rng.choice([4, 4, 8]))
        while len(phrase) < length - 3:
            phrase.append(str(rng.choice(MOVES[mode][phrase[-1]])))
        phrase += CADENCES[mode][int(rng.integers(len(CADENCES[mode])))]
        chords += [(here, name) for name in phrase]
    return chords[:num_chords]


def _near_key(rng: np.random.Generator, tonic: int, mode: str) -> tuple[int, str]:
    """Modulate up or down a fifth, to the parallel key, or up one or two semitones as songs like to."""
    step = int(rng.choice([7, 7, 5, 5, 0, 1, 2]))
    if step == 0:
        return tonic, "minor" if mode == "major" else "major"
    return (tonic + step) % 12, mode


def _chord_label(rng: np.random.Generator, tonic: int, mode: str, name: str, sevenths: bool, rich: bool) -> str:
    degree, quality = CHORDS[mode][name]
    if sevenths:
        quality = "7" if name in ("V", "VII") else SEVENTHS.get(quality, quality)
    label = f"{key_name(tonic + degree, 'major').split()[0]}:{quality}"
    if rich and rng.random() < INVERSION_SHARE:
        third = "b3" if quality.startswith(("min", "dim", "hdim")) else "3"
        fifth = "b5" if quality.startswith(("dim", "hdim")) else "5"
        label += f"/{third if rng.integers(2) else fifth}"
    return label


def _melody(
    rng: np.random.Generator, key: tuple[int, str], chord: Segment, pitch: int, beat: float, beats: int, pulses: int
) -> tuple[list[Note], int]:
    """Chord tones on the beats, steps of the scale between them, with the leading note raised over the dominant."""
    tonic, mode = key
    pitch_classes, _ = chord_tones(chord.label)
    scale = {(tonic + step) % 12 for step in SCALES[mode]} | set(pitch_classes)
    if (tonic + 11) % 12 in pitch_classes:
        scale.discard((tonic + 10) % 12)
    notes = []
    time = 0  # in pulses
    while time < beats * pulses:
        length = min(int(rng.choice([1, 1, pulses, pulses, 2 * pulses])), beats * pulses - time)
        wanted = set(pitch_classes) if time % pulses == 0 else scale
        target = int(np.clip(pitch + rng.integers(-5, 6), 60, 86))
        pitch = min((p for p in range(58, 90) if p % 12 in wanted), key=lambda p: abs(p - target))
        if rng.random() < 0.9:
            start = chord.start + time * beat / pulses
            notes.append(Note(start, start + 0.92 * length * beat / pulses, pitch, 92, "melody"))
        time += length
    return notes, pitch
