"""Composed songs: in their key, in tune, the same for the same seed."""

import numpy as np
import pytest

from mt2_music.train.synth import Note, Score, compose, find_soundfont, play_additive, play_soundfont
from mt2_music.train.synth.harmony import SCALES
from support import RATE


def test_songs_stand_in_the_key_they_are_labelled_with():
    for index in range(24):
        tonic, mode = index % 12, ("major", "minor")[index // 12]
        score = compose(np.random.default_rng(index), 30.0, tonic, mode)
        scale = {(tonic + step) % 12 for step in SCALES[mode]}
        pitched = [note for note in score.notes if note.part != "drums"]
        inside = np.mean([note.pitch % 12 in scale for note in pitched])
        others = [np.mean([(note.pitch + c) % 12 in scale for note in pitched]) for c in range(1, 12)]
        assert inside > 0.85
        assert inside > max(others)
        assert score.signature == (tonic if mode == "major" else (tonic + 3) % 12)
        assert 20 < max(note.end for note in score.notes) < 40


def test_the_same_seed_gives_the_same_song():
    first, again, other = (compose(np.random.default_rng(seed), 10.0, 0, "major") for seed in (0, 0, 1))
    assert first == again
    assert first != other
    audio = [play_additive(first, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*audio)
    assert np.abs(audio[0]).max() <= 0.9


def deviation_in_cents(audio, pitch):
    """Distance of the strongest partial among the first four from where it belongs, looked for within a semitone."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**18))
    cents = np.arange(-100.0, 100.5, 0.5)
    places = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 5)[:, None] * 2 ** (cents / 1200)
    level = np.interp(places, np.arange(len(spectrum)) * RATE / 2**18, spectrum)
    return cents[np.unravel_index(level.argmax(), level.shape)[1]]


@pytest.mark.parametrize("player", ["additive", "soundfont"])
def test_notes_are_in_tune(player):
    """At least 97 % of notes within 40 cents of their pitch; and none of those labelled a semitone off."""
    soundfont = find_soundfont()
    if player == "soundfont" and soundfont is None:
        pytest.skip("no tinysoundfont or no SoundFont on this machine")
    cents = []
    for pitch in 3 * tuple(range(48, 80)):
        score = Score((Note(0.0, 1.5, pitch, 90, "chords"),), 0, "major", 60.0)
        rng = np.random.default_rng(len(cents))
        audio = play_additive(score, rng) if player == "additive" else play_soundfont(score, soundfont, rng)[0]
        cents.append(deviation_in_cents(audio[2000:20000], pitch))
    assert np.mean(np.abs(cents) < 40) >= 0.97
    assert abs(deviation_in_cents(audio[2000:20000], pitch + 1)) > 40
