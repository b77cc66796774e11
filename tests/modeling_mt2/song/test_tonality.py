"""What has no key gets none, with a reason; what is out of tune gets the key it is in."""

import json

import numpy as np
import pytest
import soundfile

import mt2_music
from mt2_music.cli import main
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.music import KEY_LABELS, fifths_between, parse_key, signature
from mt2_music.song.tuning import estimate_tuning
from mt2_music.train.synth import Note, Score, play_additive
from support import RATE, song

TIME = np.arange(10 * RATE) / RATE
CADENCES = {  # semitones above the tonic
    "major": ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14, 17), (0, 4, 7)),
    "minor": ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7), (8, 12, 15), (5, 8, 12), (7, 11, 14, 17), (0, 3, 7)),
}


@pytest.fixture(scope="module")
def model():
    return mt2_music.load("mt2-small-key", device="cpu")


def tones(pitches, seconds=0.4):
    notes = [Note(i * seconds, (i + 1) * seconds, int(pitch), 90, "melody") for i, pitch in enumerate(pitches)]
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), RATE)


def cadence(key: str, a4: float = 440.0) -> np.ndarray:
    """Chords of a key with a bass, of tones with six partials."""
    tonic, mode = parse_key(key)
    time = np.arange(RATE) / RATE
    envelope = np.exp(-2 * time) * np.minimum(1, time / 0.01) * np.minimum(1, (1 - time) / 0.02)

    def tone(pitch):
        hertz = a4 * 2 ** ((pitch - 69) / 12)
        return sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 7)) * envelope

    bars = [sum(map(tone, [36 + tonic + chord[0], *(55 + tonic + n for n in chord)])) for chord in CADENCES[mode]]
    waveform = np.concatenate(bars * 2)
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def noise(slope: float) -> np.ndarray:
    frequency = np.fft.rfftfreq(len(TIME), 1 / RATE)
    frequency[0] = frequency[1]
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(len(TIME))) * frequency**slope
    samples = np.fft.irfft(spectrum, len(TIME))
    return 0.3 * samples / np.abs(samples).max()


def drums() -> np.ndarray:
    kit = (36, 42, 38, 42)
    hits = [Note(i * 0.25, i * 0.25 + 0.1, kit[i % 4], 100, "drums") for i in range(40)]
    return play_additive(Score(tuple(hits)), np.random.default_rng(0), RATE)


WITHOUT_KEY = {
    "nothing": (np.zeros_like(TIME), "silent"),
    "dither": (1e-5 * np.random.default_rng(0).standard_normal(len(TIME)), "silent"),
    "white noise": (noise(0.0), "no pitch"),
    "pink noise": (noise(-0.5), "no pitch"),
    "brown noise": (noise(-1.0), "no pitch"),
    "violet noise": (noise(1.0), "no pitch"),
    "clicks": ((np.arange(len(TIME)) % (RATE // 2) == 0) * 0.9, "no pitch"),
    "direct current": (np.full_like(TIME, 0.2), "no pitch"),
    "drums": (drums(), "no pitch"),
    "a hum with harmonics": (sum(np.sin(2 * np.pi * 60 * k * TIME) / k for k in range(1, 5)) / 4, None),
    "a steady tone": (0.3 * np.sin(2 * np.pi * 440 * TIME), None),
    "one note": (tones([64] * 24), None),
    "a whole-tone scale": (tones([60 + 2 * (i % 7) for i in range(24)]), "no tonal centre"),
    "a chromatic scale": (tones([60 + i % 13 for i in range(26)]), "no tonal centre"),
    "a siren": (np.sin(2 * np.pi * np.cumsum(600 * 2 ** np.sin(2 * np.pi * 0.3 * TIME)) / RATE), None),
}


@pytest.mark.parametrize("name", WITHOUT_KEY)
def test_what_is_no_music_has_no_key(model, name, tmp_path, capsys):
    samples, reason = WITHOUT_KEY[name]
    estimate = model.key(samples.astype(np.float32), RATE)
    assert (estimate.key, estimate.signature, estimate.name, estimate.confidence) == (None, None, "no key", 0.0)
    assert estimate.reason == reason or (reason is None and estimate.reason in ("one pitch only", "no pitch"))
    assert estimate.camelot is estimate.open_key is None
    anyway = model.key(samples.astype(np.float32), RATE, always=True)
    assert anyway.key in KEY_LABELS and anyway.reason == estimate.reason
    soundfile.write(tmp_path / "sound.wav", samples, RATE, subtype="FLOAT")
    assert main(["key", str(tmp_path / "sound.wav")]) == 0
    assert capsys.readouterr().out.rstrip("\n").split("\t")[1:] == ["no key", str(estimate.reason)]
    assert main(["key", str(tmp_path / "sound.wav"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["key"] is result["signature"] is result["camelot"] is None
    assert result["reason"] == estimate.reason


@pytest.mark.parametrize("key", KEY_LABELS)
def test_music_has_a_key(model, key):
    estimate = model.key(cadence(key), RATE)
    assert estimate.reason is None
    assert abs(fifths_between(signature(key), estimate.signature)) <= 1  # how often it is right, progressions.py says


def test_a_song_between_silence_and_noise_keeps_its_key(model):
    music = song(3, 20.0)
    quiet = 1e-3 * np.random.default_rng(0).standard_normal(len(music)).astype(np.float32)
    wanted = model.key(music, RATE).key
    assert wanted is not None
    assert model.key(np.r_[quiet, music, quiet], RATE).key == wanted


@pytest.mark.parametrize("cents", [-45, -30, -16, 16, 30, 45])
@pytest.mark.parametrize("key", ["F minor", "G minor", "Eb major"])
def test_a_song_out_of_tune_keeps_its_key(model, key, cents, tmp_path):
    waveform = cadence(key, 440 * 2 ** (cents / 1200))
    in_tune = model.key(cadence(key), RATE)
    for audio, rate in ((waveform, RATE), (tmp_path / "song.flac", None)):
        if rate is None:
            soundfile.write(audio, waveform, RATE)
        estimate = model.key(audio, rate)
        assert (estimate.key, estimate.signature) == (in_tune.key, in_tune.signature)
        assert estimate.tuning_cents == pytest.approx(cents, abs=2)
    with open(tmp_path / "song.flac", "rb") as file:  # is read a second time from where it was
        assert model.key(file).key == in_tune.key


@pytest.mark.parametrize("cents", [-40, -20, 0, 20, 40])
def test_the_tuning_of_music_is_measured(cents):
    music = song(4, 12.0)
    shifted = resample(music, RATE, RATE * 2 ** (-cents / 1200))
    estimate, agreement = estimate_tuning(shifted, RATE)
    assert estimate == pytest.approx(cents, abs=2)
    assert agreement > 0.5


def test_noise_and_nothing_have_no_tuning():
    assert estimate_tuning(np.zeros(RATE, np.float32), RATE) == (0.0, 0.0)
    assert estimate_tuning(np.zeros(1, np.float32), RATE) == (0.0, 0.0)
    assert estimate_tuning(noise(0.0).astype(np.float32), RATE)[1] < 0.2
