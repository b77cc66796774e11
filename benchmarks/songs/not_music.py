"""Sounds without a key, and songs that have one: `python benchmarks/songs/not_music.py --corpus corpus`.

Makes sounds without a key (noise, drums, speech, single pitches, bells, scales without a centre) and music (scales,
cadences, high and sparse pieces, pieces of a corpus), and asks `mt2 key` for their keys. `--fit` chooses the weights
of `mt2_music.song.tonality` on other sounds and the validation pieces, and prints them; the table is of test pieces.
Some kinds of sounds are only in one of both, so that the table also says what becomes of kinds that nothing was chosen
on. Speech needs espeak-ng. Writes not_music.md.
"""

import argparse
import collections
import io
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

import mt2_music
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.options import DEFAULT_MODEL
from mt2_music.song.tonality import Tonality
from mt2_music.train.synth import Note, Score, compose, play_soundfont
from mt2_music.train.synth.corpus import read_rows

RATE, SECONDS = 16000, 10.0
LENGTH = int(RATE * SECONDS)
TIME = np.arange(LENGTH) / RATE
TAILS = 0.01, 0.97  # where songs begin and other sounds end, when the weights are chosen
VOICES = ("en-gb", "en-us", "de", "fr", "es", "it", "ru", "sv", "pt", "nl", "en-gb+f2", "en-us+m3", "de+f4", "fr+f1")
OTHER_VOICES = {"fit": ("cmn", "th", "ja"), "test": ("yue", "vi", "ko")}  # most of them speak in tones
TEXT = (
    "The museum opens at nine, and closes an hour before sunset on every day but Monday.",
    "Our train leaves from the second platform, and stops at all stations to the coast.",
    "He put the letters in the drawer, locked it, and forgot where he had laid the key.",
    "Rain will reach the western hills by noon, with some sunshine towards the evening.",
    "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.",
)
INSTRUMENTS = (0, 4, 11, 16, 19, 24, 40, 48, 52, 56, 65, 68, 73, 80)
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CADENCES = {
    "major": ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7), (9, 12, 16), (2, 5, 9), (7, 11, 14, 17), (0, 4, 7)),
    "minor": ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7), (8, 12, 15), (5, 8, 12), (7, 11, 14, 17), (0, 3, 7)),
}
DRONES = (16, 19, 20, 48, 52, 89, 95, 109)  # organs, strings, voices, pads, a bagpipe
HIGH_INSTRUMENTS = {"fit": (9, 73), "test": (8, 10, 72, 74, 78, 79)}  # glockenspiel and flute; celesta to ocarina
TUNES = (  # old ones: semitones above the tonic and beats
    "0 1 0 1 7 1 7 1 9 1 9 1 7 2 5 1 5 1 4 1 4 1 2 1 2 1 0 2",
    "0 1 2 1 4 1 0 1 0 1 2 1 4 1 0 1 4 1 5 1 7 2 4 1 5 1 7 2 7 .5 9 .5 7 .5 5 .5 4 1 0 1 0 1 -5 1 0 2",
    "4 1 4 1 5 1 7 1 7 1 5 1 4 1 2 1 0 1 0 1 2 1 4 1 2 1.5 0 .5 0 2",
    "0 1 0 1 0 1 2 1 4 2 2 2 0 1 4 1 2 1 2 1 0 2",
    "0 1 3 2 5 1 7 1.5 8 .5 7 1 5 2 2 1 -2 1.5 0 .5 2 1 3 2 0 1 0 1.5 -1 .5 0 1 2 2 -1 1 -5 2",
    "0 1 0 1 7 1 7 1 5 1 3 1 2 1 0 1 -2 1 0 1 2 1 3 1 5 1 7 2",
    "7 1 2 .5 3 .5 5 1 3 .5 2 .5 0 1 0 .5 3 .5 7 1 5 .5 3 .5 2 1.5 3 .5 5 1 7 1 3 1 0 1 0 2",
    "0 1 0 1 2 1 -1 1.5 0 .5 2 1 4 1 4 1 5 1 4 1.5 2 .5 0 1 2 1 0 1 -1 1 0 2",
)  # fmt: skip
# Ratios of the partials of bells: of a church bell, and of a tube or a bar.
BELLS = {"fit": ((0.5, 1, 1.2, 1.5, 2, 2.66),), "test": ((0.5, 1, 1.19, 1.5, 2, 2.52, 3.01), (1, 2.76, 5.4))}


@dataclass
class Maker:
    """Makes sounds of every kind, with choices of its own."""

    rng: np.random.Generator
    banks: list[Path]
    part: str

    def bank(self) -> Path:
        """Draw a SoundFont."""
        return self.banks[self.rng.integers(len(self.banks))]

    def oscillator(self, hertz: float, length: int = LENGTH, kind: str | None = None) -> np.ndarray:
        """Play a steady tone."""
        kind = kind or str(self.rng.choice(["sine", "sawtooth", "square", "six partials"]))
        highest = max(1, int(7500 // hertz))
        numbers = {
            "sine": range(1, 2),
            "sawtooth": range(1, highest + 1),
            "square": range(1, highest + 1, 2),
            "six partials": range(1, min(highest, 6) + 1),
        }[kind]
        return sum(np.sin(2 * np.pi * hertz * number * np.arange(length) / RATE) / number for number in numbers)

    def notes(self, chords: list[tuple[int, ...]], seconds: float) -> np.ndarray:
        """Play chords, or single notes, one after the other: with plain tones or an instrument."""
        if self.rng.random() < 0.4:
            length = int(seconds * RATE)
            decay = np.exp(-np.linspace(0, self.rng.uniform(0, 4), length))
            envelope = decay * np.minimum(1, np.arange(length) / 160) * np.minimum(1, np.arange(length, 0, -1) / 300)
            kind = str(self.rng.choice(["sine", "sawtooth", "square", "six partials"]))
            tones = [[self.oscillator(440 * 2 ** ((p - 69) / 12), length, kind) for p in chord] for chord in chords]
            return np.concatenate([np.sum(chord, 0) * envelope for chord in tones])
        score = Score(
            tuple(
                Note(index * seconds, (index + 0.98) * seconds, int(pitch), 90, "melody")
                for index, chord in enumerate(chords)
                for pitch in chord
            )
        )
        return play_soundfont(score, {"melody": int(self.rng.choice(INSTRUMENTS))}, self.bank(), RATE)

    def melody(self, pitches: list[int], seconds: float) -> np.ndarray:
        """Play single notes."""
        return self.notes([(pitch,) for pitch in pitches], seconds)

    def plain(self, score: Score, kinds: list[str], fading: float = 0.0) -> np.ndarray:
        """Play a score with plain tones of one kind."""
        kind = str(self.rng.choice(kinds))
        samples = np.zeros(int(RATE * (score.duration + 0.1)))
        for note in score.notes:
            time = np.arange(int((note.end - note.start) * RATE)) / RATE
            envelope = np.minimum(1, np.minimum(time, time[::-1]) / 0.02) * np.exp(-fading * time)
            start = int(note.start * RATE)
            tone = self.oscillator(440 * 2 ** ((note.pitch - 69) / 12), len(time), kind)
            samples[start : start + len(time)] += tone * envelope
        return samples

    def high(self, score: Score) -> np.ndarray:
        """Play a score with plain tones, sines or an instrument of high pitch."""
        if self.rng.random() < 0.4:
            program = int(self.rng.choice(HIGH_INSTRUMENTS[self.part]))
            return play_soundfont(score, {"melody": program, "chords": program}, self.bank(), RATE)
        samples = self.plain(score, ["sine", "sine", "six partials", "square"], self.rng.uniform(0, 6))
        if self.part == "test":  # breath, as of somebody who whistles
            level = float(self.rng.choice([0, 0, 0.003, 0.01]))
            samples += level * np.abs(samples).max() * self.rng.standard_normal(len(samples))
        return samples

    def apart(self, samples: np.ndarray, seconds: float) -> np.ndarray:
        """Put silence between stretches of sound."""
        silence = np.zeros(int(self.rng.uniform(0.5, 3) * RATE))
        size = int(seconds * RATE)
        return np.concatenate(
            [part for start in range(0, len(samples), size) for part in (samples[start : start + size], silence)]
        )

    def noise(self) -> np.ndarray:
        """White, pink, brown, blue or violet noise."""
        frequency = np.fft.rfftfreq(LENGTH, 1 / RATE)
        frequency[0] = frequency[1]
        slope = self.rng.choice([0.0, -0.5, -1.0, 0.5, 1.0])
        return np.fft.irfft(np.fft.rfft(self.rng.standard_normal(LENGTH)) * frequency**slope, LENGTH)

    def wind(self) -> np.ndarray:
        """Noise that swells."""
        return self.noise() * (1 + 0.8 * np.sin(2 * np.pi * self.rng.uniform(0.1, 3) * TIME + self.rng.uniform(0, 6)))

    def drums(self) -> np.ndarray:
        """Play a pattern on a drum kit."""
        step = self.rng.uniform(0.12, 0.3)
        shares = {36: 0.4, 38: 0.3, 42: 0.8, 46: 0.2, int(self.rng.integers(41, 60)): 0.25}
        pattern = {pitch: self.rng.random(8) < share for pitch, share in shares.items()}
        notes = []
        for index in range(int(SECONDS / step)):
            for pitch, hits in pattern.items():
                if hits[index % 8] or (pitch == 36 and index % 8 == 0):
                    velocity = int(self.rng.integers(60, 120))
                    notes.append(Note(index * step, (index + 1) * step, pitch, velocity, "drums"))
        kit = int(self.rng.choice([0, 0, 8, 16, 25]))
        return play_soundfont(Score(tuple(notes)), {"drums": kit}, self.bank(), RATE)

    def speech(self) -> np.ndarray:
        """Speak three sentences."""
        voices = OTHER_VOICES[self.part] if self.rng.random() < 0.25 else VOICES
        options = ["-v", str(self.rng.choice(voices)), "-s", str(self.rng.integers(120, 200))]
        options += ["-p", str(self.rng.integers(20, 80)), "--stdout", " ".join(self.rng.permutation(TEXT)[:3])]
        spoken = subprocess.run(["espeak-ng", *options], check=True, capture_output=True).stdout
        samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
        return resample(samples[: int(12 * rate)], rate, RATE)

    def tone(self) -> np.ndarray:
        """One steady tone, perhaps with a tremolo."""
        tremolo = 1 + 0.5 * np.sin(2 * np.pi * self.rng.uniform(0.2, 5) * TIME) * (self.rng.random() < 0.5)
        return self.oscillator(440 * 2 ** ((self.rng.uniform(36, 90) - 69) / 12)) * tremolo

    def one_note(self) -> np.ndarray:
        """One note again and again."""
        return self.melody([int(self.rng.integers(40, 85))] * 20, 0.5)

    def octaves(self) -> np.ndarray:
        """One pitch class in three octaves."""
        lowest = int(self.rng.integers(36, 60))
        return self.melody([lowest + 12 * int(self.rng.integers(0, 3)) for _ in range(20)], 0.5)

    def hum(self) -> np.ndarray:
        """Mains hum with harmonics."""
        hertz = self.rng.choice([50, 60, 100, 120])
        numbers = range(1, int(self.rng.integers(2, 9)))
        waves = [self.rng.random() * np.sin(2 * np.pi * hertz * k * TIME + self.rng.uniform(0, 6)) for k in numbers]
        return np.sum(waves, 0) + 0.01 * self.rng.standard_normal(LENGTH)

    def clicks(self) -> np.ndarray:
        """Clicks at one distance."""
        samples = np.zeros(LENGTH)
        samples[:: int(RATE * self.rng.uniform(0.1, 1))] = 1
        return samples

    def siren(self) -> np.ndarray:
        """A tone that glides up and down."""
        octaves = np.sin(2 * np.pi * self.rng.uniform(0.1, 0.6) * TIME) * self.rng.uniform(0.3, 1)
        return np.sin(2 * np.pi * np.cumsum(600 * 2**octaves) / RATE)

    def _scale(self, step: int) -> np.ndarray:
        lowest, length = int(self.rng.integers(45, 65)), int(self.rng.integers(6, 14)) * (2 if step == 1 else 1)
        up = [lowest + step * index for index in range(length)]
        seconds = float(self.rng.choice([0.2, 0.3, 0.5]))
        return self.melody(([*up, *up[::-1]] * 20)[: int(SECONDS / seconds)], seconds)

    def whole_tones(self) -> np.ndarray:
        """The whole-tone scale up and down."""
        return self._scale(2)

    def chromatic(self) -> np.ndarray:
        """The chromatic scale up and down."""
        return self._scale(1)

    def random_notes(self) -> np.ndarray:
        """Notes drawn from all twelve pitch classes."""
        return self.melody([int(pitch) for pitch in self.rng.integers(48, 84, 40)], 0.25)

    def random_notes_apart(self) -> np.ndarray:
        """Notes drawn from all twelve pitch classes, with silence between them."""
        return self.apart(self.melody([int(pitch) for pitch in self.rng.integers(48, 84, 16)], 0.6), 0.6)

    def bells(self) -> np.ndarray:
        """Two or, to test, three bells in turn."""
        kind = BELLS[self.part]
        ratios = kind[self.rng.integers(len(kind))]
        seconds = self.rng.uniform(0.7, 2)
        time = np.arange(int(seconds * RATE)) / RATE
        pitches = self.rng.uniform(55, 77, 2 if self.part == "fit" else 3)
        pitches = pitches.round() if self.rng.random() < 0.5 else pitches  # in tune with each other, or not
        fading = self.rng.uniform(0.2, 2)
        bells = [
            sum(np.sin(2 * np.pi * hertz * r * time) * np.exp(-fading * r * time) for r in ratios)
            for hertz in 440 * 2 ** ((pitches - 69) / 12)
        ]
        return np.concatenate(bells * int(np.ceil(SECONDS / seconds / len(bells))))

    def steady_tones(self) -> np.ndarray:
        """Two or, to test, three steady tones at once, as of horns, engines and drones."""
        pitches = self.rng.uniform(36, 76, 2 if self.part == "fit" else 3)
        pitches = pitches.round() if self.rng.random() < 0.5 else pitches
        return sum(self.rng.uniform(0.3, 1) * self.oscillator(440 * 2 ** ((pitch - 69) / 12)) for pitch in pitches)

    def chords_of_fourths(self) -> np.ndarray:
        """Chords of stacked fourths that move at will."""
        return self.notes([tuple(int(root) + 5 * k for k in range(4)) for root in self.rng.integers(45, 62, 12)], 0.8)

    def stacked_fourths(self) -> np.ndarray:
        """Five or six stacked fourths, one note after the other: the pitches of a scale of five notes, or of six."""
        lowest, number = int(self.rng.integers(40, 55)), int(self.rng.integers(5, 7))
        return self.melody(([lowest + 5 * k for k in range(number)] * 10)[: int(SECONDS / 0.4)], 0.4)

    def equal_steps(self) -> np.ndarray:
        """An octave of seven or nine equal steps, up and down; to test, of five or eight."""
        steps = int(self.rng.choice([7, 9] if self.part == "fit" else [5, 8]))
        lowest, seconds = self.rng.uniform(50, 75), float(self.rng.choice([0.3, 0.5]))
        up = [lowest + 12 / steps * k for k in range(steps + 1)]
        kind = str(self.rng.choice(["sine", "six partials", "square"]))
        time = np.arange(int(seconds * RATE))
        envelope = np.minimum(1, np.minimum(time, time[::-1]) / 200) * np.exp(-self.rng.uniform(0, 4) * time / RATE)
        pitches = ([*up, *up[-2:0:-1]] * 9)[: int(SECONDS / seconds)]
        return np.concatenate(
            [self.oscillator(440 * 2 ** ((p - 69) / 12), len(time), kind) * envelope for p in pitches]
        )

    def row(self) -> np.ndarray:
        """A row of twelve notes in chords of three; to test, in chords of four and with an answer upside down."""
        row = [int(pitch) for pitch in self.rng.permutation(12)]
        if self.part == "test":
            row += [-pitch % 12 for pitch in row]
        size = 3 if self.part == "fit" else 4
        chords = [
            tuple(48 + p + 12 * (k % 2) for k, p in enumerate(row[at : at + size])) for at in range(0, len(row), size)
        ]
        return self.notes((chords * 5)[: int(SECONDS / 0.6)], 0.6)

    def silence(self) -> np.ndarray:
        """Nothing, or dither."""
        return self.rng.choice([0.0, 1e-5, 2e-5]) * self.rng.standard_normal(LENGTH)

    def direct_current(self) -> np.ndarray:
        """The same value all the time."""
        return np.full(LENGTH, self.rng.uniform(0.05, 0.5))

    def scale(self) -> np.ndarray:
        """A major or minor scale up and down."""
        tonic = 48 + int(self.rng.integers(12))
        up = [tonic + step for step in [*SCALES[str(self.rng.choice(["major", "minor"]))], 12]]
        return self.melody(([*up, *up[::-1]] * 3)[: int(self.rng.choice([20, 32, 40]))], 0.3)

    def cadence(self) -> np.ndarray:
        """Chords of a key, with a bass."""
        tonic = 48 + int(self.rng.integers(12))
        chords = CADENCES[str(self.rng.choice(["major", "minor"]))]
        return self.notes(
            [(tonic - 12 + chord[0], *(tonic + 12 + step for step in chord)) for chord in chords] * 2, 0.8
        )

    def high_piece(self) -> np.ndarray:
        """A piece without its bass, one or two octaves up."""
        score = compose(self.rng, SECONDS, int(self.rng.integers(12)), str(self.rng.choice(["major", "minor"])))
        roles = [("melody",), ("melody", "chords")][self.rng.integers(2)]
        up = 12 * int(self.rng.integers(1, 3))
        notes = [replace(note, pitch=note.pitch + up) for note in score.notes if note.role in roles]
        return self.high(Score(tuple(note for note in notes if note.end < SECONDS)))

    def _tune(self, down: int = 0) -> tuple[Score, int]:
        """Draw a tune and its tonic, an octave and more above middle C, or lower."""
        values = [float(value) for value in TUNES[self.rng.integers(len(TUNES))].split()] * 2
        beat, tonic, now, notes = self.rng.uniform(0.3, 0.5), int(self.rng.integers(72, 92)) - down, 0.0, []
        for step, beats in zip(values[::2], values[1::2], strict=True):
            notes.append(Note(now, now + 0.95 * beats * beat, tonic + int(step), 90, "melody"))
            now += beats * beat
        return Score(tuple(notes)), tonic

    def high_tune(self) -> np.ndarray:
        """An old tune, one to three octaves above middle C."""
        return self.high(self._tune()[0])

    def _over_drone(self, melody: Score, tonic: int) -> np.ndarray:
        """Play a melody and, as loud or louder, its tonic and perhaps the fifth all the time."""
        low, end = tonic % 12 + int(self.rng.choice([36, 48])), melody.duration
        pitches = (low, low + 7, low + 12)[: self.rng.integers(1, 4)]
        drone = Score(tuple(Note(0.0, end, pitch, 90, "chords") for pitch in pitches))
        if self.rng.random() < 0.5:
            programs = {"melody": int(self.rng.choice(INSTRUMENTS)), "chords": int(self.rng.choice(DRONES))}
            played = [play_soundfont(score, programs, self.bank(), RATE) for score in (melody, drone)]
        else:
            played = [self.plain(score, ["sine", "six partials", "sawtooth"]) for score in (melody, drone)]
        melodic, held = (samples / np.sqrt((samples**2).mean()) for samples in played)
        length = min(len(melodic), len(held))
        return melodic[:length] + self.rng.uniform(0.5, 3) * held[:length]

    def piece_over_drone(self) -> np.ndarray:
        """The melody of a piece over its tonic."""
        tonic, mode = int(self.rng.integers(12)), str(self.rng.choice(["major", "minor"]))
        notes = [n for n in compose(self.rng, SECONDS, tonic, mode).notes if n.role == "melody" and n.end < SECONDS]
        return self._over_drone(Score(tuple(notes)), tonic)

    def tune_over_drone(self) -> np.ndarray:
        """An old tune at its usual pitch over its tonic."""
        tune, tonic = self._tune(12)
        return self._over_drone(tune, tonic)

    def tune_apart(self) -> np.ndarray:
        """An old tune at its usual pitch, with silence after every note."""
        seconds = self.rng.uniform(0.6, 1)
        pitches = [note.pitch for note in self._tune(20)[0].notes[:16]]
        return self.apart(self.melody(pitches, seconds), seconds)

    def high_voices(self) -> np.ndarray:
        """Two voices in thirds or sixths, one or two octaves up."""
        scale = SCALES[str(self.rng.choice(["major", "minor"]))]
        tonic, distance = int(self.rng.integers(72, 88)), int(self.rng.choice([2, 5]))
        steps = [0, *np.clip(np.cumsum(self.rng.choice([-2, -1, 1, 2], 22)), -2, 7), 1, 0]
        notes = [
            Note(0.4 * index, 0.4 * index + 0.38, tonic + 12 * (step // 7) + scale[step % 7], 90, "melody")
            for index, low in enumerate(steps)
            for step in (int(low), int(low) + distance)
        ]
        return self.high(Score(tuple(notes)))

    def high_triads(self) -> np.ndarray:
        """Chords of a key without a bass, one or two octaves up."""
        tonic, chords = int(self.rng.integers(72, 92)), CADENCES[str(self.rng.choice(["major", "minor"]))]
        notes = [
            Note(0.6 * index, 0.6 * index + 0.58, tonic + step, 90, "chords")
            for index, chord in enumerate(chords * 2)
            for step in chord
        ]
        return self.high(Score(tuple(notes)))

    def cadence_apart(self) -> np.ndarray:
        """Notes of the chords of a key, with silence after every one."""
        tonic, seconds = 48 + int(self.rng.integers(12)), self.rng.uniform(0.6, 1)
        chords = CADENCES[str(self.rng.choice(["major", "minor"]))]
        pitches = [tonic + step for chord in chords for step in self.rng.permutation(chord)[:2]]
        return self.apart(self.melody(pitches, seconds), seconds)


Make = Callable[[Maker], np.ndarray]
WITHOUT_KEY: dict[str, Make] = {
    "noise of five colours": Maker.noise, "noise that swells": Maker.wind, "drums": Maker.drums,
    "speech": Maker.speech, "a steady tone": Maker.tone, "one note": Maker.one_note, "octaves": Maker.octaves,
    "mains hum": Maker.hum, "clicks": Maker.clicks, "a siren": Maker.siren, "whole-tone scale": Maker.whole_tones,
    "chromatic scale": Maker.chromatic, "random notes": Maker.random_notes, "silence or dither": Maker.silence,
    "direct current": Maker.direct_current,
}  # fmt: skip
WITH_KEY: dict[str, Make] = {"scales": Maker.scale, "cadences": Maker.cadence}
# Of these, the weights are chosen on other kinds, or sounds made in other ways, than those in the table.
OTHERS_WITHOUT_KEY: dict[str, dict[str, Make]] = {
    "fit": {"two bells": Maker.bells, "seven or nine equal steps": Maker.equal_steps},
    "test": {
        "three bells": Maker.bells, "five or eight equal steps": Maker.equal_steps,
        "chords of fourths": Maker.chords_of_fourths, "stacked fourths": Maker.stacked_fourths,
    },
}  # fmt: skip
IN_BOTH: dict[str, Make] = {
    "a row in chords": Maker.row, "random notes apart": Maker.random_notes_apart, "steady tones": Maker.steady_tones,
}  # fmt: skip
OTHERS_WITH_KEY: dict[str, dict[str, Make]] = {
    "fit": {
        "high pieces": Maker.high_piece, "cadences, notes apart": Maker.cadence_apart,
        "melodies over a drone": Maker.piece_over_drone,
    },
    "test": {
        "high tunes": Maker.high_tune, "high thirds and sixths": Maker.high_voices, "high triads": Maker.high_triads,
        "tunes, notes apart": Maker.tune_apart, "tunes over a drone": Maker.tune_over_drone,
    },
}  # fmt: skip


def _sounding(make: Make, maker: Maker) -> np.ndarray:
    """Make a sound anew while it is silent: the bank that was drawn may lack the instrument, or its high notes."""
    for _ in range(50):
        samples = make(maker)
        if samples.any():
            return samples
    raise ValueError("the banks of --soundfonts lack instruments: what they play stays silent")


def sounds(part: str, number: int, banks: list[Path], corpus: Path) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Yield kind, whether it has a key, and samples at 16 kHz and -3 to -25 dB, to "fit" or to "test"."""
    seed, split = {"fit": (0, "validation"), "test": (1, "test")}[part]
    with_key = {**WITH_KEY, **OTHERS_WITH_KEY[part]}
    kinds = {**WITHOUT_KEY, **WITH_KEY, **OTHERS_WITHOUT_KEY[part], **IN_BOTH, **OTHERS_WITH_KEY[part]}
    for place, (kind, make) in enumerate(kinds.items()):
        for index in range(number):
            maker = Maker(np.random.default_rng([seed, place, index]), banks, part)
            if kind == "silence or dither":
                samples = make(maker)
            else:
                samples = _sounding(make, maker)
                samples = samples / np.abs(samples).max() * 10 ** (-maker.rng.uniform(3, 25) / 20)
            yield kind, kind in with_key, samples.astype(np.float32)
    for row in read_rows(corpus):
        if row["split"] == split and row.get("key") and row["source"] != "note":
            samples, rate = soundfile.read(corpus / row["file"], dtype="float32")
            yield f"corpus: {row['source']}", True, resample(samples, rate, RATE)


def fit(tonalities: list[Tonality], tonal: list[bool]) -> tuple[list[float], float]:
    """Fit a logistic function that gives both kinds the same weight; put the bias half-way between both kinds."""
    values, labels = np.array([tonality.evidence for tonality in tonalities]), np.array(tonal, float)
    mean, deviation = values.mean(0), values.std(0)
    inputs = np.c_[(values - mean) / deviation, np.ones(len(values))]
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    penalty = 1e-2 * np.eye(inputs.shape[1])
    theta = np.zeros(inputs.shape[1])
    for _ in range(200):  # Newton
        odds = 1 / (1 + np.exp(-inputs @ theta))
        gradient = inputs.T @ (weights * (odds - labels)) + penalty @ theta
        curvature = (inputs.T * (weights * odds * (1 - odds))) @ inputs + penalty
        theta -= np.linalg.solve(curvature, gradient)
    slopes = theta[:-1] / deviation
    odds = values @ slopes
    lowest, highest = np.quantile(odds[labels == 1], TAILS[0]), np.quantile(odds[labels == 0], TAILS[1])
    return slopes.tolist(), -float(lowest + highest) / 2


def main() -> None:
    """Make the sounds, name their keys, and write a table; or choose the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder, Hub name or short name")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of benchmarks/probes/baselines.sh")
    parser.add_argument("--soundfonts", type=Path, nargs="+", required=True, help="banks to play with")
    parser.add_argument("--number", type=int, default=40, help="sounds of every kind (default: %(default)s)")
    parser.add_argument("--fit", action="store_true", help="choose the weights on validation, and print them")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    model = mt2_music.load(arguments.model)
    part = "fit" if arguments.fit else "test"
    found: dict[tuple[bool, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    tonalities, tonal = [], []
    for kind, has_key, samples in tqdm(
        sounds(part, arguments.number, arguments.soundfonts, arguments.corpus), unit="sound", disable=None
    ):
        estimate = model.key(samples, RATE)
        found[has_key, kind][estimate.reason or "a key"] += 1
        if estimate.tonality is not None:
            tonalities.append(estimate.tonality)
            tonal.append(has_key)
    if arguments.fit:
        slopes, bias = fit(tonalities, tonal)
        print(f"WEIGHTS, BIAS = ({', '.join(f'{slope:.4g}' for slope in slopes)}), {bias:.4g}")
        odds = np.array([tonality.evidence for tonality in tonalities]) @ slopes + bias
        lost, given = (odds[np.array(tonal)] < 0).mean(), (odds[~np.array(tonal)] >= 0).mean()
        print(f"on these, {lost:.1%} of the songs lose their key, and {given:.1%} of the other sounds are given one")
        return
    reasons = ["silent", "no pitch", "one pitch only", "no tonal centre", "a key"]
    lines = [f"| sound | number | {' | '.join(reasons)} | wrong |", "|---|---:|" + "---:|" * (len(reasons) + 1)]
    totals = {True: [0, 0], False: [0, 0]}
    for (has_key, kind), counts in found.items():
        wrong = counts.total() - counts["a key"] if has_key else counts["a key"]
        totals[has_key][0] += wrong
        totals[has_key][1] += counts.total()
        cells = " | ".join(str(counts[reason] or "") for reason in reasons)
        lines.append(f"| {kind} | {counts.total()} | {cells} | {wrong / counts.total():.1%} |")
    summary = [f"{totals[kind][0]} of {totals[kind][1]}" for kind in (False, True)]
    lines += ["", f"Sounds without a key that are given one: {summary[0]}. Songs that lose theirs: {summary[1]}."]
    lines += [
        "The pitches of stacked fourths are those of a scale of five or six notes: they are a key's as much as not."
    ]
    lines += [f"Keys by {Path(arguments.model).name}. Written by benchmarks/songs/not_music.py."]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
