"""The words of music, in one place for all: pitch classes, keys, key signatures, the circle of fifths, chords.

Pitch classes are numbers of semitones above C, from 0 to 11. A key is written "Eb minor", a chord in Harte's syntax,
"Eb:min7". A key signature is named by the pitch class of its major key.
"""

import numpy as np

# Pitch classes

PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # by note name


def parse_pitch_class(name: str) -> int:
    """Return the pitch class of a name such as "Eb", "F##" or "B-", C = 0.

    Raises:
        ValueError: another form.
    """
    accidentals = name[1:].replace("-", "b")
    if name[:1] not in PITCH_CLASSES or set(accidentals) - {"#", "b"}:
        raise ValueError(f"not a pitch class: {name!r}; expected such as 'Eb'")
    return (PITCH_CLASSES[name[0]] + accidentals.count("#") - accidentals.count("b")) % 12


# Keys

MODES = ("major", "minor")
# Names of the tonics by pitch class, as keys are usually spelt.
MAJOR_TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
KEY_LABELS = tuple(f"{tonic} major" for tonic in MAJOR_TONICS) + tuple(f"{tonic} minor" for tonic in MINOR_TONICS)


def parse_key(label: str) -> tuple[int, str]:
    """Return pitch class of the tonic and mode of a key such as "Eb minor".

    Raises:
        ValueError: another form.
    """
    tonic, _, mode = label.partition(" ")
    if mode not in MODES:
        raise ValueError(f"not a key: {label!r}; expected such as 'Eb minor'")
    return parse_pitch_class(tonic), mode


def key_name(tonic: int, mode: str) -> str:
    """Return the usual name, such as "Eb minor", of the key on a pitch class."""
    return f"{(MAJOR_TONICS if mode == 'major' else MINOR_TONICS)[tonic % 12]} {mode}"


def relative_key(tonic: int, mode: str) -> tuple[int, str]:
    """Return tonic and mode of the other key with the same signature: of C major, A minor."""
    return ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")


def transpose_key(label: str, semitones: int) -> str:
    """Return the key some semitones higher."""
    tonic, mode = parse_key(label)
    return key_name(tonic + semitones, mode)


# Ratings of the twelve pitch classes in a major and a minor context, the tonic first.
# Source: Krumhansl & Kessler 1982, Tracing the dynamic changes in perceived tonal organization, Psychol. Review 89.
KEY_RATINGS = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def correlate_with_keys(chroma: np.ndarray) -> dict[str, float]:
    """Correlate a chroma (12,), C first, with the ratings of every key; 0 for one that is the same everywhere.

    Source: Krumhansl 1990, Cognitive foundations of musical pitch.
    """
    centred = chroma - chroma.mean()
    length = np.linalg.norm(centred)
    scores = {}
    for mode, ratings in KEY_RATINGS.items():
        template = np.subtract(ratings, np.mean(ratings))
        for tonic in range(12):
            product = np.dot(np.roll(template, tonic), centred)
            scores[key_name(tonic, mode)] = float(product / (length * np.linalg.norm(template))) if length else 0.0
    return scores


def key_of_chroma(chroma: np.ndarray) -> str:
    """Return the key whose ratings correlate best with a chroma (12,), C first."""
    scores = correlate_with_keys(chroma)
    return max(scores, key=scores.__getitem__)


# Key signatures and the circle of fifths

SIGNATURES = tuple(f"{MAJOR_TONICS[pc]} major / {MINOR_TONICS[(pc + 9) % 12]} minor" for pc in range(12))
PITCH_CLASSES_BY_FIFTHS = [7 * step % 12 for step in range(12)]  # pitch classes of the major keys, from C by fifths


def signature(label: str) -> int:
    """Return the pitch class of the major key with the same key signature as a key such as "Eb minor"."""
    tonic, mode = parse_key(label)
    return tonic if mode == "major" else relative_key(tonic, mode)[0]


def fifths_between(start: int, end: int) -> int:
    """Return the steps on the circle of fifths from one pitch class to another, from -5 (flat) to 6 (sharp)."""
    return (7 * (end - start) + 5) % 12 - 5


def camelot(label: str) -> str:
    """Return the Camelot code that DJs know a key by: "8B" for C major, "8A" for A minor, and by fifths from there.

    Source: Camelot wheel, Mark Davis, Camelot Sound; as used by Mixed In Key.
    """
    return f"{(fifths_between(0, signature(label)) + 7) % 12 + 1}{'B' if parse_key(label)[1] == 'major' else 'A'}"


def open_key(label: str) -> str:
    """Return the Open Key code that DJs know a key by: "1d" for C major, "1m" for A minor, and by fifths from there.

    Source: Open Key notation, as used by Traktor (Native Instruments) and beaTunes.
    """
    return f"{fifths_between(0, signature(label)) % 12 + 1}{'d' if parse_key(label)[1] == 'major' else 'm'}"


# Chords

NO_CHORD, UNKNOWN_CHORD = "N", "X"
# Semitones above the root, by the shorthand of Harte's syntax: root, third, fifth, others.
QUALITIES = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "minmaj7": (0, 3, 7, 11),
    "dim7": (0, 3, 6, 9),
    "hdim7": (0, 3, 6, 10),
    "maj6": (0, 4, 7, 9),
    "min6": (0, 3, 7, 9),
    "9": (0, 4, 7, 10, 2),
    "maj9": (0, 4, 7, 11, 2),
    "min9": (0, 3, 7, 10, 2),
}
SEVENTHS = ("maj", "min", "7", "maj7", "min7")  # chords with a fifth: without and with a seventh
TRIAD_LABELS = (*(f"{root}:{mode}" for mode in ("maj", "min") for root in MAJOR_TONICS), NO_CHORD)
SEVENTH_LABELS = (*(f"{root}:{quality}" for quality in SEVENTHS for root in MAJOR_TONICS), NO_CHORD)
DEGREES = {"1": 0, "2": 2, "3": 4, "4": 5, "5": 7, "6": 9, "7": 11, "9": 2, "11": 5, "13": 9}


def transpose_chord(label: str, semitones: int) -> str:
    """Return a chord in Harte's syntax some semitones higher; its bass is relative to the root and stays."""
    if label == NO_CHORD:
        return label
    end = min((label.index(mark) for mark in ":/(" if mark in label), default=len(label))
    return MAJOR_TONICS[(parse_pitch_class(label[:end]) + semitones) % 12] + label[end:]


def chord_tones(label: str) -> tuple[list[int], int]:
    """Read a chord in Harte's syntax.

    Args:
        label: such as "Eb:min7/b3" or "G:7(*5,b5)". A shorthand we do not know counts as the triad it begins with.

    Returns:
        Pitch classes, the root first, and the pitch class of the bass; nothing and -1 of "N".

    Raises:
        ValueError: not a chord.

    Source: Harte et al. 2005, Symbolic representation of musical chords, ISMIR.
    """
    if label == NO_CHORD:
        return [], -1
    name, _, degree = label.partition("/")
    root_name, _, quality = name.partition(":")
    root = parse_pitch_class(root_name)
    shorthand, _, changes = (quality or "maj").partition("(")
    known = [name for name in QUALITIES if shorthand.startswith(name)]
    if not known:
        raise ValueError(f"unknown chord {label!r}")
    intervals = list(QUALITIES[max(known, key=len)])
    for change in changes.rstrip(")").split(",") if changes else ():
        interval = _interval(change.lstrip("*"), label)
        if change.startswith("*"):
            intervals = [other for other in intervals if other != interval]
        elif interval not in intervals:
            intervals.append(interval)
    bass = _interval(degree, label) if degree else 0
    return [(root + interval) % 12 for interval in intervals], (root + bass) % 12


def triad_of(label: str) -> str | None:
    """Return the major or minor triad in a chord, one of `TRIAD_LABELS`; None where there is none, as in "C:dim"."""
    return _with_fifth(label, sevenths=False)


def seventh_of(label: str) -> str | None:
    """Return the triad in a chord, with its seventh if it has one, one of `SEVENTH_LABELS`; None where there is none.

    A major seventh on a minor triad is no chord of this vocabulary.
    """
    return _with_fifth(label, sevenths=True)


def _with_fifth(label: str, sevenths: bool) -> str | None:
    if label in (NO_CHORD, UNKNOWN_CHORD):
        return NO_CHORD if label == NO_CHORD else None
    pitch_classes, _ = chord_tones(label)
    intervals = {(pitch_class - pitch_classes[0]) % 12 for pitch_class in pitch_classes}
    mode = next((mode for mode in ("maj", "min") if set(QUALITIES[mode]) <= intervals), None)
    if mode is None:
        return None
    quality = mode
    if sevenths and intervals & {10, 11}:
        quality = {("maj", False): "7", ("maj", True): "maj7", ("min", False): "min7"}.get((mode, 11 in intervals), "")
    return f"{MAJOR_TONICS[pitch_classes[0]]}:{quality}" if quality else None


def _interval(degree: str, label: str) -> int:
    """Semitones above the root of a degree such as "b3"."""
    number = degree.lstrip("b#")
    if number not in DEGREES:
        raise ValueError(f"unknown degree {degree!r} in chord {label!r}")
    return (DEGREES[number] + degree.count("#") - degree.count("b")) % 12
