"""Scores to audio: through a SoundFont, or by plain additive synthesis where no SoundFont is to be had."""

import importlib.util
import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .score import Note, Score

# General MIDI programs (0-based) that hold a pitch and suit a role.
PROGRAMS = {
    "melody": (0, 4, 11, 12, 22, 24, 40, 41, 42, 56, 57, 60, 64, 65, 66, 68, 70, 71, 73, 74, 75, 79, 80, 81, 104),
    "chords": (0, 1, 4, 5, 6, 7, 11, 16, 19, 21, 24, 25, 26, 27, 48, 49, 50, 52, 61, 62, 88, 89, 90),
    "bass": (0, 32, 33, 34, 35, 38, 39, 42, 43, 58, 70),
}
DRUM_BANK, DRUM_CHANNEL = 128, 9
DRUM_KITS = (0, 0, 8, 16, 25)
FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
    "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects",
)  # fmt: skip
DRUMS = "drums"  # the family of a part of drums
TAIL_SECONDS = 0.5
MAX_RELEASE_SECONDS = 30
SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")


def find_soundfonts() -> list[Path]:
    """Return the General MIDI SoundFonts that are found here, one path per file name.

    Looks at the one pretty_midi carries, so that every machine has the same first, then where systems install them.
    The package is not imported: only its folder is needed.
    """
    package = importlib.util.find_spec("pretty_midi")
    carried = package.submodule_search_locations if package is not None else None
    found: dict[str, Path] = {}
    for folder in [*(carried or []), *SOUNDFONT_FOLDERS]:
        for path in sorted(Path(folder).glob("*.sf[23]")):
            found.setdefault(path.name, path)
    return list(found.values())


def find_soundfont() -> Path | None:
    """Return a SoundFont that tinysoundfont can play here, or None."""
    if importlib.util.find_spec("tinysoundfont") is None:
        return None
    return next(iter(find_soundfonts()), None)


def draw_programs(parts: Iterable[str], rng: np.random.Generator) -> dict[str, int]:
    """Draw a General MIDI program, 0-based, for every part by its role; of drums, the number of the kit."""
    roles = {part: part.split()[0] for part in sorted(set(parts))}
    return {part: int(rng.choice(DRUM_KITS if role == "drums" else PROGRAMS[role])) for part, role in roles.items()}


@lru_cache(maxsize=64)
def programs_of(soundfont: Path) -> frozenset[int]:
    """Return the melodic programs, 0-based, that a SoundFont holds, from its list of presets.

    Raises:
        ValueError: it is no SoundFont.

    Source: SoundFont Technical Specification 2.04, section 7.2; .sf3 files have the same list.
    """
    data = soundfont.read_bytes()
    start = data.find(b"phdr")
    if data[:4] != b"RIFF" or start < 0:
        raise ValueError(f"{soundfont} is no SoundFont")
    (size,) = struct.unpack("<I", data[start + 4 : start + 8])
    presets = struct.iter_unpack("<20sHHHIII", data[start + 8 : start + 8 + size // 38 * 38])
    return frozenset(program for _, program, bank, *_ in list(presets)[:-1] if bank == 0)


def families(programs: dict[str, int]) -> list[str]:
    """Return the General MIDI families, or "drums", of the parts' programs, each once and sorted."""
    return sorted(
        {DRUMS if part.startswith("drums") else FAMILIES[program // 8] for part, program in programs.items()}
    )


def play_soundfont(
    score: Score, programs: dict[str, int], soundfont: Path, sampling_rate: int = 16000, seconds: float | None = None
) -> np.ndarray:
    """Play a score through a SoundFont.

    Args:
        score: what to play.
        programs: program of every part, as `draw_programs` gives them.
        soundfont: path of a General MIDI bank, .sf2 or .sf3.
        sampling_rate: of the result, in hertz.
        seconds: length of the result; without it, half a second after the last note.

    Returns:
        Mono float32 (samples,) at the bank's own level, the same whatever was played before.

    Raises:
        ValueError: more than 15 pitched parts, a part without program, or a SoundFont that cannot be read.
    """
    synth, bank = _synth(soundfont, sampling_rate)
    parts = sorted({note.part for note in score.notes})
    pitched = [part for part in parts if not part.startswith("drums")]
    if len(pitched) > 15 or set(parts) - set(programs):
        raise ValueError(f"cannot play parts {parts} with programs for {sorted(programs)}; at most 15 are pitched")
    channels = dict(zip(pitched, (c for c in range(16) if c != DRUM_CHANNEL), strict=False))
    for part in parts:
        if part in channels:
            synth.program_select(channels[part], bank, 0, programs[part])
        else:
            synth.program_select(DRUM_CHANNEL, bank, DRUM_BANK, programs[part], is_drums=True)
    num_samples = round((score.duration + TAIL_SECONDS if seconds is None else seconds) * sampling_rate)
    events = []
    for note in score.notes:
        channel = channels.get(note.part, DRUM_CHANNEL)
        start = round(note.start * sampling_rate)
        # At one time, notes end before others start; and every note lasts at least one sample.
        events.append((start, 1, channel, note.pitch, note.velocity))
        events.append((max(start + 1, round(note.end * sampling_rate)), 0, channel, note.pitch, 0))
    pieces, now = [], 0
    for time, is_start, channel, pitch, velocity in sorted(events):
        if time >= num_samples:
            break
        # Generated up to each event: the synthesizer's own sequencer would round times to blocks.
        if time > now:
            pieces.append(_generate(synth, time - now))
            now = time
        if is_start:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    if num_samples > now:
        pieces.append(_generate(synth, num_samples - now))
    _silence(synth, sampling_rate)
    return np.concatenate(pieces)


@lru_cache(maxsize=8)
def _synth(soundfont: Path, sampling_rate: int) -> tuple[Any, int]:
    """Load a bank once in a process: decoding a large one takes seconds."""
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=-6.0, samplerate=sampling_rate)
    try:
        return synth, synth.sfload(str(soundfont))
    except RuntimeError as error:
        raise ValueError(f"cannot read the SoundFont {soundfont}: {error}") from error


def _silence(synth: Any, sampling_rate: int) -> None:
    """Let all voices die: one that is still sounding would change the next piece."""
    synth.sounds_off()
    for _ in range(10 * MAX_RELEASE_SECONDS):
        if not _generate(synth, sampling_rate // 10).any():
            return
    raise RuntimeError(f"a voice still sounds {MAX_RELEASE_SECONDS} s after it was stopped")


def _generate(synth: Any, num_samples: int) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(num_samples)), np.float32).reshape(-1, 2).mean(1)


def play_additive(score: Score, rng: np.random.Generator, sampling_rate: int = 16000) -> np.ndarray:
    """Play a score with decaying harmonics and noise for drums: every note is in tune, no instrument is real.

    Returns:
        Mono float32 (samples,) with a peak of at most 0.9.
    """
    duration = score.duration + TAIL_SECONDS
    audio = np.zeros(round(duration * sampling_rate) + 1, np.float32)
    timbres = {role: (rng.uniform(0.5, 2.0), rng.uniform(0.5, 4.0)) for role in PROGRAMS}
    for note in score.notes:
        sound = (
            _hit(note, rng, sampling_rate) if note.role == "drums" else _tone(note, *timbres[note.role], sampling_rate)
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
