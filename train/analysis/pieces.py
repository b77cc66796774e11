"""What the frame head learns from: pieces of a rendered corpus, also in other keys, and sounds without a chord."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mt2_music.music import (
    KEY_LABELS,
    NO_CHORD,
    SEVENTH_LABELS,
    TRIAD_LABELS,
    key_name,
    parse_key,
    seventh_of,
    transpose_chord,
    transpose_key,
    triad_of,
)
from mt2_music.song.analysis import TEMPI
from mt2_music.storage import atomic_path
from mt2_music.train.probing.clips import Clip
from mt2_music.train.synth import compose, draw_programs, find_soundfont, humanised, play_additive, play_soundfont
from mt2_music.train.synth.arrange import accompany
from mt2_music.train.synth.effects import apply_effects, draw_effects
from mt2_music.train.synth.render import DRUMS
from mt2_music.train.synth.score import in_order

SAMPLING_RATE = 16000
UNKNOWN = -1
# A training piece is also shown pitched up or down, by some of these semitones.
TRANSPOSITIONS, VIEWS_PER_PIECE = tuple(shift for shift in range(-6, 7) if shift), 1
NUM_DRUMS, NUM_NOISES = 120, 40
DRUMS_SECONDS, NOISE_SECONDS = 20.0, 10.0
NEIGHBOUR = 0.5  # target of the frames beside that of a beat


@dataclass(frozen=True)
class Piece:
    """A sound with what is known of it over time.

    Args:
        clip: its file; the label is empty.
        row: "chords", "keys" and "beats", as in a row of a corpus; an empty list says that they are not known.
        transposition: semitones that it is shown higher.
        has_beats: whether "beats" is known; noise is known to have none.
    """

    clip: Clip
    row: dict[str, Any]
    transposition: int = 0
    has_beats: bool = True

    def targets(self, num_frames: int, frame_rate: float) -> dict[str, np.ndarray]:
        """Return what is right in every frame.

        Returns:
            "chord", "seventh", "key" and "tempo": index of the label, (T,), -1 where it is not known; "beat":
            probability of a beat and of a downbeat, (T, 2), -1 where they are not known.
        """
        times = np.arange(num_frames) / frame_rate
        classes = {name: np.full(num_frames, UNKNOWN) for name in ("chord", "seventh", "key", "tempo")}
        for chord in self.row["chords"]:
            inside = (times >= chord["start"]) & (times < chord["end"])
            label = transpose_chord(chord["label"], self.transposition)
            for name, found, labels in (
                ("chord", triad_of(label), TRIAD_LABELS), ("seventh", seventh_of(label), SEVENTH_LABELS)
            ):  # fmt: skip
                classes[name][inside] = UNKNOWN if found is None else labels.index(found)
        for key in self.row["keys"]:
            label = transpose_key(key_name(*parse_key(key["label"])), self.transposition)
            classes["key"][(times >= key["start"]) & (times < key["end"])] = KEY_LABELS.index(label)
        for beat, after in pairwise(self.row["beats"]):
            tempo = 60 / max(after["time"] - beat["time"], 1e-3)
            inside = (times >= beat["time"]) & (times < after["time"])
            if TEMPI[0] / 1.03 < tempo < TEMPI[-1] * 1.03:
                classes["tempo"][inside] = int(abs(np.log(np.array(TEMPI) / tempo)).argmin())
        beats = np.full((num_frames, 2), 0.0 if self.has_beats else float(UNKNOWN), np.float32)
        for beat in self.row["beats"]:
            frame = round(beat["time"] * frame_rate)
            for column in (0, 1) if beat["position"] == 1 else (0,):
                for place, value in ((frame - 1, NEIGHBOUR), (frame + 1, NEIGHBOUR), (frame, 1.0)):
                    if 0 <= place < num_frames:
                        beats[place, column] = max(beats[place, column], value)
        if self.row["beats"]:  # what comes behind the last one is not known
            beats[times > self.row["beats"][-1]["time"] + 1.0] = UNKNOWN
        return {**classes, "beat": beats}


def corpus_pieces(corpus: Path, rows: list[dict[str, Any]], split: str, room: int = 0) -> Iterator[Piece]:
    """Yield the pieces of music of a split whose chords, keys or beats are known, also in other keys.

    Args:
        corpus: rendered corpus.
        rows: of it.
        split: name.
        room: most semitones that the model can transpose by; 0 yields every piece once.
    """
    shifts = [shift for shift in TRANSPOSITIONS if abs(shift) <= room]
    for row in rows:
        if row["split"] != split or row["pitch"] is not None or not (row["chords"] or row["keys"] or row["beats"]):
            continue
        clip = Clip(corpus / row["file"], "", row["piece"])
        known = bool(row["beats"])
        yield Piece(clip, row, 0, known)
        if shifts:
            rng = np.random.default_rng(int.from_bytes(hashlib.sha256(row["id"].encode()).digest()[:8], "big"))
            for shift in rng.choice(shifts, min(VIEWS_PER_PIECE, len(shifts)), replace=False):
                yield Piece(clip, row, int(shift), known)


def chordless_pieces(folder: Path) -> Iterator[Piece]:
    """Play drums alone and noise, keep them in a folder, and yield them: they have no chord."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(NUM_DRUMS + NUM_NOISES):
        path = folder / f"{number:03d}.flac"
        labels = path.with_suffix(".json")
        if not (path.exists() and labels.exists()):
            rng = np.random.default_rng([23, number])
            audio, beats = _drums(rng) if number < NUM_DRUMS else (_noise(rng), [])
            audio = apply_effects(audio, draw_effects(rng), rng, SAMPLING_RATE)
            row = {
                "chords": [{"start": 0.0, "end": len(audio) / SAMPLING_RATE, "label": NO_CHORD}],
                "keys": [],
                "beats": beats,
            }
            with atomic_path(labels) as unfinished:
                unfinished.write_text(json.dumps(row), encoding="utf-8")
            with atomic_path(path) as unfinished:
                soundfile.write(unfinished, audio, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
        yield Piece(Clip(path, "", f"chordless/{number}"), json.loads(labels.read_text(encoding="utf-8")))


def _drums(rng: np.random.Generator) -> tuple[np.ndarray, list[dict[str, Any]]]:
    score = compose(rng, DRUMS_SECONDS, 0, "major", rich=True).excerpt(0, DRUMS_SECONDS)
    notes = [note for note in score.notes if note.role == DRUMS]
    notes = notes or [note for note in accompany(rng, (), score.beats, drums=True) if note.role == DRUMS]
    score = humanised(replace(score, notes=in_order(notes), chords=(), keys=()), rng)
    soundfont = find_soundfont()
    if soundfont is None or rng.random() < 0.5:
        audio = play_additive(score, rng, SAMPLING_RATE)
    else:
        programs = draw_programs({note.part for note in score.notes}, rng)
        audio = play_soundfont(score, programs, soundfont, SAMPLING_RATE, DRUMS_SECONDS)
    return audio, [asdict(beat) for beat in score.beats]


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Play noise of some colour, steady or swelling, or clicks."""
    num_samples = round(NOISE_SECONDS * SAMPLING_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    hertz = np.maximum(np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE), 20.0)
    noise = np.fft.irfft(spectrum * hertz ** -rng.uniform(-0.5, 1.2), num_samples)
    kind = rng.integers(3)
    if kind == 1:
        noise *= abs(np.sin(np.pi * np.arange(num_samples) / SAMPLING_RATE * rng.uniform(0.2, 3.0)))
    elif kind == 2:
        noise = np.zeros(num_samples)
        noise[rng.integers(0, num_samples, 30)] = rng.uniform(-1, 1, 30)
    return (0.5 * noise / abs(noise).max()).astype(np.float32)
