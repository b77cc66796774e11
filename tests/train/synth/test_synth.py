"""Composed songs and their audio: labels that hold, tones in tune, the same for the same seed."""

import shutil
from dataclasses import replace

import mir_eval
import numpy as np
import pytest

from mt2_music.music import QUALITIES, chord_tones, parse_key, signature, transpose_chord
from mt2_music.train.synth import (
    Beat,
    Note,
    Score,
    Segment,
    compose,
    draw_programs,
    find_soundfont,
    humanised,
    play_additive,
    play_soundfont,
)
from mt2_music.train.synth.arrange import accompany
from mt2_music.train.synth.effects import Effects, apply_effects, draw_effects
from mt2_music.train.synth.harmony import SCALES
from mt2_music.train.synth.render import PROGRAMS, families
from mt2_music.train.synth.score import merge
from support import RATE

needs_soundfont = pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")


def pieces(count, rich=True, seconds=30.0):
    for index in range(count):
        mode = ("major", "minor")[index // 12 % 2]
        yield compose(np.random.default_rng(index), seconds, index % 12, mode, rich)


@pytest.mark.parametrize("rich", [False, True])
def test_songs_stand_in_the_keys_they_are_labelled_with(rich):
    """In every key segment, the labelled scale holds more of the notes than any other by far."""
    own, others = [], []
    for score in pieces(48, rich):
        assert 20 < score.duration < 40
        for key in score.keys:
            tonic, mode = parse_key(key.label)
            notes = [n for n in score.notes if n.role != "drums" and key.start <= n.start < key.end]
            inside = [np.mean([(n.pitch - tonic - c) % 12 in SCALES[mode] for n in notes]) for c in range(12)]
            own.append(inside[0])
            others.append(max(inside[1:]))
    assert np.mean(own) > 0.9
    assert np.mean(np.array(own) > others) > 0.9


def test_plain_songs_keep_their_signature_and_rich_ones_modulate():
    assert all(len({signature(key.label) for key in score.keys}) == 1 for score in pieces(24, rich=False))
    counts = [len({signature(key.label) for key in score.keys}) for score in pieces(48)]
    assert 5 < sum(count > 1 for count in counts) < 30
    metres = {max(beat.position for beat in score.beats) for score in pieces(48)}
    assert {2, 3, 4, 5} <= metres


def test_chords_sound_while_they_are_labelled():
    """What the chord part plays belongs to the label, and the bass of an inversion lies below."""
    for score in pieces(24):
        for chord in score.chords:
            pitch_classes, bass = chord_tones(chord.label)
            played = [n for n in score.notes if chord.start - 1e-6 <= n.start < chord.end - 1e-6]
            assert {n.pitch % 12 for n in played if n.part == "chords"} <= set(pitch_classes)
            first = [n.pitch % 12 for n in played if n.part == "bass"][:1]
            assert first == [bass]


def test_chord_tones_agree_with_mir_eval():
    for quality in QUALITIES:
        for bass in ("", "/5", "/b3", "/b7"):
            label = f"Eb:{quality}{bass}"
            root, bitmap, bass_interval = mir_eval.chord.encode(label)
            pitch_classes, own_bass = chord_tones(label)
            assert pitch_classes[0] == root
            wanted = {(root + i) % 12 for i in np.flatnonzero(bitmap)}
            ninth = {(root + 2) % 12} if "9" in quality else set()  # which mir_eval leaves out
            # A foreign bass is no tone of the chord here, but mir_eval counts it.
            assert set(pitch_classes) - ninth | {own_bass} == wanted | {(root + bass_interval) % 12}
            assert own_bass == (root + bass_interval) % 12
    assert chord_tones("N") == ([], -1)
    for wrong in ("H:maj", "C:wide", "C:maj/x"):
        with pytest.raises(ValueError, match="chord|pitch class"):
            chord_tones(wrong)


def test_labels_follow_transposition_tempo_and_excerpt():
    score = next(pieces(1))
    up = score.transposed(3)
    assert all(
        (b.pitch - a.pitch) == (0 if a.role == "drums" else 3) for a, b in zip(score.notes, up.notes, strict=True)
    )
    assert [signature(key.label) for key in up.keys] == [(signature(key.label) + 3) % 12 for key in score.keys]
    for before, after in zip(score.chords, up.chords, strict=True):
        moved = {(pitch_class + 3) % 12 for pitch_class in chord_tones(before.label)[0]}
        assert set(chord_tones(after.label)[0]) == moved
    assert transpose_chord("N", 5) == "N"
    assert up.transposed(-3).chords == tuple(
        replace(chord, label=transpose_chord(chord.label, 0)) for chord in score.chords
    )
    slow = score.stretched(1.25)
    assert slow.tempo == pytest.approx(score.tempo / 1.25)
    part = score.excerpt(10.0, 5.0)
    assert all(0 <= note.start < 5 and note.end <= 5 for note in part.notes)
    assert part.chords[0].start == 0
    assert part.chords[-1].end == pytest.approx(5.0)
    at = next(chord for chord in score.chords if chord.start <= 12.0 < chord.end)
    assert next(chord for chord in part.chords if chord.start <= 2.0 < chord.end).label == at.label
    kept = [beat.time - 10 for beat in score.beats if 10 <= beat.time < 15]
    assert [beat.time for beat in part.beats] == pytest.approx(kept)


def test_segments_with_one_label_join():
    segments = (Segment(0, 1, "C"), Segment(1, 2, "C"), Segment(2, 2, "D"), Segment(3, 4, "C"))
    assert merge(segments) == (Segment(0, 2, "C"), Segment(3, 4, "C"))


def test_the_same_seed_gives_the_same_song():
    first, again, other = (compose(np.random.default_rng(seed), 10.0, 0, "major") for seed in (0, 0, 1))
    assert first == again
    assert first != other
    audio = [play_additive(first, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*audio)
    assert np.abs(audio[0]).max() <= 0.9


def test_an_accompaniment_needs_a_grid():
    with pytest.raises(ValueError, match="2 beats"):
        accompany(np.random.default_rng(0), (), (Beat(0.0, 1),))


def deviation_in_cents(audio, pitch):
    """Distance of the strongest partial among the first four from where it belongs, looked for within a semitone."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**18))
    cents = np.arange(-100.0, 100.5, 0.5)
    places = 440 * 2 ** ((pitch - 69) / 12) * np.arange(1, 5)[:, None] * 2 ** (cents / 1200)
    level = np.interp(places, np.arange(len(spectrum)) * RATE / 2**18, spectrum)
    return cents[np.unravel_index(level.argmax(), level.shape)[1]]


def sounds_an_octave_low(audio, pitch):
    """Whether partials lie halfway between those of the pitch, as strong as they."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**18))
    partials = 440 * 2 ** ((pitch - 69) / 12) * np.array([0.5, 1, 1.5, 2, 2.5])
    level = [spectrum[round(f * 0.99 / RATE * 2**18) : round(f * 1.01 / RATE * 2**18)].max() for f in partials]
    return max(level[0], level[2], level[4]) > max(level[1], level[3])


def test_the_octave_reaches_the_audio():
    low = play_additive(Score((Note(0.0, 1.5, 55, 90, "chords"),)), np.random.default_rng(0))
    assert sounds_an_octave_low(low[2000:20000], 67)
    assert not sounds_an_octave_low(low[2000:20000], 55)


@pytest.mark.parametrize("player", ["additive", pytest.param("soundfont", marks=needs_soundfont)])
def test_notes_are_in_tune(player):
    """At least 97 % of notes of every program we draw within 40 cents, and none of those labelled a semitone off."""
    cents, wrong, octave_low = [], [], []
    rng = np.random.default_rng(0)
    for role, program in [(role, program) for role, programs in PROGRAMS.items() for program in programs] * 2:
        pitch = int(rng.integers(36, 56) if role == "bass" else rng.integers(48, 80))
        score = Score((Note(0.0, 1.5, pitch, 90, role),))
        if player == "additive":
            audio = play_additive(score, rng)
        else:
            audio = play_soundfont(score, {role: program}, find_soundfont())
        cents.append(deviation_in_cents(audio[2000:20000], pitch))
        octave_low.append(program != 16 and sounds_an_octave_low(audio[2000:20000], pitch))
        wrong.append(deviation_in_cents(audio[2000:20000], pitch + 1))
    assert np.mean(np.abs(cents) < 40) >= 0.97
    assert np.mean(np.abs(wrong) < 40) < 0.1
    assert np.mean(octave_low) < 0.03


@needs_soundfont
def test_a_score_sounds_the_same_whatever_was_played_before():
    score, other = (humanised(score, np.random.default_rng(1)) for score in pieces(2, seconds=6.0))
    programs = draw_programs({note.part for note in (*score.notes, *other.notes)}, np.random.default_rng(0))
    first = play_soundfont(score, programs, find_soundfont(), seconds=6.0)
    play_soundfont(other, programs | {"melody": 48}, find_soundfont(), seconds=3.0)
    assert np.array_equal(play_soundfont(score, programs, find_soundfont(), seconds=6.0), first)
    assert len(first) == 6 * RATE


@needs_soundfont
def test_bad_soundfonts_and_programs_are_refused(tmp_path):
    score = Score((Note(0.0, 1.0, 60, 90, "melody"),))
    (tmp_path / "bad.sf2").write_bytes(b"no bank")
    with pytest.raises(ValueError, match="bad.sf2"):
        play_soundfont(score, {"melody": 0}, tmp_path / "bad.sf2")
    with pytest.raises(ValueError, match="melody"):
        play_soundfont(score, {"chords": 0}, shutil.copy(find_soundfont(), tmp_path / "good.sf2"))


def test_families_of_programs():
    assert families({"melody": 0, "bass": 33, "drums": 8, "chords": 1}) == ["bass", "drums", "piano"]


def test_effects_move_no_onset_and_keep_their_promises():
    """An impulse stays the largest sample at its place, whatever is drawn, and nothing is left above a low pass."""
    impulse = np.zeros(RATE, np.float32)
    impulse[4000] = 1
    for seed in range(40):
        drawn = replace(draw_effects(np.random.default_rng(seed)), noise_db=None)
        audio = apply_effects(impulse, drawn, np.random.default_rng(seed), RATE)
        assert np.abs(audio).argmax() == 4000
        assert np.abs(audio).max() == pytest.approx(drawn.peak, rel=1e-4)
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    settings = Effects(reverb_seconds=0.5, low_pass_hz=4000.0)
    results = [apply_effects(noise, settings, np.random.default_rng(1), RATE) for _ in range(2)]
    assert np.array_equal(*results)
    spectrum = np.abs(np.fft.rfft(results[0] * np.hanning(RATE)))
    assert spectrum[4400:].max() < 1e-2 * spectrum[:3800].mean()
    plain = apply_effects(noise, Effects(peak=1.0), np.random.default_rng(1), RATE)
    assert np.allclose(plain, noise / np.abs(noise).max(), atol=1e-5)


def test_humanising_keeps_labels_and_stays_close():
    score = next(pieces(1))
    played = humanised(score, np.random.default_rng(0))
    assert (played.keys, played.chords, played.beats) == (score.keys, score.chords, score.beats)
    assert len(played.notes) == len(score.notes)
    starts = sorted(note.start for note in score.notes)
    assert np.abs(np.array(sorted(note.start for note in played.notes)) - starts).max() < 0.05
    assert all(1 <= note.velocity <= 127 for note in played.notes)
