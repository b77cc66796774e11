"""What `analyze` says of songs: keys, chords and beats at their times, in Python, in print and in files."""

import csv
import json
import re
from dataclasses import replace

import mir_eval
import numpy as np
import pytest
import soundfile
import torch

import mt2_music
from mt2_music import Beats, ChordSegment, KeySegment
from mt2_music.cli import main
from mt2_music.cli.analyze import output_names
from mt2_music.song import analysis as analysis_module
from mt2_music.song.analysis import FRAME_LABELS, GROUPS, _classified
from mt2_music.song.timeline import Timeline
from mt2_music.train.synth import Note, Score, compose, play_additive
from support import RATE

MODEL = "mt2-small-analysis"
BAR = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))
CHORDS = ("C:maj", "F:maj", "G:maj", "C:maj")


def cadences(tonic: int, times: int) -> np.ndarray:
    """Play a chord a second, four times as often as `times`."""
    notes = []
    for index, chord in enumerate(BAR * times):
        pitches = [36 + tonic + chord[0], *(60 + tonic + step for step in chord)]
        notes += [Note(float(index), index + 1.0, pitch, 90, "chords") for pitch in pitches]
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), RATE)[: 4 * times * RATE]


def drums(seconds: float = 16.0, tempo: float = 120.0) -> np.ndarray:
    beat = 60 / tempo
    notes = []
    for index in range(int(seconds / beat)):
        notes.append(Note(index * beat, index * beat + 0.1, 42, 60, "drums"))
        notes.append(Note(index * beat, index * beat + 0.1, 36 if index % 2 == 0 else 38, 100, "drums"))
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), RATE)[: round(seconds * RATE)]


@pytest.fixture(scope="module")
def model():
    return mt2_music.load(MODEL, device="cpu")


@pytest.fixture(scope="module")
def modulation():
    return np.concatenate([cadences(0, 5), cadences(6, 5), cadences(0, 5)])


def test_a_song_that_modulates_has_both_keys_and_the_border(model, modulation, tmp_path, capsys):
    segments = model.keys(modulation, RATE)
    assert [segment.key for segment in segments] == ["C major", "Gb major", "C major"]
    assert (segments[0].start, segments[-1].end) == (0.0, pytest.approx(60, abs=0.1))
    for before, after, border in zip(segments, segments[1:], (20, 40), strict=False):
        assert before.end == after.start == pytest.approx(border, abs=2)
    soundfile.write(tmp_path / "song.wav", np.r_[modulation, np.zeros(20 * RATE)], RATE)
    file = str(tmp_path / "song.wav")
    assert main(["key", file, "--over_time", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert [segment["key"] for segment in result["keys"]] == ["C major", "Gb major", "C major", None]
    assert main(["key", file, "--over_time", "--notation", "camelot"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[3] for row in rows] == ["8B", "2B", "8B", "no key"]
    assert main(["key", file, "--notation", "openkey"]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "1d"  # it has a key as a whole, too


@pytest.mark.parametrize("tonic", [0, 5, 10])
def test_a_song_in_one_key_is_one_segment(model, tonic):
    (segment,) = model.keys(cadences(tonic, 6), RATE)
    assert segment.key == model.key(cadences(tonic, 6), RATE).key


def test_chords_are_where_they_are(model):
    """A chord a second: by mir_eval, nearly all of the time; half a second later, only half of it."""
    chords = model.chords(cadences(0, 5), RATE)
    intervals = np.array([[chord.start, chord.end] for chord in chords])
    seconds = np.arange(20.0)
    for late, low, high in ((0.0, 0.9, 1.0), (0.5, 0.3, 0.75)):
        shifted = np.stack([seconds, seconds + 1], 1) + late
        score = mir_eval.chord.evaluate(shifted, list(CHORDS * 5), intervals, [chord.label for chord in chords])
        assert low <= score["majmin"] <= high


def test_beats_and_tempo_of_drums_alone_which_have_no_key_and_no_chord(model):
    found = model.analyze(drums(), RATE)
    assert found.key.key is None and [one.key for one in found.keys] == [None]
    assert {chord.label for chord in found.chords} == {"N"}
    assert found.tempo == pytest.approx(120, rel=0.02)
    wanted = np.arange(0, 16, 0.5)
    assert mir_eval.beat.f_measure(wanted[wanted > 1], found.beats.times[found.beats.times > 1]) > 0.9


@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_no_music_has_nothing(model, kind):
    samples = np.zeros(12 * RATE) if kind == "silence" else np.random.default_rng(0).standard_normal(12 * RATE) / 10
    found = model.analyze(samples.astype(np.float32), RATE)
    assert found.key.key is None and found.key.reason == {"silence": "silent", "noise": "no pitch"}[kind]
    assert [(one.key, one.confidence) for one in found.keys] == [(None, 0.0)]
    assert [one.label for one in found.chords] == ["N"]
    assert (len(found.beats), found.tempo, found.metre) == (0, None, None)
    assert found.seconds == pytest.approx(12, abs=0.05)


def test_a_higher_song_has_higher_chords_and_the_same_beats(model):
    rng = np.random.default_rng(4)
    score = compose(rng, 20, 2, "major")
    low, high = (
        model.analyze(play_additive(score.transposed(shift), np.random.default_rng(1), RATE), RATE) for shift in (0, 3)
    )
    grid = np.arange(0.5, 19.5, 0.1)

    def roots(found):
        labels = [next(one.label for one in found.chords if one.start <= time < one.end) for time in grid]
        return np.array([mir_eval.chord.encode(label)[0] for label in labels])

    assert ((roots(low) + 3) % 12 == roots(high)).mean() > 0.8
    assert mir_eval.beat.f_measure(low.beats.times, high.beats.times) > 0.8


def test_a_detuned_song_is_read_at_its_own_times(model, modulation):
    """Played 40 cents higher, as faster tape: the same keys, in as much less time, and the tuning is said."""
    speed = 2 ** (40 / 1200)
    places = np.arange(0, len(modulation) - 1, speed)
    faster = np.interp(places, np.arange(len(modulation)), modulation).astype(np.float32)
    found = model.analyze(faster, RATE)
    assert found.tuning_cents == pytest.approx(40, abs=5)
    assert [one.key for one in found.keys] == ["C major", "Gb major", "C major"]
    assert found.seconds == found.chords[-1].end == pytest.approx(len(faster) / RATE, abs=0.1)
    assert found.keys[0].end == pytest.approx(20 / speed, abs=2)


def test_frames_in_pieces_are_classified_as_at_once(model):
    tokens = torch.randn(2400, model.config.hidden_size)
    with torch.no_grad():
        whole = model.model.analysis_head(tokens[None])[0]
        parts = list(_classified(model.model, tokens.split([1, 500, 125, 700, 1074])))
        assert torch.allclose(torch.cat(parts), whole, atol=1e-4)
        reach = model.model.analysis_head.reach
        changed = tokens.clone()
        changed[0] += 1
        moved = (model.model.analysis_head(changed[None])[0] - whole).abs().amax(1) > 0
        assert moved[: reach + 1].any() and not moved[reach + 1 :].any()  # it reaches no further than it says


def test_padding_changes_no_frame(model):
    clips = [cadences(0, 1)[: 3 * RATE], cadences(0, 2)[: 7 * RATE]]
    batch = model.extractor(clips, sampling_rate=RATE, return_tensors="pt")
    alone = model.extractor(clips[0], sampling_rate=RATE, return_tensors="pt")["input_features"]
    with torch.no_grad():
        together = model.model(**batch).frame_logits[0, : alone.shape[1]]
        assert torch.allclose(together, model.model(alone).frame_logits[0], atol=1e-4)


def test_a_model_without_the_head_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="finds no chords and beats"):
        mt2_music.load("mt2-small-key", device="cpu").chords(np.zeros(RATE, np.float32), RATE)
    soundfile.write(tmp_path / "a.wav", cadences(0, 1), RATE)
    assert main(["analyze", str(tmp_path / "a.wav"), "--model", "mt2-small"]) == 2
    assert "finds no chords and beats" in capsys.readouterr().err


def test_outputs_are_named_once():
    assert len(set(FRAME_LABELS)) == len(FRAME_LABELS) == sum(map(len, GROUPS.values()))
    assert {"chord C:maj", "seventh A:min7", "key A minor", "beat", "beat down"} <= set(FRAME_LABELS)


def test_lab_files_and_tables():
    chords = Timeline([ChordSegment(0.0, 1.5, "A:min", "A:min7", 0.9), ChordSegment(1.5, 3.0, "N", "N", 0.5)])
    assert chords.to_lab() == "0.000\t1.500\tA:min\n1.500\t3.000\tN\n"
    keys = Timeline([KeySegment(0.0, 2.0, "A minor", 0.8), KeySegment(2.0, 3.0, None, 0.0)])
    assert keys.to_lab() == "0.000\t2.000\tA minor\n2.000\t3.000\tN\n"
    assert keys[0].camelot == "8A" and keys[1].open_key is None
    beats = Beats(np.array([0.5, 1.0, 1.5, 2.0]), np.array([1, 2, 1, 2]), np.full(4, 0.7))
    assert beats.to_lab() == "0.500\t1\n1.000\t2\n1.500\t1\n2.000\t2\n"
    assert (beats.tempo, beats.metre, list(beats.downbeats)) == (120.0, 2, [0.5, 1.5])
    assert list(chords.to_dataframe().columns) == ["start", "end", "label", "seventh", "confidence"]
    assert list(beats.to_dataframe()["position"]) == [1, 2, 1, 2]
    assert replace(beats, times=beats.times[:1]).tempo is None


def test_the_command_prints_a_song(tmp_path, capsys, modulation):
    soundfile.write(tmp_path / "song.wav", modulation, RATE)
    assert main(["analyze", str(tmp_path / "song.wav")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path / "song.wav")
    assert [line.split()[0] for line in lines[1:6]] == ["key", "tuning", "tempo", "keys", "chords"]
    assert max(map(len, lines[1:])) <= 110
    assert re.search(r"0:00\.0 C major, 0:(19|20|21)\.\d Gb major, 0:(39|40|41)\.\d C major", lines[4])
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * RATE), RATE)
    assert main(["analyze", str(tmp_path / "silence.wav")]) == 0
    assert "no key: silent" in (text := capsys.readouterr().out) and "no beats" in text and "0:00.0 N" in text


def test_a_folder_is_analysed_and_continued(tmp_path, capsys, monkeypatch):
    music, output = tmp_path / "music", tmp_path / "out"
    (music / "b").mkdir(parents=True)
    soundfile.write(music / "one.wav", cadences(0, 2), RATE)
    soundfile.write(music / "one.flac", cadences(3, 2), RATE)
    soundfile.write(music / "b" / "two.flac", drums(6), RATE)
    (music / "broken.ogg").write_bytes(b"OggS")
    command = ["analyze", str(music), "-o", str(output), "--plot"]
    assert main(command) == 1
    assert "broken.ogg" in capsys.readouterr().err
    for stem in ("one.wav", "one.flac", "b/two"):
        for suffix in (".key.lab", ".chords.lab", ".beats.txt", ".json", ".png"):
            assert (output / f"{stem}{suffix}").stat().st_size or stem == "b/two"
    intervals, labels = mir_eval.io.load_labeled_intervals(str(output / "one.wav.chords.lab"))
    assert labels[0] in ("C:maj", "N") and intervals[-1, 1] == pytest.approx(8, abs=0.1)
    times, positions = mir_eval.io.load_labeled_events(str(output / "one.wav.beats.txt"))
    assert len(times) == len(positions)
    rows = {row["file"]: row for row in csv.DictReader((output / "songs.csv").open(encoding="utf-8"))}
    assert {name.removeprefix(str(music))[1:] for name in rows} == {"one.wav", "one.flac", "b/two.flac"}
    assert rows[str(music / "b" / "two.flac")]["key"] == "" and rows[str(music / "one.wav")]["key"] == "C major"
    failures = list(csv.DictReader((output / "songs.failures.csv").open(encoding="utf-8")))
    assert [row["file"] for row in failures] == [str(music / "broken.ogg")]
    # What is done is not done again, what changed is.
    done = []
    analyse = analysis_module.analyse_song
    monkeypatch.setattr("mt2_music.music_model.analyse_song", lambda *a: done.append(str(a[2])) or analyse(*a))
    soundfile.write(music / "one.flac", cadences(5, 2), RATE)
    (music / "broken.ogg").unlink()
    before = (output / "one.wav.json").read_bytes()
    assert main([*command, "--table", str(output / "songs.parquet")]) == 0
    assert done == [str(music / "one.flac")]
    assert (output / "one.wav.json").read_bytes() == before
    assert json.loads((output / "one.flac.json").read_text(encoding="utf-8"))["key"] == "F major"
    import pyarrow.parquet as parquet

    assert parquet.read_table(output / "songs.parquet").num_rows == 3


def test_names_of_files_are_never_two_songs(tmp_path):
    folder = str(tmp_path)
    names = output_names(
        [folder], [f"{folder}/a.wav", f"{folder}/a.flac", f"{folder}/b/a.wav", f"{folder}/A.WAV", "c"]
    )
    assert names[f"{folder}/b/a.wav"] == "b/a" and names["c"] == "c"
    assert len({name.casefold() for name in names.values()}) == len(names)


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--plot"], "--plot needs --output"), (["--table", "x.txt"], "must end in"), (["-o", "FILE"], "not a folder")],
)
def test_options_that_make_no_sense(tmp_path, capsys, options, reason):
    soundfile.write(tmp_path / "a.wav", cadences(0, 1), RATE)
    given = [option.replace("FILE", str(tmp_path / "a.wav")) for option in options]
    assert main(["analyze", str(tmp_path / "a.wav"), *given]) == 2
    assert reason in capsys.readouterr().err


def test_jams(model):
    jams = pytest.importorskip("jams")
    file = model.analyze(cadences(0, 2), RATE).to_jams()
    file.validate(strict=True)
    assert {annotation.namespace for annotation in file.annotations} == {"key_mode", "chord", "beat", "tempo"}
    assert isinstance(file, jams.JAMS)
