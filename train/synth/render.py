"""Scores to audio: through a SoundFont, or by plain additive synthesis where no SoundFont is to be had."""

import importlib.util
from pathlib import Path

import numpy as np

from .harmony import Note, Score

# General MIDI programs that hold a pitch well enough for a part (0-based).
PROGRAMS = {
    "melody": (0, 4, 11, 22, 24, 40, 56, 65, 68, 71, 73, 75, 80, 81),
    "chords": (0, 1, 4, 6, 16, 19, 21, 24, 25, 26, 48, 50, 52, 61, 88, 89),
    "bass": (0, 32, 33, 34, 35, 38, 42, 43, 58, 70),
}
DRUM_BANK, DRUM_CHANNEL = 128, 9
TAIL_SECONDS = 0.5
SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")


def find_soundfont() -> Path | None:
    """Return a General MIDI SoundFont that tinysoundfont can play here, or None.

    Looks at the one pretty_midi carries, so that every machine finds the same, then where systems install them. The
    package is not imported: only its folder is needed.
    """
    if importlib.util.find_spec("tinysoundfont") is None:
        return None
    package = importlib.util.find_spec("pretty_midi")
    carried = package.submodule_search_locations if package is not None else None
    for folder in [*(carried or []), *SOUNDFONT_FOLDERS]:
        for path in sorted(Path(folder).glob("*.sf[23]")):
            return path
    return None


def play_soundfont(
    score: Score, soundfont: Path, rng: np.random.Generator, sampling_rate: int = 16000
) -> tuple[np.ndarray, dict[str, int]]:
    """Play a score with one random program per part.

    Args:
        score: what to play.
        soundfont: path of a General MIDI bank, .sf2 or .sf3.
        rng: draws the programs and the level.
        sampling_rate: of the result, in hertz.

    Returns:
        Mono float32 (samples,) with a peak of at most 0.9, and the 0-based General MIDI program of every pitched part.
    """
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=-6.0, samplerate=sampling_rate)
    bank = synth.sfload(str(soundfont))
    programs = {part: int(rng.choice(choices)) for part, choices in PROGRAMS.items()}
    channels = {part: channel for channel, part in enumerate(programs)}
    for part, program in programs.items():
        synth.program_select(channels[part], bank, 0, program)
    synth.program_select(DRUM_CHANNEL, bank, DRUM_BANK, 0, is_drums=True)
    events = []
    for note in score.notes:
        channel = channels.get(note.part, DRUM_CHANNEL)
        # At one time, notes end before others start.
        events.append((round(note.start * sampling_rate), 1, channel, note.pitch, note.velocity))
        events.append((round(note.end * sampling_rate), 0, channel, note.pitch, 0))
    pieces, now = [], 0
    for time, is_start, channel, pitch, velocity in sorted(events):
        # Generated up to each event: the synthesizer's own sequencer would round times to blocks.
        if time > now:
            pieces.append(_generate(synth, time - now))
            now = time
        if is_start:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    pieces.append(_generate(synth, round(TAIL_SECONDS * sampling_rate)))
    return _level(np.concatenate(pieces), rng), programs


def _generate(synth, num_samples: int) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(num_samples)), np.float32).reshape(-1, 2).mean(1)


def play_additive(score: Score, rng: np.random.Generator, sampling_rate: int = 16000) -> np.ndarray:
    """Play a score with decaying harmonics and noise for drums: every note is in tune, no instrument is real.

    Returns:
        Mono float32 (samples,) with a peak of at most 0.9.
    """
    duration = max(note.end for note in score.notes) + TAIL_SECONDS
    audio = np.zeros(round(duration * sampling_rate) + 1, np.float32)
    timbres = {part: (rng.uniform(0.5, 2.0), rng.uniform(0.5, 4.0)) for part in PROGRAMS}
    for note in score.notes:
        sound = (
            _hit(note, rng, sampling_rate) if note.part == "drums" else _tone(note, *timbres[note.part], sampling_rate)
        )
        start = round(note.start * sampling_rate)
        sound = sound[: len(audio) - start]
        audio[start : start + len(sound)] += sound * note.velocity / 127
    return _level(audio, rng)


def _tone(note: Note, tilt: float, decay: float, sampling_rate: int) -> np.ndarray:
    time = np.arange(round((note.end - note.start + 0.1) * sampling_rate)) / sampling_rate
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    harmonics = np.arange(1, 9)
    harmonics = harmonics[harmonics * frequency < sampling_rate / 2]
    tone = (np.sin(2 * np.pi * frequency * harmonics[:, None] * time) * harmonics[:, None] ** -tilt).sum(0)
    envelope = np.minimum(1, time / 0.01) * np.exp(-decay * time) * np.clip((time[-1] - time) / 0.1, 0, 1)
    return (tone * envelope).astype(np.float32)


def _hit(note: Note, rng: np.random.Generator, sampling_rate: int) -> np.ndarray:
    time = np.arange(round(0.15 * sampling_rate)) / sampling_rate
    if note.pitch == 36:
        return (np.sin(2 * np.pi * 60 * time) * np.exp(-25 * time)).astype(np.float32)
    return (rng.standard_normal(len(time)) * np.exp(-40 * time) * 0.4).astype(np.float32)


def _level(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (audio / max(float(np.abs(audio).max()), 1e-6) * rng.uniform(0.3, 0.9)).astype(np.float32)
