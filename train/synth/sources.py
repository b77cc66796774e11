"""Scores that people have on disk, with the labels that can be trusted: POP909, MIDI files, MusicXML, lead sheets."""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mt2_music.music import NO_CHORD, key_name, parse_pitch_class, signature

from .lead_sheets import Signature, Track, parse_musicxml
from .score import Beat, Note, Score, Segment, in_order, merge

MAX_SECONDS = 3 * 3600.0  # longer files are broken ones
MAJOR_SCALE = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1])
KEY_MARGIN = 0.1  # a key is left out if so much more of the notes, by duration, lies in another scale
NEAR_SECONDS = 0.07  # a note that starts so close to a beat is on it
MIN_BEATS_ON_NOTES = 0.7  # share of beats on which a note starts, or the beats of a MIDI file are left out
POP909_PARTS = {"MELODY": "melody", "BRIDGE": "melody 2", "PIANO": "chords"}
BASS_BELOW = 50  # MIDI pitch; the lowest notes of a piano are its bass if they lie below
BASS_MEAN_BELOW = 55  # the lowest part is a bass if its mean pitch lies below
MAX_OVERLAP = 0.2  # share of notes of a melody or bass that may start while another one sounds
BASS_PROGRAMS, LEAD_PROGRAMS = range(32, 40), range(80, 88)  # of General MIDI, counted from 0
NO_TITLES = ("score", "song", "music", "melody", "lead sheet", "untitled")
BASS_NAME = re.compile(r"\bbass\b", re.IGNORECASE)
MELODY_NAME = re.compile(r"melod|vocal|voice|lead\b|solo|sopran|sing", re.IGNORECASE)
CHORD = re.compile(
    r"[A-G][#b]*:(maj|min|dim|aug|maj7|min7|7|minmaj7|dim7|hdim7|maj6|min6|9|maj9|min9|sus2|sus4)"
    r"(\(\*?[#b]*\d+(,\*?[#b]*\d+)*\))?(/[#b]*\d+)?"
)


@dataclass(frozen=True)
class Source:
    """Pieces of one kind that were found, and how to read one; nothing is parsed before.

    Args:
        name: the kind, one of `SOURCES`.
        pieces: names and paths, in order. Versions of one piece share a name.
        read: turns a path into a score.
    """

    name: str
    pieces: tuple[tuple[str, Path], ...]
    read: Callable[[Path], Score]


@dataclass(frozen=True)
class SourceKind:
    """A kind of scores.

    Args:
        name: one of `SOURCES`.
        help: what the folder holds, for the command line.
        accepts: tells by a path, relative to the folder, whether it is the file of a piece.
        name_piece: makes a name of such a path.
        read: turns the full path into a score, or raises ValueError.
    """

    name: str
    help: str
    accepts: Callable[[Path], bool]
    name_piece: Callable[[Path], str]
    read: Callable[[Path], Score]

    def find(self, folder: str | Path) -> Source:
        """Find the pieces in a folder and those below it.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it holds no such piece.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder: {folder}")
        paths = (path.relative_to(folder) for path in folder.rglob("*.*"))
        # Macs leave files of such names beside the real ones.
        paths = (path for path in paths if not any(part.startswith((".", "__MACOSX")) for part in path.parts))
        pieces = sorted(
            (self.name_piece(path), folder / path)
            for path in paths
            if self.accepts(path) and (folder / path).is_file()
        )
        if not pieces:
            raise ValueError(f"{folder} holds nothing of the kind {self.name!r}: {self.help}")
        return Source(self.name, tuple(pieces), self.read)


def title_of(path: Path) -> str:
    """Return the title that a file name states, so that versions of a tune share it: no accents, case or "(2)"."""
    decomposed = unicodedata.normalize("NFKD", path.stem).casefold()
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    words = re.sub(r"[\W_]+", " ", re.sub(r"['’]", "", re.sub(r"\(.*?\)", " ", plain))).split()
    return " ".join(words[1:] if words[:1] == ["the"] and words[1:] else words) or path.stem.casefold()


def name_of_tune(path: Path) -> str:
    """Name a piece after the title in its file name; after the whole path if that is no title, as of "1/score.mxl"."""
    title = title_of(path)
    return f"tune/{path.as_posix()}" if title in NO_TITLES or title.isdigit() else f"tune/{title}"


def read_pop909(path: Path) -> Score:
    """Read a piece of POP909: its MIDI file and, beside it, keys, chords and beats.

    All annotations are in the time of the MIDI file. The piano's lowest notes become the bass. A key lasts until the
    next one; one that the notes contradict is left out.

    Raises:
        ValueError: a file cannot be read, or a line is not what it should be.
        ImportError: pretty_midi is not installed.

    Source: Wang et al., POP909: a pop-song dataset for music arrangement generation, ISMIR 2020.
    """
    midi, _ = _open_midi(path)
    notes: list[Note] = []
    for track in _midi_tracks(midi):
        if track.name.upper() in POP909_PARTS:
            notes += _as_part(track, POP909_PARTS[track.name.upper()])
    _check_notes(path, notes)
    chords = _read_rows(path.with_name("chord_midi.txt"), _read_chord)
    chords = [replace(one, end=min(one.end, next_one.start)) for one, next_one in pairwise(chords)] + chords[-1:]
    keys = _read_rows(path.with_name("key_audio.txt"), _read_key)
    beats = _read_rows(path.with_name("beat_midi.txt"), _read_beat)
    starts = [0.0, *(key.start for key in keys[1:])]
    ends = [*starts[1:], max(note.end for note in notes)]
    keys = [Segment(start, end, key.label) for start, end, key in zip(starts, ends, keys, strict=True)] if keys else []
    return _score(_split_bass(notes), _drop_contradicted_keys(keys, notes), chords, _pop909_beats(beats))


def read_midi(path: Path) -> Score:
    """Read any MIDI file.

    Beats are taken from tempo and time signature if the file states both, a bar has more than one beat, and notes
    start on most beats: many files were played without regard to their tempo. Keys are taken from key signatures by
    `keys_from_signatures`, unless all signatures are C major: programs write that into music in any key. Chords stay
    unknown.

    Raises:
        ValueError: the file cannot be read, or holds no notes.
        ImportError: pretty_midi is not installed.
    """
    midi, states_tempo = _open_midi(path)
    notes = assign_parts(_midi_tracks(midi))
    _check_notes(path, notes)
    signatures = [
        Signature(change.time, (change.key_number + (3 if change.key_number > 11 else 0)) % 12, change.key_number > 11)
        for change in midi.key_signature_changes
    ]
    if all((one.tonic, one.says_minor) == (0, False) for one in signatures):
        signatures = []
    meters = [change.numerator for change in midi.time_signature_changes]
    beats = _midi_beats(midi) if states_tempo and meters and min(meters) > 1 else []
    return _score(
        notes, keys_from_signatures(signatures, notes), (), beats if _beats_match_onsets(beats, notes) else ()
    )


def read_musicxml(path: Path) -> Score:
    """Read a MusicXML file; one with a single staff and chord symbols is a lead sheet, and its notes are the melody.

    Chords, beats and tempo are from `parse_musicxml`, keys from `keys_from_signatures`. No chord is played.

    Raises:
        ValueError: the file cannot be read, or holds no notes.
        ImportError: music21 is not installed.
    """
    sheet = parse_musicxml(path)
    is_lead_sheet = len(sheet.tracks) == 1 and sheet.chords
    notes = _as_part(sheet.tracks[0], "melody") if is_lead_sheet else assign_parts(sheet.tracks)
    _check_notes(path, notes)
    return _score(notes, keys_from_signatures(sheet.signatures, notes, sheet.chords), sheet.chords, sheet.beats)


SOURCES: dict[str, SourceKind] = {
    kind.name: kind
    for kind in (
        SourceKind(
            "pop909",
            "the data set POP909, with 001/001.mid and annotations beside it",
            lambda path: path.suffix == ".mid" and path.stem == path.parent.name,
            lambda path: f"pop909/{path.stem}",
            read_pop909,
        ),
        SourceKind(
            "midi",
            "MIDI files; those named after one tune count as one piece",
            lambda path: path.suffix.lower() in (".mid", ".midi"),
            name_of_tune,
            read_midi,
        ),
        SourceKind(
            "musicxml",
            "MusicXML files, also lead sheets with chord symbols; those named after one tune count as one piece",
            lambda path: path.suffix.lower() in (".musicxml", ".mxl", ".xml"),
            name_of_tune,
            read_musicxml,
        ),
    )
}


def assign_parts(tracks: Iterable[Track]) -> list[Note]:
    """Tell melody, bass, chords and drums apart.

    Drums are what MIDI marks as such, all in one part. Bass is what has a bass's program or name, or else the lowest
    part, if it lies low and plays one note at a time; melody what has a melody's name or program, or else the highest
    of those that play one note at a time. A single track is a melody if it plays one note at a time. The rest are
    chords.
    """
    tracks = [track for track in tracks if track.notes]
    pitched = [track for track in tracks if not track.is_drum]
    single = [track for track in pitched if _overlap(track) <= MAX_OVERLAP]
    bass = [track for track in pitched if track.program in BASS_PROGRAMS or BASS_NAME.search(track.name)]
    if not bass and len(pitched) > 1:
        lowest = min(pitched, key=_mean_pitch)
        bass = [lowest] if lowest in single and _mean_pitch(lowest) < BASS_MEAN_BELOW else []
    others = [track for track in pitched if not any(track is one for one in bass)]
    melody = [track for track in others if MELODY_NAME.search(track.name) or track.program in LEAD_PROGRAMS]
    if not melody:
        melody = sorted((track for track in others if track in single), key=_mean_pitch)[-1:]
    notes: list[Note] = []
    counts: Counter[str] = Counter()
    for track in tracks:
        roles = (("melody", melody), ("bass", bass))
        role = next((role for role, those in roles if any(track is one for one in those)), "chords")
        role = "drums" if track.is_drum else role
        counts[role] += 1
        notes += _as_part(track, role if counts[role] == 1 or role == "drums" else f"{role} {counts[role]}")
    return notes


def keys_from_signatures(
    signatures: Sequence[Signature], notes: Sequence[Note], chords: Sequence[Segment] = ()
) -> list[Segment]:
    """Return the keys that key signatures and music agree on.

    A stated minor key is taken as it is. Programs write "major" and C major by default, so the end of the music
    decides there: the last chord must be the tonic of the major key, or of its relative minor. A sheet whose last
    chord leads back to the beginning may begin with the tonic chord and end its melody on the tonic instead. Where
    there are no chord symbols, the lowest note at the end counts as the root. Keys that the notes contradict are left
    out.
    """
    # Programs repeat a signature in every track and on every line.
    changes = [next(same) for _, same in groupby(signatures, key=lambda one: (one.tonic, one.says_minor))]
    pitched = in_order(note for note in notes if note.role != "drums")
    keys = []
    for i, change in enumerate(changes):
        end = changes[i + 1].time if i + 1 < len(changes) else max(note.end for note in notes)
        inside = [note for note in pitched if change.time - 1e-6 <= note.start < end]
        if not inside:
            continue
        symbols = [chord for chord in chords if change.time - 1e-6 <= chord.start < end and chord.label != NO_CHORD]
        mode = "minor" if change.says_minor else _mode(change.tonic, inside, symbols)
        if mode:
            tonic = change.tonic if mode == "major" else change.tonic + 9
            keys.append(Segment(change.time, end, key_name(tonic, mode)))
    return _drop_contradicted_keys(keys, pitched)


def _mode(tonic: int, notes: Sequence[Note], chords: Sequence[Segment]) -> str | None:
    """Mode of the music in these notes that is in major on `tonic` or in its relative minor, or None."""
    relative = (tonic + 9) % 12
    modes = {(tonic, "major"): "major", (relative, "minor"): "minor"}
    if not chords:
        last = max(note.start for note in notes)
        ending = {note.pitch for note in notes if note.end > last + 0.03}
        root = min(ending) % 12
        if root == tonic and not {(pitch - root) % 12 for pitch in ending} & {3}:
            return "major"
        return "minor" if root == relative else None  # with a major third as well: no other key has this signature
    if (found := modes.get(_triad(chords[-1].label))) is not None:
        return found
    opening = _triad(chords[0].label)
    return modes.get(opening) if notes[-1].pitch % 12 == opening[0] else None


def _triad(label: str) -> tuple[int, str]:
    """Root of a chord, and the mode that its third stands for, if it has one."""
    root, _, quality = label.partition(":")
    mode = "minor" if quality.startswith(("min", "dim", "hdim")) else "" if quality.startswith("sus") else "major"
    return parse_pitch_class(root), mode


def _drop_contradicted_keys(keys: Iterable[Segment], notes: Sequence[Note]) -> list[Segment]:
    """Leave out keys that the notes contradict."""
    kept = []
    for key in keys:
        durations = np.zeros(12)
        for note in notes:
            if key.start - 1e-6 <= note.start < key.end and note.role != "drums":
                durations[note.pitch % 12] += note.end - note.start
        inside = [durations @ np.roll(MAJOR_SCALE, tonic) for tonic in range(12)]
        if max(inside) - inside[signature(key.label)] <= KEY_MARGIN * durations.sum():
            kept.append(key)
    return kept


def _open_midi(path: Path) -> tuple[Any, bool]:
    """Return the file as pretty_midi reads it, and whether it states a tempo."""
    try:
        import mido
        import pretty_midi
    except ImportError as error:
        raise ImportError('MIDI files need pretty_midi: pip install "mt2-music[synth]"') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = mido.MidiFile(path)
            states_tempo = any(message.type == "set_tempo" for track in raw.tracks for message in track)
            return pretty_midi.PrettyMIDI(mido_object=raw), states_tempo
    except Exception as error:  # torn files raise whatever the parser stumbles upon
        raise ValueError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def _midi_tracks(midi: Any) -> list[Track]:
    return [
        Track(
            one.name.strip(),
            tuple((float(note.start), float(note.end), int(note.pitch), int(note.velocity)) for note in one.notes),
            int(one.program),
            bool(one.is_drum),
        )
        for one in midi.instruments
    ]


def _midi_beats(midi: Any) -> list[Beat]:
    downbeats = midi.get_downbeats()
    beats: list[Beat] = []
    for time in midi.get_beats():
        if len(downbeats) and np.abs(downbeats - time).min() < 1e-3:
            beats.append(Beat(float(time), 1))
        elif beats:
            beats.append(Beat(float(time), beats[-1].position + 1))
    return beats


def _beats_match_onsets(beats: Sequence[Beat], notes: Sequence[Note]) -> bool:
    """Whether notes start on most beats, and on no fewer of them than half-way between beats."""
    onsets = np.sort([note.start for note in notes])
    times = np.array([beat.time for beat in beats])
    times = times[(times >= onsets[0] - NEAR_SECONDS) & (times <= onsets[-1] + NEAR_SECONDS)]
    if len(times) < 2:
        return False
    on_beat, between = _share_with_onset(times, onsets), _share_with_onset((times[1:] + times[:-1]) / 2, onsets)
    return on_beat >= max(MIN_BEATS_ON_NOTES, between)


def _share_with_onset(times: np.ndarray, onsets: np.ndarray) -> float:
    """Share of times that lie within NEAR_SECONDS of an onset."""
    first = np.searchsorted(onsets, times - NEAR_SECONDS)
    return float(np.mean(np.searchsorted(onsets, times + NEAR_SECONDS, side="right") > first))


def _as_part(track: Track, part: str) -> list[Note]:
    """Notes of a track; those without length or outside the range of MIDI are left out."""
    return [
        Note(start, end, pitch, min(max(velocity, 1), 127), part)
        for start, end, pitch, velocity in track.notes
        if 0 <= start < end and 0 <= pitch <= 127
    ]


def _check_notes(path: Path, notes: Sequence[Note]) -> None:
    if not notes:
        raise ValueError(f"{path} holds no notes that we can play")
    seconds = max(note.end for note in notes)
    if seconds > MAX_SECONDS:
        raise ValueError(f"{path} lasts {seconds / 3600:.1f} hours: its times cannot be right")


def _score(notes: Iterable[Note], keys: Iterable[Segment], chords: Iterable[Segment], beats: Iterable[Beat]) -> Score:
    return Score(in_order(notes), merge(keys), merge(chords), tuple(beats))


def _mean_pitch(track: Track) -> float:
    return float(np.mean([pitch for _, _, pitch, _ in track.notes]))


def _overlap(track: Track) -> float:
    """Share of notes that start while an earlier one sounds, but for the slur of a legato."""
    starts, ends = np.array(sorted((start, end) for start, end, _, _ in track.notes)).T
    return float(np.mean(starts[1:] < np.maximum.accumulate(ends)[:-1] - 0.05)) if len(starts) > 1 else 0.0


def _split_bass(notes: Sequence[Note]) -> list[Note]:
    """Give the bass those notes of the chords below which nothing sounds when they start, if they are low."""
    split: list[Note] = []
    sounding: list[Note] = []
    chords = sorted((note for note in notes if note.part == "chords"), key=lambda note: (note.start, note.pitch))
    for i, note in enumerate(chords):
        sounding = [one for one in sounding if one.end > note.start + 0.03]
        lowest = not any(one.pitch < note.pitch for one in sounding)
        for later in chords[i + 1 :]:  # of the same stroke
            if later.start > note.start + 0.03:
                break
            lowest = lowest and later.pitch > note.pitch
        split.append(replace(note, part="bass") if lowest and note.pitch < BASS_BELOW else note)
        sounding.append(note)
    return split + [note for note in notes if note.part != "chords"]


def _pop909_beats(rows: Sequence[tuple[float, bool, bool]]) -> Iterator[Beat]:
    """Count from the second mark of the beats, or from the first where that counts in threes.

    In four, the first mark stands on beats 1 and 3 and the second on beat 1, where most chords change. In three, the
    first mark stands on beat 1 and the second on every other bar.
    """
    halves, bars = ([i for i, row in enumerate(rows) if row[column]] for column in (1, 2))
    downbeats = halves if len(halves) > 1 and np.median(np.diff(halves)) == 3 else bars
    if len(downbeats) < 2:
        return
    usual = int(np.median(np.diff(downbeats)))
    position, known = (-downbeats[0]) % usual, set(downbeats)
    for i, (time, _, _) in enumerate(rows):
        position = 1 if i in known or (i < downbeats[0] and position == usual) else position + 1
        yield Beat(time, position)


def _read_rows(path: Path, parse: Callable[[float, list[str]], Any]) -> list[Any]:
    """Parse the lines of an annotation, each of which begins with a time no earlier than the last one."""
    rows: list[Any] = []
    before = 0.0
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            if fields := line.split():
                time = float(fields[0])
                if not before <= time < MAX_SECONDS:
                    raise ValueError(f"expected a time from {before:g} s on")
                rows.append(parse(time, fields[1:]))
                before = time
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, {line.strip()!r}: {error}") from error
    return rows


def _read_chord(start: float, fields: list[str]) -> Segment:
    end, label = _end_and_label(start, fields)
    if label != NO_CHORD and not CHORD.fullmatch(label):
        raise ValueError(f"not a chord: {label!r}; expected such as 'Eb:min7/b3'")
    return Segment(start, end, label)


def _read_key(start: float, fields: list[str]) -> Segment:
    end, label = _end_and_label(start, fields)
    tonic, _, mode = label.partition(":")
    if mode not in ("maj", "min"):
        raise ValueError(f"not a key: {label!r}; expected such as 'Eb:min'")
    return Segment(start, end, key_name(parse_pitch_class(tonic), {"maj": "major", "min": "minor"}[mode]))


def _end_and_label(start: float, fields: list[str]) -> tuple[float, str]:
    if len(fields) != 2 or not start <= float(fields[0]) < MAX_SECONDS:
        raise ValueError("expected start, end and label")
    return float(fields[0]), fields[1]


def _read_beat(time: float, fields: list[str]) -> tuple[float, bool, bool]:
    if len(fields) != 2:
        raise ValueError("expected a time and two marks")
    return time, float(fields[0]) > 0, float(fields[1]) > 0
