"""Sounds without a key, and songs that have one: `python benchmarks/songs/not_music.py --corpus corpus`.

Makes sounds without a key (noise, drums, speech, single pitches, scales without a centre) and music (scales, cadences,
pieces of a corpus), and asks `mt2 key` for their keys. `--fit` chooses the weights of `mt2_music.song.tonality` on
other sounds and the validation pieces, and prints them; the table is of test pieces. Speech needs espeak-ng. Writes
not_music.md.
"""

import argparse
import collections
import io
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

import mt2_music
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.options import DEFAULT_MODEL
from mt2_music.song.tonality import Tonality
from mt2_music.train.synth import Note, Score, play_soundfont
from mt2_music.train.synth.corpus import read_rows

RATE, SECONDS = 16000, 10.0
LENGTH = int(RATE * SECONDS)
TIME = np.arange(LENGTH) / RATE
TAILS = 0.01, 0.97  # where songs begin and other sounds end, when the weights are chosen
VOICES = ("en-gb", "en-us", "de", "fr", "es", "it", "ru", "sv", "pt", "nl", "en-gb+f2", "en-us+m3", "de+f4", "fr+f1")
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


@dataclass
class Maker:
    """Makes sounds of every kind, with choices of its own."""

    rng: np.random.Generator
    banks: list[Path]

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
        options = ["-v", str(self.rng.choice(VOICES)), "-s", str(self.rng.integers(120, 200))]
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


WITHOUT_KEY: dict[str, Callable[[Maker], np.ndarray]] = {
    "noise of five colours": Maker.noise, "noise that swells": Maker.wind, "drums": Maker.drums,
    "speech": Maker.speech, "a steady tone": Maker.tone, "one note": Maker.one_note, "octaves": Maker.octaves,
    "mains hum": Maker.hum, "clicks": Maker.clicks, "a siren": Maker.siren, "whole-tone scale": Maker.whole_tones,
    "chromatic scale": Maker.chromatic, "random notes": Maker.random_notes, "silence or dither": Maker.silence,
    "direct current": Maker.direct_current,
}  # fmt: skip
WITH_KEY: dict[str, Callable[[Maker], np.ndarray]] = {"scales": Maker.scale, "cadences": Maker.cadence}


def sounds(
    seed: int, number: int, banks: list[Path], corpus: Path, split: str
) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Yield kind, whether it has a key, and samples at 16 kHz, at levels from -3 to -25 dB."""
    kinds = {**WITHOUT_KEY, **WITH_KEY}
    for place, (kind, make) in enumerate(kinds.items()):
        for index in range(number):
            maker = Maker(np.random.default_rng([seed, place, index]), banks)
            samples = make(maker)
            if kind != "silence or dither":
                samples = samples / np.abs(samples).max() * 10 ** (-maker.rng.uniform(3, 25) / 20)
            yield kind, kind in WITH_KEY, samples.astype(np.float32)
    for row in read_rows(corpus):
        if row["split"] == split and row.get("key") and row["source"] != "note":
            samples, rate = soundfile.read(corpus / row["file"], dtype="float32")
            yield f"corpus: {row['source']}", True, resample(samples, rate, RATE)


def fit(tonalities: list[Tonality], tonal: list[bool]) -> tuple[list[float], float]:
    """Fit a logistic function that gives both kinds the same weight; put the bias half-way between both kinds."""
    values, labels = np.array(tonalities), np.array(tonal, float)
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
    seed, split = (0, "validation") if arguments.fit else (1, "test")
    found: dict[tuple[bool, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    tonalities, tonal = [], []
    for kind, has_key, samples in tqdm(
        sounds(seed, arguments.number, arguments.soundfonts, arguments.corpus, split), unit="sound", disable=None
    ):
        estimate = model.key(samples, RATE)
        found[has_key, kind][estimate.reason or "a key"] += 1
        if estimate.tonality is not None:
            tonalities.append(estimate.tonality)
            tonal.append(has_key)
    if arguments.fit:
        slopes, bias = fit(tonalities, tonal)
        print(f"WEIGHTS, BIAS = ({', '.join(f'{slope:.4g}' for slope in slopes)}), {bias:.4g}")
        odds = np.array(tonalities) @ slopes + bias
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
    lines += [f"Keys by {Path(arguments.model).name}. Written by benchmarks/songs/not_music.py."]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
