"""Keys over time: where they change, in a song and in what the command prints."""

import json

import numpy as np
import pytest
import soundfile

import mt2_music
from mt2_music.cli import main
from mt2_music.song.local_keys import _likeliest_sequence
from mt2_music.train.synth import Note, Score, play_additive
from support import RATE

BAR = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))


def cadences(tonic: int, times: int) -> np.ndarray:
    notes = []
    for index, chord in enumerate(BAR * times):
        pitches = [36 + tonic + chord[0], *(60 + tonic + step for step in chord)]
        notes += [Note(float(index), index + 1.0, pitch, 90, "chords") for pitch in pitches]
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), RATE)[: 4 * times * RATE]


@pytest.fixture(scope="module")
def model():
    return mt2_music.load("mt2-small-key", device="cpu")


def test_a_song_that_modulates_has_both_keys_and_the_border(model, tmp_path, capsys):
    music = np.concatenate([cadences(0, 5), cadences(6, 5), cadences(0, 5)])
    segments = model.keys(music, RATE)
    assert [segment.key for segment in segments] == ["C major", "Gb major", "C major"]
    assert (segments[0].start, segments[-1].end) == (0.0, pytest.approx(60, abs=0.1))
    for before, after, border in zip(segments, segments[1:], (20, 40), strict=False):
        assert before.end == after.start == pytest.approx(border, abs=2)
    soundfile.write(tmp_path / "song.wav", np.r_[music, np.zeros(20 * RATE)], RATE)
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


def test_no_music_has_no_segments_with_keys(model):
    for samples in (np.zeros(8 * RATE), np.random.default_rng(0).standard_normal(8 * RATE) / 10):
        (segment,) = model.keys(samples.astype(np.float32), RATE)
        assert (segment.key, segment.camelot, segment.confidence) == (None, None, 0.0)


def test_the_sequence_is_the_best_of_all():
    """Against every sequence there is, of four windows and three states."""
    rng = np.random.default_rng(1)
    for change in (-0.1, -1.0, -5.0):
        scores = rng.standard_normal((4, 3))
        every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), -1).reshape(-1, 4)
        totals = scores[np.arange(4), every].sum(1) + change * (np.diff(every, axis=1) != 0).sum(1)
        found = _likeliest_sequence(scores, change)
        assert scores[np.arange(4), found].sum() + change * (np.diff(found) != 0).sum() == pytest.approx(totals.max())


def test_a_model_of_signatures_has_no_keys_over_time(tmp_path, caplog):
    with pytest.raises(ValueError, match="choose a model that names keys"):
        mt2_music.load("mt2-small", device="cpu").keys(np.zeros(RATE, np.float32), RATE)
