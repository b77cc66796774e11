"""Loaders of real data sets, on tiny copies of their official layouts: splits, labels, and what is refused or told."""

import json
import logging

import pytest

from mt2_music.train.probing import loaders
from mt2_music.train.probing.clips import SPLITS, MissingDataError
from mt2_music.train.synth.score import Beat

OURS = "a split of our own"


def table(*rows, delimiter=","):
    return "\n".join(delimiter.join(map(str, row)) for row in rows) + "\n"


def jams(beats, downbeats):
    """As GTZAN-Rhythm has it: several lists of the namespace "beat", told apart in the sandbox."""
    kinds = {"beat": beats, "downbeat": downbeats, "8th-note": [0.1]}
    annotations = [
        {
            "namespace": "beat",
            "sandbox": {"annotation_type": kind},
            "data": [{"time": time, "duration": 0.0, "confidence": 1, "value": 1} for time in times],
        }
        for kind, times in kinds.items()
    ]
    tags = {"namespace": "tag_open", "sandbox": {"swing": "no"}, "data": []}
    return json.dumps({"annotations": [*annotations, tags], "file_metadata": {"duration": 30.0}, "sandbox": {}})


def nsynth(**notes):
    return json.dumps(
        {
            note: {"note_str": note, "instrument_str": note[:-8], "instrument_family_str": family, "pitch": pitch}
            for note, (family, pitch) in notes.items()
        }
    )


def beats(*pairs):
    return tuple(Beat(time, position) for time, position in pairs)


PHILHARMONIA = {
    f"strings/{instrument}/{instrument}_{note}_{length}_forte_arco-normal.mp3": "sound"
    for instrument in ("violin", "cello")
    for note in ("A3", "As3", "B3", "C4", "Cs4", "D4", "Ds4", "E4", "F4", "Fs4", "G4", "Gs4")
    for length in ("05", "very-long")
}
PITCHES = dict(
    zip(("A3", "As3", "B3", "C4", "Cs4", "D4", "Ds4", "E4", "F4", "Fs4", "G4", "Gs4"), range(57, 69), strict=True)
)
MTAT = {
    "annotations_final.csv": table(
        ['"clip_id"', '"no voice"', '"rock"', '"mp3_path"'],
        ['"2"', '"1"', '"1"', '"0/a_band-an_album-01-a_song-0-29.mp3"'],
        ['"3"', '"0"', '"0"', '"b/b_band-an_album-01-a_song-30-59.mp3"'],
        ['"4"', '"0"', '"1"', '"c/c_band-an_album-01-a_song-0-29.mp3"'],
        ['"5"', '"1"', '"0"', '"d/d_band-an_album-01-a_song-0-29.mp3"'],
        ['"6"', '"1"', '"0"', '"f/f_band-an_album-01-a_song-0-29.mp3"'],
        delimiter="\t",
    )
}
MTAT_SOUNDS = {
    "train": {
        "0/a_band-an_album-01-a_song-0-29.mp3": ("no voice", "rock"),
        "b/b_band-an_album-01-a_song-30-59.mp3": (),
    },
    "validation": {"c/c_band-an_album-01-a_song-0-29.mp3": ("rock",)},
    "test": {
        "d/d_band-an_album-01-a_song-0-29.mp3": ("no voice",),
        "f/f_band-an_album-01-a_song-0-29.mp3": ("no voice",),
    },
}
GTZAN = {
    "train_filtered.txt": "blues/blues.00029.wav\nblues/blues.00030.wav\njazz/jazz.00001.wav\n",
    "valid_filtered.txt": "jazz/jazz.00000.wav\n",
    "test_filtered.txt": "blues/blues.00012.wav\n",
}
GTZAN_SOUNDS = {
    "train": {
        "genres/blues/blues.00029.wav": "blues",
        "genres/blues/blues.00030.au": "blues",
        "genres/jazz/jazz.00001.wav": "jazz",
    },
    "validation": {"genres/jazz/jazz.00000.wav": "jazz"},
    "test": {"genres/blues/blues.00012.wav": "blues"},
}
RHYTHM = {
    "jams/blues.00000.wav.jams": jams([0.5, 1.0, 1.5, 2.0, 2.5], [1.0, 2.0]),
    "jams/jazz.00007.wav.jams": jams([3.0, 2.5], []),
    "jams/rock.00001.wav.jams": jams([], []),
}
RHYTHM_SOUNDS = {
    "genres/blues/blues.00000.wav": beats((0.5, 0), (1.0, 1), (1.5, 2), (2.0, 1), (2.5, 2)),
    "genres/jazz/jazz.00007.au": beats((2.5, 0), (3.0, 0)),
}
NSYNTH = {
    "nsynth-train/examples.json": nsynth(
        **{
            "bass_synthetic_033-022-050": ("bass", 22),
            "string_acoustic_001-060-100": ("string", 60),
        }
    ),
    "nsynth-valid/examples.json": nsynth(**{"string_acoustic_012-057-050": ("string", 57)}),
    "nsynth-test/examples.json": nsynth(**{"bass_electronic_018-022-100": ("bass", 22)}),
}
NSYNTH_SOUNDS = {
    "train": {
        "nsynth-train/audio/bass_synthetic_033-022-050.wav": ("bass", "22"),
        "nsynth-train/audio/string_acoustic_001-060-100.wav": ("string", "60"),
    },
    "validation": {"nsynth-valid/audio/string_acoustic_012-057-050.wav": ("string", "57")},
    "test": {"nsynth-test/audio/bass_electronic_018-022-100.wav": ("bass", "22")},
}
MTG_KEYS = "giantsteps-mtg-key-dataset/annotations/annotations.txt"
GIANTSTEPS = {
    "giantsteps-key-dataset/annotations/key/1234749.LOFI.key": "Bb major",
    "giantsteps-key-dataset/annotations/key/677299.LOFI.key": "D# minor\n",
    "giantsteps-key-dataset/annotations/key/877345.LOFI.key": "C minor / G minor",
    # By their hashes only "Artist 0" is of validation; 1 and 3 follow, one from the other, by tracks made together.
    "giantsteps-mtg-key-dataset/annotations/beatport_metadata.txt": table(
        ["ID", "ARTIST", "SONG TITLE"],
        ["5061", "Artist 3", '"Song"'],
        ["5881", "Artist 1, Artist 3", "Song"],
        ["7217", "Artist 4", "Song"],
        ["10359", "Artist 0, Artist 1", "Song"],
        delimiter="\t",
    ),
    MTG_KEYS: table(
        ["ID", "MANUAL KEY", "C"],
        ["5061", "D# minor", 2],
        ["5881", "A# major ", 2],
        ["7217", "G# minor", 2],
        ["10359", "C# minor", 2],
        *(["10981", "-", 0], ["16484", "A minor", 1], ["61578", "C minor / F# minor", 2], ["4311630", " ", 0]),
        *(["297150", "A-A# minor", 0], ["299300", "G minor/major", 1], ["515806", "F / F# minor", 2]),
        delimiter="\t",
    ),
}
EMO_INFO = ["song_id", "file_name", "Artist", "Song title", "Genre", "Mediaeval 2013 set"]
EMO = {
    "annotations/songs_info.csv": table(
        EMO_INFO,
        *(
            [song, f"{song}.mp3", f"Band {song % 100 * 'x'}\t", '"Song, the"', "Rock", "development"]
            for song in range(2, 30)
        ),
        [1000, "1000.mp3", "The Others", "Song", "Rock", "evaluation"],
    ),
    "annotations/static_annotations.csv": table(
        ["song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence"],
        *([song, 3.1, 0.99, 3.5, 1.6] for song in [*range(2, 30), 1000]),
    ),
}
BALLROOM = {
    "BallroomAnnotations/README.md": "not an annotation",
    "BallroomAnnotations/Albums-Latin_Jam-06.beats": "0.5300000000 1\n0.8190000000 2\n",
    "BallroomAnnotations/Albums-Latin_Jam-07.beats": "0.194467120\t0.4\n0.849977324\t1.1\n",
    "BallroomAnnotations/Albums-Latin_Jam-15.beats": "0.5300000000 1\n",
    "BallroomAnnotations/Media-103402.beats": "1.5 3\n2.0 1\n",
    "BallroomAnnotations/ballroomGroundTruth/Albums-Latin_Jam-06.bpm": "104\n",
    "BallroomAnnotations/ballroomGroundTruth/Albums-Latin_Jam-07.bpm": "96",
    "BallroomAnnotations/ballroomGroundTruth/Albums-Latin_Jam-15.bpm": "104\n",
    "BallroomAnnotations/ballroomGroundTruth/Media-103402.bpm": "128\n",
    "BallroomData/Samba/Albums-Latin_Jam-15.wav": "sound",
}
BALLROOM_SOUNDS = {
    "BallroomData/Samba/Albums-Latin_Jam-06.wav": (beats((0.53, 1), (0.819, 2)), 104.0),
    "BallroomData/Rumba-Misc/Albums-Latin_Jam-07.wav": (beats((0.194467120, 4), (0.849977324, 1)), 96.0),
    "BallroomData/ChaChaCha/Media-103402.wav": (beats((1.5, 3), (2.0, 1)), 128.0),
}
JAMENDO_SPLITS = "data/splits/split-0/autotagging_top50tags-{}.tsv"
JAMENDO_HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
JAMENDO = {
    JAMENDO_SPLITS.format(split): table(JAMENDO_HEADER, *rows, delimiter="\t")
    for split, rows in {
        "train": [
            ["track_0000214", "artist_000014", "album_000031", "14/214.mp3", "124.6", "genre---punkrock"],
            [
                "track_0000215",
                "artist_000014",
                "album_000031",
                "15/215.mp3",
                "151.4",
                "genre---rock",
                "mood/theme---happy",
            ],
        ],
        "validation": [
            ["track_0000773", "artist_000104", "album_000126", "73/773.mp3", "275.3", "genre---electronic"]
        ],
        "test": [["track_0001332", "artist_000224", "album_000204", "32/1332.mp3", "292.6", "genre---electronic"]],
    }.items()
}
JAMENDO_SOUNDS = {
    "train": {
        "audio/14/214.mp3": ("genre---punkrock",),
        "audio/15/215.low.mp3": ("genre---rock", "mood/theme---happy"),
    },
    "validation": {"audio/73/773.low.mp3": ("genre---electronic",)},
    "test": {"audio/32/1332.mp3": ("genre---electronic",)},
}
FMA = {
    "fma_metadata/tracks.csv": table(
        ["", "album", "artist", "set", "set", "track", "track"],
        ["", "information", "id", "split", "subset", "genre_top", "title"],
        ["track_id", "", "", "", "", "", ""],
        ["2", '"a text,\nof ""two"" lines"', 1, "training", "small", "Hip-Hop", "Food"],
        ["5", "", 1, "training", "small", "Rock", "This World"],
        ["140", "", 54, "validation", "small", "Folk", "Song"],
        ["12345", "", 7, "test", "small", "Rock", "Song"],
        ["141", "", 8, "test", "medium", "Folk", "Song"],
        ["142", "", 8, "test", "large", "", "Song"],
    )
}
FMA_SOUNDS = {
    "train": {"fma_small/000/000002.mp3": "Hip-Hop", "fma_small/000/000005.mp3": "Rock"},
    "validation": {"fma_small/000/000140.mp3": "Folk"},
    "test": {"fma_small/012/012345.mp3": "Rock"},
}


def picked(splits, place):
    return {split: {name: label[place] for name, label in sounds.items()} for split, sounds in splits.items()}


GIANTSTEPS_SOUNDS = {
    "train": {"giantsteps-mtg-key-dataset/audio/7217.LOFI.mp3": "G# minor"},
    "validation": {
        "giantsteps-mtg-key-dataset/audio/5061.LOFI.mp3": "Eb minor",
        "giantsteps-mtg-key-dataset/audio/5881.LOFI.mp3": "Bb major",
        "giantsteps-mtg-key-dataset/audio/10359.LOFI.mp3": "C# minor",
    },
    "test": {
        "giantsteps-key-dataset/audio/1234749.LOFI.mp3": "Bb major",
        "giantsteps-key-dataset/audio/677299.LOFI.mp3": "Eb minor",
    },
}
EMO_SOUNDS = {f"clips_45seconds/{song}.mp3": (3.1, 3.5) for song in [*range(2, 30), 1000]}
CASES = {
    "load_philharmonia_instrument": (
        PHILHARMONIA,
        {OURS: {name: name.split("/")[1] for name in PHILHARMONIA}},
    ),
    "load_philharmonia_pitch": (
        PHILHARMONIA,
        {OURS: {name: str(PITCHES[name.split("_")[1]]) for name in PHILHARMONIA}},
    ),
    "load_magnatagatune": (MTAT, MTAT_SOUNDS),
    "load_gtzan_genre": (GTZAN, GTZAN_SOUNDS),
    "load_gtzan_rhythm": (RHYTHM, {OURS: RHYTHM_SOUNDS}),
    "load_nsynth_instrument": (NSYNTH, picked(NSYNTH_SOUNDS, 0)),
    "load_nsynth_pitch": (NSYNTH, picked(NSYNTH_SOUNDS, 1)),
    "load_giantsteps_key": (GIANTSTEPS, GIANTSTEPS_SOUNDS),
    "load_emomusic": (EMO, {OURS: EMO_SOUNDS}),
    "load_ballroom_beats": (BALLROOM, picked({OURS: BALLROOM_SOUNDS}, 0)),
    "load_ballroom_tempo": (BALLROOM, picked({OURS: BALLROOM_SOUNDS}, 1)),
    "load_mtg_jamendo": (JAMENDO, JAMENDO_SOUNDS),
    "load_fma": (FMA, FMA_SOUNDS),
}
each_loader = pytest.mark.parametrize("name", CASES)


def build(root, name):
    files, splits = CASES[name]
    for sounds in splits.values():
        files = {**files, **dict.fromkeys(sounds, "sound")}
    write(root, files)
    return getattr(loaders, name)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def labels(root, clips):
    return {clip.path.relative_to(root).as_posix(): clip.label for clip in clips}


def test_every_loader_is_tested():
    assert set(CASES) == {name for name in vars(loaders) if name.startswith("load_")}


@each_loader
def test_reads_labels_and_splits(name, tmp_path):
    splits = build(tmp_path, name)(tmp_path)
    expected = CASES[name][1]
    assert tuple(splits) == SPLITS
    found = {split: labels(tmp_path, clips) for split, clips in splits.items()}
    if OURS not in expected:
        assert found == expected
    else:
        everything = {path: label for sounds in found.values() for path, label in sounds.items()}
        known = set(found["train"].values())
        if "philharmonia" in name:  # where classes that train lacks are left out
            assert everything == {path: label for path, label in expected[OURS].items() if label in known}
        else:
            assert everything == expected[OURS]
    groups = [{clip.group for clip in clips} for clips in splits.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert sum(map(len, found.values())) == sum(map(len, splits.values()))  # no file twice


@each_loader
def test_missing_data_is_told_with_the_layout(name, tmp_path):
    loader = getattr(loaders, name)
    with pytest.raises(MissingDataError, match="Expected layout:\n    root/"):
        loader(tmp_path / "nowhere")
    build(tmp_path, name)
    for path in list(tmp_path.rglob("*")):
        if path.suffix in (".mp3", ".wav", ".au"):
            path.unlink()
    with pytest.raises(MissingDataError, match="Expected layout:\n    root/"):
        loader(tmp_path)


@each_loader
def test_missing_and_empty_sound_files_are_told(name, tmp_path, caplog):
    loader = build(tmp_path, name)
    before = loader(tmp_path)
    split = max(SPLITS, key=lambda split: len(before[split]))
    clip = before[split][0]
    clip.path.write_text("", encoding="utf-8")
    if "philharmonia" not in name:  # where the sound files are the annotation
        clip.path.unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        if len(before[split]) == 1:
            with pytest.raises(MissingDataError, match=clip.path.stem):
                loader(tmp_path)
            return
        after = loader(tmp_path)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) - 1
    told = [record.message for record in caplog.records if "missing or empty" in record.message]
    assert len(told) == 1
    assert ": 1 of " in told[0]
    assert clip.path.stem.split(".")[0] in told[0]


MALFORMED = [
    ("load_magnatagatune", "annotations_final.csv", '"6"\t"1"', '"6"\t"2"', "line 6 .*0 or 1"),
    ("load_magnatagatune", "annotations_final.csv", '"f/f', '"x/f', "line 6"),
    ("load_magnatagatune", "annotations_final.csv", '"mp3_path"', '"path"', "line 1 .*mp3_path"),
    ("load_gtzan_genre", "valid_filtered.txt", "jazz/jazz.00000.wav", "jazz 0", "line 1 .*'blues.00029'"),
    ("load_gtzan_rhythm", "jams/jazz.00007.wav.jams", '"time": 3.0', '"at": 3.0', "time"),
    ("load_gtzan_rhythm", "jams/jazz.00007.wav.jams", '"annotations"', "annotations", "Expecting"),
    ("load_nsynth_pitch", "nsynth-valid/examples.json", '"pitch"', '"height"', "entry string_acoustic_012-057-050"),
    ("load_nsynth_instrument", "nsynth-test/examples.json", "{", "", "Extra data|Expecting"),
    ("load_giantsteps_key", MTG_KEYS, "G# minor", "G# dorian", "line 4 .*dorian"),
    ("load_giantsteps_key", MTG_KEYS, "16484\tA minor\t1", "16484\tA minor", "line 7 .*no C"),
    (
        "load_giantsteps_key",
        "giantsteps-key-dataset/annotations/key/677299.LOFI.key",
        "D# minor",
        "H minor",
        "line 1 .*'H'",
    ),
    ("load_emomusic", "annotations/static_annotations.csv", "5,3.1,", "5,nan,", "line 5 .*finite"),
    ("load_emomusic", "annotations/static_annotations.csv", "1000,", "1001,", "line 30 .*1001"),
    ("load_emomusic", "annotations/songs_info.csv", "evaluation", "test", "line 30"),
    ("load_ballroom_beats", "BallroomAnnotations/Media-103402.beats", "2.0 1", "2.0", "line 2"),
    ("load_ballroom_tempo", "BallroomAnnotations/ballroomGroundTruth/Media-103402.bpm", "128", "-1", "above 0"),
    ("load_mtg_jamendo", JAMENDO_SPLITS.format("test"), "\tgenre---electronic", "", "line 2 .*at least one tag"),
    ("load_fma", "fma_metadata/tracks.csv", "12345,,7,test", "12345,,7,testing", "line 8 .*testing"),
    ("load_fma", "fma_metadata/tracks.csv", "genre_top", "genre", "line 1 .*genre_top"),
]


@pytest.mark.parametrize(("name", "file", "text", "other", "message"), MALFORMED)
def test_malformed_annotations_are_refused(name, file, text, other, message, tmp_path):
    loader = build(tmp_path, name)
    path = tmp_path / file
    before = path.read_text(encoding="utf-8")
    assert text in before
    path.write_text(before.replace(text, other), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as refusal:
        loader(tmp_path)
    assert str(path) in str(refusal.value)


def test_pitch_takes_steady_notes_of_known_pitch(tmp_path, caplog):
    loader = build(tmp_path, "load_philharmonia_pitch")
    usable = sum(map(len, loader(tmp_path).values()))
    others = ["violin_A3_phrase_mezzo-forte_arco-legato", "violin_A3_1_forte_arco-major-trill", "notes on it"]
    others += ["cello_A3_1_forte_arco-glissando", "violin_A3_very-long_piano_natural-harmonic"]
    others += ["trombone_A3_1_forte_normal", "saxophone_A3_1_forte_normal", "agogo-bells__025_forte_struck-singly"]
    write(
        tmp_path, {f"more/{name}.mp3": "sound" for name in others} | {"more/violin_A3_1_forte_tremolo.flac": "sound"}
    )
    with caplog.at_level(logging.INFO):
        clips = sum(loader(tmp_path).values(), [])
    assert len(clips) == usable + 1
    assert f"{len(others)} recordings do not fit" in caplog.text
    instruments = sum(loaders.load_philharmonia_instrument(tmp_path).values(), [])
    assert not {"notes on it", "agogo-bells__025_forte_struck-singly"} & {clip.path.stem for clip in instruments}


def test_classes_that_train_lacks_are_left_out_and_told(tmp_path, caplog):
    loader = build(tmp_path, "load_philharmonia_pitch")
    before = loader(tmp_path)
    evaluated = before["validation"] + before["test"]
    gone = evaluated[0].label
    for clip in before["train"]:
        if clip.label == gone:
            clip.path.unlink()
    caplog.clear()
    after = loader(tmp_path)
    assert after["validation"] + after["test"] == [clip for clip in evaluated if clip.label != gone]
    assert f"'{gone}'" in caplog.text
    assert "do not occur in train" in caplog.text


def test_magnatagatune_keeps_the_50_most_frequent_tags_of_all_folders(tmp_path):
    tags = [f"tag {index}" for index in range(52)]
    rows = [(folder, [int(folder == "f" or index < 51) for index in range(52)]) for folder in ("0", "c", "f")]
    rows.append(("0", [int(index != 7) for index in range(52)]))
    names = [f"{folder}/{number}-song-0-29.mp3" for number, (folder, _) in enumerate(rows)]
    lines = [[number, *row[1], name] for number, (row, name) in enumerate(zip(rows, names, strict=True))]
    text = table(["clip_id", *tags, "mp3_path"], *lines, delimiter="\t")
    write(tmp_path, {"annotations_final.csv": text} | dict.fromkeys(names, "sound"))
    splits = loaders.load_magnatagatune(tmp_path)
    assert splits["test"][0].label == tuple(tag for tag in tags if tag not in ("tag 51", "tag 7"))
    write(tmp_path, {names[-1]: ""})
    assert loaders.load_magnatagatune(tmp_path)["test"] == splits["test"]  # tags are counted by annotation


def test_emomusic_keeps_artists_and_the_official_test_set_apart(tmp_path):
    splits = build(tmp_path, "load_emomusic")(tmp_path)
    assert [clip.path.name for clip in splits["test"]] == ["1000.mp3"]
    assert len(splits["train"]) > len(splits["validation"]) > 0
    path = tmp_path / "annotations/songs_info.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("Band xx\t", "BAND  x-x!"), encoding="utf-8")
    again = loaders.load_emomusic(tmp_path)
    assert again == splits  # an artist is known by the letters of the name


def test_ballroom_albums_stay_together(tmp_path):
    splits = build(tmp_path, "load_ballroom_beats")(tmp_path)
    groups = {clip.path.stem: clip.group for clips in splits.values() for clip in clips}
    assert groups == {
        "Albums-Latin_Jam-06": "Albums-Latin_Jam",
        "Albums-Latin_Jam-07": "Albums-Latin_Jam",
        "Media-103402": "Media-1034",
    }


def test_excerpts_without_beats_are_told(tmp_path, caplog):
    build(tmp_path, "load_gtzan_rhythm")(tmp_path)
    assert "1 files without beats are left out, the first is" in caplog.text
    assert "rock.00001" in caplog.text


def test_fma_subsets_hold_the_smaller_ones(tmp_path, caplog):
    write(tmp_path, FMA)
    write(tmp_path, {f"fma_large/{name}.mp3": "sound" for name in ("000/000002", "000/000005", "000/000140")})
    write(tmp_path, {f"fma_large/{name}.mp3": "sound" for name in ("000/000141", "000/000142", "012/012345")})
    with caplog.at_level(logging.INFO):
        splits = loaders.load_fma(tmp_path, "large")
    assert [clip.label for clip in splits["test"]] == ["Rock", "Folk"]
    assert "1 tracks have no top genre" in caplog.text
    with pytest.raises(MissingDataError, match="fma_medium is missing"):
        loaders.load_fma(tmp_path, "medium")
    with pytest.raises(ValueError, match="no subset 'full'"):
        loaders.load_fma(tmp_path, "full")
