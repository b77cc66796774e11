"""The words of music: pitch classes, keys, key signatures, the circle of fifths and chords."""

# Names of the tonics by pitch class, as keys are usually spelt.
MAJOR_TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
SIGNATURES = tuple(f"{MAJOR_TONICS[pc]} major / {MINOR_TONICS[(pc + 9) % 12]} minor" for pc in range(12))
KEY_LABELS = tuple(f"{tonic} major" for tonic in MAJOR_TONICS) + tuple(f"{tonic} minor" for tonic in MINOR_TONICS)
PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NO_CHORD = "N"


def parse_key(label: str) -> tuple[int, str]:
    """Return pitch class of the tonic and mode of a key such as "Eb minor".

    Raises:
        ValueError: another form.
    """
    tonic, _, mode = label.partition(" ")
    if mode not in ("major", "minor"):
        raise ValueError(f"not a key: {label!r}; expected such as 'Eb minor'")
    return parse_pitch_class(tonic), mode


def key_name(tonic: int, mode: str) -> str:
    """Return the usual name, such as "Eb minor", of the key on a pitch class."""
    return f"{(MAJOR_TONICS if mode == 'major' else MINOR_TONICS)[tonic % 12]} {mode}"


def signature(label: str) -> int:
    """Return the pitch class of the major key with the same key signature, C = 0."""
    tonic, mode = parse_key(label)
    return tonic if mode == "major" else (tonic + 3) % 12


def parse_pitch_class(name: str) -> int:
    """Return the pitch class of a name such as "Eb", "F##" or "B-", C = 0.

    Raises:
        ValueError: another form.
    """
    accidentals = name[1:].replace("-", "b")
    if name[:1] not in PITCH_CLASSES or set(accidentals) - {"#", "b"}:
        raise ValueError(f"not a pitch class: {name!r}; expected such as 'Eb'")
    return (PITCH_CLASSES[name[0]] + accidentals.count("#") - accidentals.count("b")) % 12


def transpose_key(label: str, semitones: int) -> str:
    """Return the key some semitones higher."""
    tonic, mode = parse_key(label)
    return key_name(tonic + semitones, mode)


def transpose_chord(label: str, semitones: int) -> str:
    """Return a chord in Harte's syntax some semitones higher; its bass is relative to the root and stays."""
    if label == NO_CHORD:
        return label
    end = min((label.index(mark) for mark in ":/(" if mark in label), default=len(label))
    return MAJOR_TONICS[(parse_pitch_class(label[:end]) + semitones) % 12] + label[end:]


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
DEGREES = {"1": 0, "2": 2, "3": 4, "4": 5, "5": 7, "6": 9, "7": 11, "9": 2, "11": 5, "13": 9}


def chord_tones(label: str) -> tuple[list[int], int]:
    """Read a chord in Harte's syntax.

    Args:
        label: such as "Eb:min7/b3" or "G:7(*5,b5)". A shorthand we do not know counts as the triad it begins with.

    Returns:
        Pitch classes, the root first, and the pitch class of the bass; nothing and -1 of "N".

    Raises:
        ValueError: not a chord.
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


def _interval(degree: str, label: str) -> int:
    """Semitones above the root of a degree such as "b3"."""
    number = degree.lstrip("b#")
    if number not in DEGREES:
        raise ValueError(f"unknown degree {degree!r} in chord {label!r}")
    return (DEGREES[number] + degree.count("#") - degree.count("b")) % 12


PITCH_CLASSES_BY_FIFTHS = [7 * step % 12 for step in range(12)]  # pitch classes of the major keys, from C by fifths
