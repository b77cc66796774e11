"""What has no key gets none, with a reason; music has one, high or slow as it may be; what is out of tune too."""

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
SCALE = (0, 2, 4, 5, 7, 9, 11)
TUNE = (0, 0, 7, 7, 9, 9, 7, 7, 5, 5, 4, 4, 2, 2, 0, 0) * 2  # Ah ! vous dirai-je, maman
MINOR_TUNE = (57, 60, 64, 69, 68, 64, 65, 62, 64, 57)
CHURCH_BELL = (0.5, 1, 1.2, 1.5, 2, 2.66)  # ratios of its partials
GLOCKENSPIEL = (1, 2.76, 5.4)


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


def plain(chords, seconds, ratios=(1, 2, 3, 4, 5, 6), fading=2.0) -> np.ndarray:
    """Chords of tones with partials that fade, all as loud as the inverse of their ratios."""
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = np.exp(-fading * time) * np.minimum(1, time / 0.01) * np.minimum(1, (seconds - time) / 0.02)

    def tone(pitch):
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        return sum(np.sin(2 * np.pi * hertz * r * time) / r for r in ratios if hertz * r < RATE / 2) * envelope

    waveform = np.concatenate([sum(map(tone, chord)) for chord in chords])
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def high_music() -> dict[str, np.ndarray]:
    """Music without low notes."""
    tune = [(60 + step,) for step in TUNE]
    ladder = [0, 1, 2, 4, 3, 2, 1, 0, 4, 5, 4, 3, 2, 1, 1, 0] * 2
    voices = {
        name: [tuple(60 + 12 * (step // 7) + SCALE[step % 7] for step in (low, low + apart)) for low in ladder]
        for name, apart in (("thirds", 2), ("sixths", 5))
    }
    chords = [tuple(60 + step for step in chord[:3]) for chord in CADENCES["major"]] * 2

    def up(notes, semitones):
        return [tuple(pitch + semitones for pitch in chord) for chord in notes]

    return {
        **{f"a tune {n} semitones up": plain(up(tune, n), 0.4) for n in (12, 14, 18, 24, 27, 30)},
        **{f"{name} {n} semitones up": plain(up(voices[name], n), 0.4) for name in voices for n in (18, 24)},
        **{f"triads {n} semitones up": plain(up(chords, n), 0.6) for n in (24, 30)},
        **{f"a whistled tune {n} semitones up": plain(up(tune, n), 0.35, (1,), 0.0) for n in (19, 24)},
        "a glockenspiel": plain(up(tune, 20), 0.4, GLOCKENSPIEL, 5.0),
        "chords of a glockenspiel": plain(up(chords, 20), 0.6, GLOCKENSPIEL, 5.0),
        "a tune over a drone": plain(tune, 0.4) + 0.5 * plain([(36, 48)], 0.4 * len(tune), fading=0.0),
    }


def between_keys() -> dict[str, np.ndarray]:
    """Pitches that are no key's."""
    row = [0, 11, 3, 4, 8, 7, 9, 5, 6, 1, 2, 10]
    trichords = [tuple(48 + pitch for pitch in row[at : at + 3]) for at in range(0, 12, 3)]
    steps = {"five": [0, 1, 2, 3, 4, 5, 4, 3, 2, 1], "seven": [0, 1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1]}
    return {
        "two bells, a third apart": plain([(64,), (60,)] * 3, 2.0, CHURCH_BELL, 0.5),
        "two bells, a fourth apart": plain([(65.5,), (60.5,)] * 4, 1.5, CHURCH_BELL, 0.5),
        "five equal steps": plain([(60 + 12 / 5 * step,) for step in steps["five"] * 3], 0.4),
        "seven equal steps": plain([(60 + 12 / 7 * step,) for step in steps["seven"] * 2], 0.4),
        "a row in chords": plain(trichords * 5, 0.6, fading=1.0),
        "two horns": plain([(65.3, 69.1)], 8.0, fading=0.0),
        "a fifth": plain([(45, 52)], 8.0, fading=0.0),
    }


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


@pytest.mark.parametrize("name", high_music())
def test_high_music_has_a_key(model, name):
    assert model.key(high_music()[name], RATE).reason is None


@pytest.mark.parametrize("name", between_keys())
def test_pitches_that_are_no_key_s_have_none(model, name):
    estimate = model.key(between_keys()[name], RATE)
    assert estimate.key is None and estimate.reason != "silent"


@pytest.mark.parametrize("pause", [0.5, 1.0, 2.0, 3.0])
def test_silence_between_notes_changes_nothing(model, pause):
    scale = [60 + step for step in (*SCALE, 12)]
    chords = [tuple(57 + step for step in chord) for chord in CADENCES["minor"]] * 2
    for notes in ([(pitch,) for pitch in MINOR_TUNE], [(pitch,) for pitch in scale + scale[::-1]], chords):
        waveform = plain(notes, 1.0)
        silence = np.zeros(round(pause * RATE), np.float32)
        apart = np.concatenate(
            [part for start in range(0, len(waveform), RATE) for part in (waveform[start : start + RATE], silence)]
        )
        together, estimate = model.key(waveform, RATE), model.key(apart, RATE)
        assert estimate.key == together.key is not None
        assert estimate.tonality.log_odds == pytest.approx(together.tonality.log_odds, abs=3)


def test_notes_without_a_key_have_none_with_silence_between_them(model):
    waveform = plain([(60 + step,) for step in range(13)], 1.0)
    apart = np.concatenate([np.pad(note, (0, 2 * RATE)) for note in np.split(waveform, 13)])
    assert model.key(apart, RATE).reason == "no tonal centre"


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
