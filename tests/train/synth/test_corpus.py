"""The rendered corpus: labels that the audio bears out, splits that hold, the same bits again, also after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mt2_music import MT2FeatureExtractor
from mt2_music.music import chord_tones, parse_key
from mt2_music.train.data.splits import split_of
from mt2_music.train.synth import compose, find_soundfont
from mt2_music.train.synth.corpus import load_corpus
from mt2_music.train.synth.corpus.__main__ import main
from mt2_music.train.synth.harmony import SCALES
from mt2_music.train.synth.rows import Recipe, make_score
from mt2_music.train.synth.sources import Source
from support import RATE

pytestmark = pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")


def arguments(corpus, *more):
    banks = corpus.parent
    options = ["--soundfonts", banks / "first.sf2", banks / "second.sf2", "--test_soundfont", banks / "unseen.sf2"]
    return [str(option) for option in ["--output_dir", corpus, "--seconds", 8, "--hours", 0.06, *options, *more]]


def content(corpus):
    files = {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*.flac")}
    return (
        files,
        (corpus / "rows.jsonl").read_text(encoding="utf-8"),
        (corpus / "settings.json").read_text(encoding="utf-8"),
    )


@pytest.fixture(scope="module")
def rows(small_corpus):
    return [json.loads(line) for line in (small_corpus / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def test_splits_are_by_piece_and_the_test_soundfont_is_unseen(rows):
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    for row in rows:
        assert row["split"] == split_of(row["piece"])
        assert (row["soundfont"] == "unseen.sf2") == (row["split"] == "test")
        assert row["seconds"] == (2.0 if row["source"] == "notes" else 8.0)


def test_the_audio_bears_out_its_labels(small_corpus, rows):
    """Energy lies at the pitch classes of the labelled notes, more than at any transposition of them."""
    extractor = MT2FeatureExtractor(cqt_power=1.0)
    right, belongs = [], []
    for row in [row for row in rows if row["source"] == "generated"]:
        audio, rate = soundfile.read(small_corpus / row["file"], dtype="float32")
        assert rate == RATE and len(audio) == row["seconds"] * RATE
        assert 0.25 < np.abs(audio).max() <= 0.91
        cqt = extractor(audio, sampling_rate=rate, return_tensors="np")["input_features"][0, :, :84].mean(0)
        measured = np.roll(cqt.reshape(7, 12).sum(0), 9)  # the lowest bin is an A
        written = np.zeros(12)
        for note in row["notes"]:
            if not note["part"].startswith("drums"):
                written[note["pitch"] % 12] += (note["end"] - note["start"]) * note["velocity"]
        fits = [np.corrcoef(np.roll(written, shift), measured)[0, 1] for shift in range(12)]
        right.append(int(np.argmax(fits)) == 0)
        for note in [note for note in row["notes"] if note["part"] == "chords"]:
            time = note["start"] + 0.06  # past what timing jitter may move
            labels = [chord["label"] for chord in row["chords"] if chord["start"] <= time < chord["end"]]
            belongs += [note["pitch"] % 12 in chord_tones(label)[0] for label in labels]
    assert np.mean(right) > 0.95
    assert np.mean(belongs) > 0.97


def test_beats_lie_on_the_drums(rows):
    shares = {0.0: [], 0.1: []}
    for row in [row for row in rows if "drums" in row["instruments"]]:
        hits = np.array([note["start"] for note in row["notes"] if note["part"] == "drums"])
        for shift, found in shares.items():
            found += [np.abs(hits - beat["time"] - shift).min() < 0.03 for beat in row["beats"]]
    assert np.mean(shares[0.0]) > 0.97
    assert np.mean(shares[0.1]) < 0.5


def test_it_opens_as_a_data_set(small_corpus, rows):
    train = load_corpus(small_corpus, "train")
    assert len(train) == sum(row["split"] == "train" for row in rows)
    music = train.filter(lambda row: row["source"] == "generated", load_from_cache_file=False)[0]
    assert soundfile.info(music["audio"]["path"]).samplerate == RATE
    parse_key(music["key"])
    assert music["tempo"] == pytest.approx(
        60 / np.median(np.diff([beat["time"] for beat in music["beats"]])), rel=1e-3
    )
    with pytest.raises(ValueError, match="nothing"):
        load_corpus(small_corpus, "nothing")
    with pytest.raises(FileNotFoundError, match="rows.jsonl"):
        load_corpus(small_corpus / "audio", "train")


def test_a_killed_render_goes_on_and_ends_with_the_same_bits(small_corpus, tmp_path):
    for bank in small_corpus.parent.glob("*.sf2"):
        shutil.copy(bank, tmp_path)
    corpus = tmp_path / "corpus"
    command = [sys.executable, "-m", "mt2_music.train.synth.corpus", *arguments(corpus, "--workers", 1)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (corpus / "rows.jsonl").exists() or (corpus / "rows.jsonl").read_text(encoding="utf-8").count("\n") < 12:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with (corpus / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "generated-0000')  # as a kill in the middle of a line leaves it
    (corpus / "audio" / "train" / "generated-000000.flac.1.part").write_bytes(b"half a file")
    finished = {path: path.stat().st_mtime_ns for path in corpus.rglob("*.flac")}
    listed = {
        json.loads(line)["file"] for line in (corpus / "rows.jsonl").read_text(encoding="utf-8").splitlines()[:-1]
    }
    main(arguments(corpus, "--workers", "2"))
    assert content(corpus) == content(small_corpus)
    assert all(
        path.stat().st_mtime_ns == at for path, at in finished.items() if str(path.relative_to(corpus)) in listed
    )
    assert not list(corpus.rglob("*.part"))


def test_a_longer_corpus_begins_with_the_shorter_one(small_corpus, tmp_path):
    for bank in small_corpus.parent.glob("*.sf2"):
        shutil.copy(bank, tmp_path)
    corpus = shutil.copytree(small_corpus, tmp_path / "corpus")
    files, _, _ = content(corpus)
    main(arguments(corpus, "--hours", "0.07"))
    more, _, _ = content(corpus)
    assert files.items() < more.items()


def test_solos_are_one_instrument_and_change_nothing_else(small_corpus, tmp_path):
    for bank in ("first.sf2", "second.sf2", "unseen.sf2"):
        shutil.copy(small_corpus.parent / bank, tmp_path)
    main(arguments(tmp_path / "with solos", "--solos"))
    lines = (tmp_path / "with solos" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    solos = [row for row in map(json.loads, lines) if row["source"] == "solos"]
    assert len(solos) > 2
    for row in solos:
        assert row["seconds"] == 16.0 and len(row["programs"]) == 1 and len(row["instruments"]) == 1
        assert len({note["part"] for note in row["notes"]}) == 1 and row["key"]
    others = [line for line in lines if '"source": "solos"' not in line]
    assert set(others) < set((small_corpus / "rows.jsonl").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    "change, message",
    [
        (["--seed", "1"], "seed was 0 and is 1"),
        (["--seconds", "9"], "other settings"),
        (["--midi", "nowhere"], "no such folder: nowhere"),
        (["--test_soundfont", "none.sf2"], "no such SoundFont: none.sf2"),
    ],
)
def test_other_settings_are_refused(small_corpus, change, message, capsys):
    before = content(small_corpus)
    with pytest.raises(SystemExit):
        main(arguments(small_corpus, *change))
    assert message in capsys.readouterr().err
    assert content(small_corpus) == before


def test_one_soundfont_is_not_enough(small_corpus, tmp_path, capsys):
    bank = str(small_corpus.parent / "first.sf2")
    with pytest.raises(SystemExit):
        main(["--output_dir", str(tmp_path / "corpus"), "--soundfonts", bank])
    assert "at least two different SoundFonts" in capsys.readouterr().err
    shutil.copy(bank, tmp_path / "copy.sf2")  # under another name it is the same
    with pytest.raises(SystemExit):
        main(["--output_dir", str(tmp_path / "corpus"), "--soundfonts", bank, str(tmp_path / "copy.sf2")])
    assert "at least two different SoundFonts" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_scores_that_cannot_be_played_are_named(small_corpus, tmp_path, caplog):
    """Rows of a torn file are listed with the reason; the others are all there."""
    import pretty_midi

    scores = tmp_path / "scores"
    scores.mkdir()
    for name in ("one", "two"):
        midi = pretty_midi.PrettyMIDI()
        midi.instruments.append(pretty_midi.Instrument(0))
        midi.instruments[0].notes = [pretty_midi.Note(90, 60 + i % 12, 0.25 * i, 0.25 * i + 0.2) for i in range(80)]
        midi.write(str(scores / f"{name}.mid"))
    (scores / "torn.mid").write_bytes((scores / "one.mid").read_bytes()[:100])
    for bank in small_corpus.parent.glob("*.sf2"):
        shutil.copy(bank, tmp_path)
    corpus = tmp_path / "corpus"
    main(arguments(corpus, "--midi", scores, "--hours", "0.03"))
    left_out = json.loads((corpus / "left_out.json").read_text(encoding="utf-8"))
    assert left_out and all("torn.mid" in row["error"] for row in left_out)
    assert "torn.mid" in caplog.text
    rows = [json.loads(line) for line in (corpus / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"tune/one", "tune/two"} <= {row["piece"] for row in rows}
    (scores / "three.mid").write_bytes((scores / "one.mid").read_bytes())
    with pytest.raises(SystemExit):  # other pieces: not this corpus any more
        main(arguments(corpus, "--midi", scores, "--hours", "0.03"))


def fake_piece(path):
    """A generated piece as a score of a folder: the same for the same path, longer than a row."""
    return compose(np.random.default_rng(int(path.stem)), 60.0, int(path.stem) % 12, "major", rich=True)


def test_labels_follow_scores_through_transposition_stretch_and_excerpt(tmp_path):
    """In rows of a score source, notes agree with chords, keys and beats, and no longer if shifted."""
    source = Source("fake", tuple((f"fake/{index}", Path(str(index))) for index in range(24)), fake_piece)
    recipe = Recipe(tmp_path, 0, 12.0, (), tmp_path, (source,))
    belongs, in_scale, on_beat, transpositions = [], [], [], set()
    for number in range(24):
        score, _, changes = make_score(recipe, "fake", number, np.random.default_rng(number))
        transpositions.add(changes["transposition"])
        assert 11 < score.duration <= 12.1
        assert score.chords[-1].end == pytest.approx(score.keys[-1].end, abs=1e-6)
        for note in score.notes:
            time = note.start + 0.06
            for shift in (0, 1):
                if note.role == "chords":
                    chords = [chord.label for chord in score.chords if chord.start <= time < chord.end]
                    belongs += [(shift, (note.pitch + shift) % 12 in chord_tones(label)[0]) for label in chords]
                if note.role == "melody":
                    keys = [parse_key(key.label) for key in score.keys if key.start <= time < key.end]
                    in_scale += [(shift, (note.pitch + shift - tonic) % 12 in SCALES[mode]) for tonic, mode in keys]
        onsets = np.array([note.start for note in score.notes])
        on_beat += [(s, np.abs(onsets - beat.time - s).min() < 0.03) for s in (0, 0.1) for beat in score.beats]
    for found, least in ((belongs, 0.97), (in_scale, 0.9), (on_beat, 0.9)):
        assert np.mean([hit for shift, hit in found if not shift]) > least
        assert np.mean([hit for shift, hit in found if shift]) < 0.7
    assert len(transpositions) > 6
