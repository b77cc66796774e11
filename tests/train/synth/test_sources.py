"""Scores from disk: notes, parts and labels are those that the files state, and nothing that they do not."""

import pickle
from pathlib import Path

import mir_eval.chord
import pytest

from mt2_music.music import transpose_chord
from mt2_music.train.synth.lead_sheets import KINDS, Track, harte
from mt2_music.train.synth.score import Segment
from mt2_music.train.synth.sources import CHORD, SOURCES, assign_parts, read_midi, read_musicxml, read_pop909, title_of

mido = pytest.importorskip("mido")
pretty_midi = pytest.importorskip("pretty_midi")
pytest.importorskip("music21")

BEAT = 0.5  # seconds, at 120 a minute
ROOTS = (36, 41, 43, 36)  # a bar each of C, F, G and C
HARMONIES = (60, 64, 67), (60, 65, 69), (59, 62, 67), (60, 64, 67)


def write_midi(path, tracks, key=None, meter=(4, 4), note_shift=0.0):
    """Tracks of (name, program, is_drum, notes), with notes of (first beat, number of beats, pitch)."""
    midi = pretty_midi.PrettyMIDI(initial_tempo=60 / BEAT)
    if meter:
        midi.time_signature_changes.append(pretty_midi.TimeSignature(*meter, 0.0))
    for time, number in key or ():
        midi.key_signature_changes.append(pretty_midi.KeySignature(number, time))
    for name, program, is_drum, notes in tracks:
        instrument = pretty_midi.Instrument(program, is_drum, name)
        for beat, length, pitch in notes:
            start = beat * BEAT + note_shift
            instrument.notes.append(pretty_midi.Note(80, pitch, start, start + length * BEAT))
        midi.instruments.append(instrument)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.write(str(path))
    return path


def without(path, kind):
    """Take all messages of a kind out of a MIDI file; those of pretty_midi always state tempo and metre."""
    midi = mido.MidiFile(path)
    for track in midi.tracks:
        track[:] = [message for message in track if message.type != kind]
    midi.save(path)
    return path


def song(up=0):
    """A band in C major, or some semitones higher, four bars long."""
    chords = [(4 * bar, 4, pitch + up) for bar, chord in enumerate(HARMONIES) for pitch in chord]
    bass = [(4 * bar, 4, root + up) for bar, root in enumerate(ROOTS)]
    tune = [
        (beat, 1, pitch + up)
        for beat, pitch in enumerate((72, 74, 76, 77, 81, 79, 77, 76, 74, 71, 79, 77, 76, 74, 71, 72))
    ]
    drums = [(beat, 0.1, 42) for beat in range(16)]
    return [("", 0, False, chords), ("", 33, False, bass), ("", 73, False, tune), ("", 0, True, drums)]


@pytest.fixture
def pop909(tmp_path):
    """One piece in D flat major, with an upbeat of one beat and a key that is annotated late."""
    tune = [(beat, 1, 73) for beat in range(9)]
    piano = [(1, 4, 37), (1, 4, 61), (1, 4, 65), (1, 4, 68), (2, 1, 49), (5, 4, 44), (5.02, 3, 56), (5, 4, 60)]
    folder = tmp_path / "POP909" / "001"
    tracks = [("MELODY", 0, False, tune), ("BRIDGE", 0, False, [(8, 1, 80)]), ("PIANO", 0, False, piano)]
    write_midi(folder / "001.mid", tracks, meter=None)
    write_midi(folder / "versions" / "001-v1.mid", tracks)
    beats = [f"{beat * BEAT} {float((beat - 1) % 2 == 0)} {float((beat - 1) % 4 == 0)}" for beat in range(10)]
    (folder / "beat_midi.txt").write_text("\n".join(beats), encoding="utf-8")
    (folder / "chord_midi.txt").write_text(
        "0.0\t0.5\tN\n0.5\t1.5\tDb:maj\n1.5\t2.5\tDb:maj\n2.5\t4.5\tAb:maj/3\n", encoding="utf-8"
    )
    (folder / "key_audio.txt").write_text("1.2\t4.0\tDb:maj\n", encoding="utf-8")
    return folder


def test_pop909_gives_parts_and_labels(pop909):
    [(piece, path)] = SOURCES["pop909"].find(pop909.parents[1]).pieces
    score = read_pop909(path)
    assert piece == "pop909/001"
    assert score.keys == (Segment(0.0, 4.5, "Db major"),)
    assert [chord.label for chord in score.chords] == ["N", "Db:maj", "Ab:maj/3"]
    assert (score.chords[1].start, score.chords[1].end) == (0.5, 2.5)
    assert [beat.position for beat in score.beats] == [4, 1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert {note.part for note in score.notes} == {"melody", "melody 2", "chords", "bass"}
    # The 49 lies above a bass that still sounds.
    assert [note.pitch for note in score.notes if note.part == "bass"] == [37, 44]


def test_pop909_in_three_counts_bars_of_three(pop909):
    beats = [f"{beat * BEAT} {float(beat % 3 == 0)} {float(beat % 6 == 0)}" for beat in range(10)]
    (pop909 / "beat_midi.txt").write_text("\n".join(beats), encoding="utf-8")
    assert [beat.position for beat in read_pop909(pop909 / "001.mid").beats] == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]


def test_pop909_leaves_out_a_key_that_the_notes_contradict(pop909):
    (pop909 / "key_audio.txt").write_text("1.2 4.0 D:maj\n", encoding="utf-8")
    score = read_pop909(pop909 / "001.mid")
    assert score.keys == ()
    assert score.chords


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("chord_midi.txt", "0 1 C:maj\n1 2 H:maj\n", r"chord_midi.txt, line 2, '1 2 H:maj': not a chord"),
        ("chord_midi.txt", "0 1 C:maj\n0.5\n", "line 2.*expected start, end and label"),
        ("key_audio.txt", "0 4 Db:dorian\n", "not a key"),
        ("beat_midi.txt", "0 1 1\n0.5 0\n", "line 2.*a time and two marks"),
        ("beat_midi.txt", "1 1 1\n0.5 0 0\n", "line 2.*a time from 1 s on"),
        ("beat_midi.txt", None, "cannot read .*beat_midi.txt"),
    ],
)
def test_pop909_refuses_bad_annotations(pop909, file, text, problem):
    (pop909 / file).unlink()
    if text:
        (pop909 / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        read_pop909(pop909 / "001.mid")


def test_midi_gives_parts_beats_and_a_key(tmp_path):
    score = read_midi(write_midi(tmp_path / "a.mid", song(up=3), key=[(0.0, 3)]))
    counts = {part: sum(note.part == part for note in score.notes) for part in ("chords", "bass", "melody", "drums")}
    assert counts == {"chords": 12, "bass": 4, "melody": 16, "drums": 16}
    assert [note.pitch for note in score.notes if note.part == "bass"] == [39, 44, 46, 39]
    assert [beat.position for beat in score.beats[:6]] == [1, 2, 3, 4, 1, 2]
    assert score.tempo == pytest.approx(120)
    assert score.key == "Eb major"
    assert score.keys[0].start == 0
    assert score.chords == ()


@pytest.mark.parametrize(
    ("up", "key", "expected"),
    [
        (0, [(0.0, 0)], None),  # what programs write of themselves
        (3, [], None),
        (3, [(0.0, 3), (0.0, 3), (4.0, 3)], "Eb major"),  # said again
        (3, [(0.0, 15)], None),  # C minor's signature has these notes, Eb minor's has not
        (3, [(0.0, 12)], "C minor"),  # believed where it is stated
        (3, [(0.0, 9)], None),
        (5, [(0.0, 0)], None),
    ],
)
def test_midi_key_is_kept_where_the_music_agrees(tmp_path, up, key, expected):
    assert read_midi(write_midi(tmp_path / "a.mid", song(up), key=key)).key == expected


def test_midi_beats_are_unknown_unless_notes_lie_on_them(tmp_path):
    assert read_midi(write_midi(tmp_path / "shifted.mid", song(), note_shift=BEAT / 3)).beats == ()
    assert read_midi(without(write_midi(tmp_path / "a.mid", song()), "time_signature")).beats == ()
    assert read_midi(without(write_midi(tmp_path / "a.mid", song()), "set_tempo")).beats == ()
    assert read_midi(write_midi(tmp_path / "bars of one.mid", song(), meter=(1, 4))).beats == ()


def test_midi_beats_of_compound_metres_are_three_quavers_long(tmp_path):
    quavers = [("", 0, False, [(quaver / 2, 0.5, 60) for quaver in range(24)])]
    score = read_midi(write_midi(tmp_path / "a.mid", quavers, meter=(6, 8)))
    assert [beat.position for beat in score.beats[:5]] == [1, 2, 1, 2, 1]
    assert score.beats[1].time == pytest.approx(3 * BEAT / 2)


def test_parts_are_told_by_name_then_by_height():
    def line(name, pitch, program=None):
        return Track(name, tuple((float(i), i + 1.0, pitch, 80) for i in range(4)), program)

    def parts(*tracks):
        return {note.pitch: note.part for note in assign_parts(tracks)}

    assert parts(line("", 72), line("", 67), line("", 60), line("", 48)) == {
        72: "melody",
        67: "chords",
        60: "chords 2",
        48: "bass",
    }
    assert parts(line("Lead Vocal", 60), line("Flute", 80))[60] == "melody"
    assert parts(line("", 40), line("Bass", 45), line("", 60))[45] == "bass"
    assert parts(line("", 50)) == {50: "melody"}
    chord = Track("", tuple((0.0, 1.0, pitch, 80) for pitch in (60, 64, 67)))
    assert set(parts(chord).values()) == {"chords"}


NOTE = "<note><pitch><step>{0[0]}</step><octave>{0[1]}</octave></pitch><duration>{1}</duration>{2}</note>"
REST = "<note><rest/><duration>{1}</duration></note>"


def note(name, quavers, tie=""):
    """A note such as C5 that lasts some quavers, or a rest of no name."""
    ties = {"": "", "start": '<tie type="start"/>', "stop": '<tie type="stop"/>'}
    return (NOTE if name else REST).format(name, quavers, ties[tie])


def symbol(root, kind, bass="", degree=""):
    def pitch(tag, name):
        alter = {"": "", "b": f"<{tag}-alter>-1</{tag}-alter>", "#": f"<{tag}-alter>1</{tag}-alter>"}[name[1:]]
        return f"<{tag}><{tag}-step>{name[0]}</{tag}-step>{alter}</{tag}>"

    return f"<harmony>{pitch('root', root)}<kind>{kind}</kind>{pitch('bass', bass) if bass else ''}{degree}</harmony>"


def write_sheet(path, bars, fifths=0, mode="", meter=(4, 4), tempo="", parts=1):
    """The same bars, given as MusicXML, in every part."""
    mode = f"<mode>{mode}</mode>" if mode else ""
    time = f"<time><beats>{meter[0]}</beats><beat-type>{meter[1]}</beat-type></time>" if meter else ""
    attributes = f"<attributes><divisions>2</divisions><key><fifths>{fifths}</fifths>{mode}</key>{time}</attributes>"
    measures = "".join(
        f'<measure number="{number}">{attributes + tempo if number == 1 else ""}{bar}</measure>'
        for number, bar in enumerate(bars, start=1)
    )
    names = [f"P{number}" for number in range(1, parts + 1)]
    path.write_text(
        '<?xml version="1.0"?><score-partwise version="3.1"><part-list>'
        + "".join(f'<score-part id="{name}"><part-name>{name}</part-name></score-part>' for name in names)
        + "</part-list>"
        + "".join(f'<part id="{name}">{measures}</part>' for name in names)
        + "</score-partwise>",
        encoding="utf-8",
    )
    return path


def test_lead_sheet_gives_melody_chords_beats_and_key(tmp_path):
    grace = "<note><grace/><pitch><step>B</step><octave>4</octave></pitch></note>"
    mark = "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><per-minute>60</per-minute>"
    mark += "</metronome></direction-type></direction>"
    bars = [
        note("G4", 2),  # an upbeat
        symbol("C", "major") + note("C5", 8, "start"),
        note("C5", 4, "stop") + symbol("G", "dominant", bass="B") + grace + note("D5", 4),
        symbol("C", "major") + note("C5", 6),
    ]
    score = read_musicxml(write_sheet(tmp_path / "a.musicxml", bars, mode="major", tempo=mark))
    assert [(note.start, note.end, note.pitch, note.part) for note in score.notes] == [
        (0.0, 1.0, 67, "melody"),
        (1.0, 7.0, 72, "melody"),
        (7.0, 9.0, 74, "melody"),
        (9.0, 12.0, 72, "melody"),
    ]
    assert score.chords == (
        Segment(1.0, 7.0, "C:maj"),
        Segment(7.0, 9.0, "G:7/3"),
        Segment(9.0, 12.0, "C:maj"),
    )
    assert [(beat.time, beat.position) for beat in score.beats[:6]] == [(0, 4), (1, 1), (2, 2), (3, 3), (4, 4), (5, 1)]
    assert score.keys == (Segment(0.0, 12.0, "C major"),)
    assert score.tempo == 60


@pytest.mark.parametrize(
    ("ending", "tune", "mode", "expected"),
    [
        ((("A", "minor"), ("A", "minor")), "A4", "major", "A minor"),  # "major" says nothing
        ((("C", "major"), ("C", "major-sixth")), "E4", "", "C major"),
        ((("C", "major"), ("G", "dominant")), "C4", "", "C major"),  # leads back to the beginning
        ((("C", "major"), ("F", "major")), "F4", "", None),
        ((("A", "minor"), ("E", "dominant")), "E4", "minor", "A minor"),
    ],
)
def test_mode_is_settled_by_the_end(tmp_path, ending, tune, mode, expected):
    first, last = ending
    bars = [symbol(*first) + note("G4", 8), symbol(*last) + note(tune, 8)]
    assert read_musicxml(write_sheet(tmp_path / "a.xml", bars, mode=mode)).key == expected


def test_beats_of_compound_metres_are_three_quavers_long(tmp_path):
    bars = [symbol("C", "major") + note("C4", 3) + note("D4", 3), note("C4", 6)]
    score = read_musicxml(write_sheet(tmp_path / "a.xml", bars, meter=(6, 8)))
    assert [(beat.time, beat.position) for beat in score.beats] == [(0, 1), (0.75, 2), (1.5, 1), (2.25, 2)]


def test_repeats_are_played_and_a_bar_goes_on_after_them(tmp_path):
    back = '<barline location="right"><repeat direction="backward"/></barline>'
    bars = [note("G4", 2), note("C5", 8), note("E5", 6) + back, note("C5", 8)]
    score = read_musicxml(write_sheet(tmp_path / "a.xml", bars))
    assert [note.pitch for note in score.notes] == [67, 72, 76, 67, 72, 76, 72]
    assert [beat.position for beat in score.beats] == [4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 1, 2, 3, 4]


def test_no_chord_ends_a_chord_and_no_metre_gives_no_beats(tmp_path):
    words = "<direction><direction-type><words>N.C.</words></direction-type></direction>"
    bars = [symbol("C", "major") + note("C4", 8) + words + note("C4", 4) + symbol("D", "Neapolitan") + note("C4", 4)]
    score = read_musicxml(write_sheet(tmp_path / "a.xml", bars, meter=None))
    assert [(chord.start, chord.end, chord.label) for chord in score.chords] == [(0, 2, "C:maj"), (2, 3, "N")]
    assert score.beats == ()


def test_several_staves_become_parts_without_chords(tmp_path):
    score = read_musicxml(write_sheet(tmp_path / "a.xml", [note("C4", 8), note("C4", 8)], parts=2))
    assert {note.part for note in score.notes} == {"melody", "chords"}
    assert score.chords == ()
    assert score.key == "C major"


@pytest.mark.parametrize(
    ("kind", "degrees", "label"),
    [
        ("major", [], "C:maj"),
        ("minor", [], "C:min"),
        ("dominant", [], "C:7"),
        ("major-seventh", [], "C:maj7"),
        ("minor-seventh", [], "C:min7"),
        ("diminished", [], "C:dim"),
        ("diminished-seventh", [], "C:dim7"),
        ("half-diminished", [], "C:hdim7"),
        ("augmented", [], "C:aug"),
        ("augmented-seventh", [], "C:aug(b7)"),
        ("major-minor", [], "C:minmaj7"),
        ("suspended-fourth", [], "C:sus4"),
        ("suspended-fourth", [(7, 0, "add")], "C:sus4(b7)"),
        ("dominant", [(9, -1, "add")], "C:7(b9)"),
        ("dominant", [(5, -1, "alter")], "C:7(*5,b5)"),
        ("minor-seventh", [(5, -1, "alter")], "C:hdim7"),
        ("dominant-13th", [(9, -1, "alter")], "C:9(13,*9,b9)"),
    ],
)
def test_chord_symbols_become_harte_labels(tmp_path, kind, degrees, label):
    extra = "".join(
        f"<degree><degree-value>{value}</degree-value><degree-alter>{alter}</degree-alter>"
        f"<degree-type>{action}</degree-type></degree>"
        for value, alter, action in degrees
    )
    bars = [
        symbol("C", kind, degree=extra) + note("C4", 8),
        symbol("Eb", kind, bass="Bb", degree=extra) + note("C4", 8),
    ]
    score = read_musicxml(write_sheet(tmp_path / "a.xml", bars))
    assert [chord.label for chord in score.chords] == [label, "E" + label.replace("C:", "b:") + "/5"]


def test_every_label_is_one_that_mir_eval_reads():
    degrees = [[], [("alter", 5, -1)], [("alter", 5, 1)], [("add", 9, -1), ("add", 11, 1)], [("alter", 9, 1)]]
    labels = {harte("E-", kind, bass, more) for kind in KINDS for bass in ("E-", "G", "D-") for more in degrees} - {
        None
    }
    assert len(labels) > 200
    for label in labels:
        assert CHORD.fullmatch(label)
        mir_eval.chord.encode(label)
        mir_eval.chord.encode(transpose_chord(label, 1))
    assert harte("C", "major", "C", [("subtract", 3, 0)]) is None
    assert harte("C", "diminished", "C", [("alter", 5, 1)]) is None
    assert harte("C", "power", "C") is None


@pytest.mark.parametrize("kind", ["midi", "musicxml", "pop909"])
def test_torn_and_empty_files_are_refused_by_name(tmp_path, pop909, kind):
    whole = {
        "midi": write_midi(tmp_path / "whole.mid", song()),
        "musicxml": write_sheet(tmp_path / "whole.xml", [note("C4", 8)]),
        "pop909": pop909 / "001.mid",
    }[kind]
    torn = whole.with_name(f"torn{whole.suffix}")
    data = whole.read_bytes()
    for content in (data[: len(data) // 2], b"", b"nothing of the kind"):
        torn.write_bytes(content)
        with pytest.raises(ValueError, match=f"torn{whole.suffix}"):
            SOURCES[kind].read(torn)


def test_files_without_notes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mid holds no notes"):
        read_midi(write_midi(tmp_path / "a.mid", [("", 0, False, [])]))
    with pytest.raises(ValueError, match=r"a\.xml holds no notes"):
        read_musicxml(write_sheet(tmp_path / "a.xml", [note("", 8)]))
    with pytest.raises(ValueError, match="hours"):
        read_midi(write_midi(tmp_path / "long.mid", [("", 0, False, [(0, 1, 60), (30000, 1, 60)])]))


def test_pieces_are_found_in_order_and_versions_of_a_tune_share_a_name(tmp_path):
    for name in ("b/The Café (2).mxl", "a/cafe.musicxml", "b/Zoo.XML", "b/._Zoo.xml", ".hidden/x.xml", "song.mid"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("not parsed", encoding="utf-8")
    found = SOURCES["musicxml"].find(tmp_path).pieces
    assert [name for name, _ in found] == ["tune/cafe", "tune/cafe", "tune/zoo"]
    # No title: the path is the name.
    assert [name for name, _ in SOURCES["midi"].find(tmp_path).pieces] == ["tune/song.mid"]
    source = SOURCES["midi"].find(tmp_path)
    assert pickle.loads(pickle.dumps(source)) == source
    with pytest.raises(ValueError, match="holds nothing of the kind 'pop909'"):
        SOURCES["pop909"].find(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        SOURCES["midi"].find(tmp_path / "none")


def test_titles():
    assert title_of(Path("x/Autumn_Leaves (v2).mxl")) == title_of(Path("AUTUMN LEAVES.xml")) == "autumn leaves"
    assert title_of(Path("(2).xml")) == "(2)"
    assert title_of(Path("Ёлка.xml")) != title_of(Path("Песня.xml"))
