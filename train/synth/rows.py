"""One row of a corpus: a score that is drawn, changed, played and recorded, with its labels."""

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mt2_music.storage import atomic_path
from mt2_music.train.data.splits import split_of

from .arrange import accompany, humanised
from .effects import apply_effects, draw_effects
from .harmony import compose
from .render import PROGRAMS, draw_programs, families, play_soundfont
from .score import Note, Score, in_order, main_key
from .sources import Source

SAMPLING_RATE = 16000
GENERATED, SINGLE_NOTES, SOLOS = "generated", "notes", "solos"
SECONDS = {SINGLE_NOTES: 2.0, SOLOS: 16.0}  # of a row; all others last as long as the recipe says
NOTE_PITCHES = (36, 84)  # lowest and highest of the single notes
SOUNDS_AN_OCTAVE_LOW = (16,)  # the drawbar organ sounds its pitch and the octave below
TRANSPOSITIONS = (-6, 5)
STRETCH = (0.8, 1.25)
DRUMS_SHARE = 0.5  # of scores without drums whose beats are known
PITCH_RANGE = (21, 108)  # of a piano; what a transposition puts outside moves by octaves


@dataclass(frozen=True)
class Recipe:
    """Everything a row follows from, but for its source and number.

    Args:
        folder: of the corpus.
        seed: of all draws.
        seconds: length of a row of music.
        soundfonts: banks of training and validation.
        test_soundfont: bank of the test split.
        sources: of scores; the generator is always one.
        solos: also play one part alone, once for every row of music: what one instrument sounds like.
    """

    folder: Path
    seed: int
    seconds: float
    soundfonts: tuple[Path, ...]
    test_soundfont: Path
    sources: tuple[Source, ...] = ()
    solos: bool = False


def row_id(row: tuple[str, int]) -> str:
    """Name a row by its source and number."""
    return f"{row[0]}-{row[1]:06d}"


def render_row(recipe: Recipe, row: tuple[str, int]) -> dict[str, Any]:
    """Render one row: its FLAC file, which appears whole or not at all, and its labels.

    Returns:
        The labels, as `load_corpus` describes them; or "id" and "error" where the score cannot be used.
    """
    source, number = row
    name = row_id(row)
    rng = np.random.default_rng([recipe.seed, int(hashlib.sha256(source.encode()).hexdigest()[:8], 16), number])
    try:
        score, piece, changes = make_score(recipe, source, number, rng)
        split = split_of(piece)
        banks = (recipe.test_soundfont,) if split == "test" else recipe.soundfonts
        soundfont = banks[int(rng.integers(len(banks)))]
        programs = changes.pop("programs", None) or draw_programs({note.part for note in score.notes}, rng)
        seconds = SECONDS.get(source, recipe.seconds)
        audio = play_soundfont(score, programs, soundfont, SAMPLING_RATE, seconds)
        if not np.abs(audio).max() > 1e-4:
            raise ValueError(f"{piece} is silent when played with {soundfont.name}")
    except ValueError as error:
        return {"id": name, "error": str(error)}
    effects = draw_effects(rng)
    audio = apply_effects(audio, effects, rng, SAMPLING_RATE)
    file = f"audio/{split}/{name}.flac"
    with atomic_path(recipe.folder / file) as unfinished:
        soundfile.write(unfinished, audio, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return {
        "id": name,
        "file": file,
        "split": split,
        "source": source,
        "piece": piece,
        "seconds": seconds,
        "soundfont": soundfont.name,
        "instruments": families(programs),
        "programs": [{"part": part, "program": program} for part, program in sorted(programs.items())],
        "key": score.key,
        "key_share": _share_of_key(score, seconds),
        "keys": [_rounded(key) for key in score.keys],
        "chords": [_rounded(chord) for chord in score.chords],
        "beats": [_rounded(beat) for beat in score.beats],
        "tempo": score.tempo,
        "pitch": score.notes[0].pitch if source == SINGLE_NOTES else None,
        "notes": [_rounded(note) for note in score.notes],
        **changes,
        "effects": asdict(effects),
    }


def make_score(
    recipe: Recipe, source: str, number: int, rng: np.random.Generator
) -> tuple[Score, str, dict[str, Any]]:
    """Return the score as it is to be played, the name of its piece, and how it was changed."""
    if source == SINGLE_NOTES:
        return _single_note(rng)
    if source == SOLOS:
        return compose_solo(rng, number)
    changes: dict[str, Any] = {"transposition": 0, "stretch": 1.0}
    if source == GENERATED:
        mode = ("major", "minor")[int(rng.integers(2))]
        score = compose(rng, recipe.seconds + 1, int(rng.integers(12)), mode, rich=True)
        return humanised(score.excerpt(0, recipe.seconds), rng), f"{GENERATED}/{number}", changes
    pieces = next(one for one in recipe.sources if one.name == source)
    one_pass, place = divmod(number, len(pieces.pieces))
    order = np.random.default_rng([recipe.seed, one_pass]).permutation(len(pieces.pieces))
    piece, path = pieces.pieces[int(order[place])]
    score = _read_score(pieces.read, path)
    low, high = TRANSPOSITIONS
    changes = {"transposition": int(rng.integers(low, high + 1)), "stretch": float(rng.uniform(*STRETCH))}
    # Cut first: the rest is work per note.
    seconds = recipe.seconds / changes["stretch"]
    score = score.excerpt(_draw_start(score, seconds, rng), seconds)
    score = score.transposed(changes["transposition"]).stretched(changes["stretch"])
    roles = {note.role for note in score.notes}
    notes = [_in_range(note) for note in score.notes]
    if len(score.beats) > 1:
        drums = "drums" not in roles and rng.random() < DRUMS_SHARE
        chords = () if "chords" in roles else score.chords
        if drums or chords:
            notes += accompany(rng, chords, score.beats, drums=drums)
    elif "chords" not in roles:
        score = replace(score, chords=())  # nobody plays them
    score = replace(score, notes=in_order(notes)).excerpt(0, recipe.seconds)
    if not any(note.role != "drums" for note in score.notes):
        raise ValueError(f"{path}: no notes in the excerpt")
    return humanised(score, rng), piece, changes


@lru_cache(maxsize=64)
def _read_score(read: Any, path: Path) -> Score:
    return read(path)


def _single_note(rng: np.random.Generator) -> tuple[Score, str, dict[str, Any]]:
    pitch = int(rng.integers(NOTE_PITCHES[0], NOTE_PITCHES[1] + 1))
    role = ("melody", "chords")[int(rng.integers(2))]
    program = int(rng.choice([program for program in PROGRAMS[role] if program not in SOUNDS_AN_OCTAVE_LOW]))
    start, length = rng.uniform(0, 0.3), rng.uniform(0.5, 1.3)
    note = Note(float(start), float(start + length), pitch, int(rng.integers(50, 120)), role)
    changes = {"transposition": 0, "stretch": 1.0, "programs": {role: program}}
    # No program at one pitch on two sides of a split.
    return Score((note,)), f"{SINGLE_NOTES}/program {program} pitch {pitch}", changes


def compose_solo(
    rng: np.random.Generator, number: int, seconds: float = SECONDS[SOLOS]
) -> tuple[Score, str, dict[str, Any]]:
    """Compose a piece, and let one instrument play its melody or its chords alone, in any register."""
    mode = ("major", "minor")[int(rng.integers(2))]
    score = compose(rng, seconds + 1, int(rng.integers(12)), mode, rich=True).excerpt(0, seconds)
    role = ("melody", "chords")[int(rng.integers(2))]
    programs = sorted({*PROGRAMS["melody"], *PROGRAMS["chords"], *PROGRAMS["bass"]})
    octaves = 12 * int(rng.integers(-2, 2))
    notes = [_in_range(replace(note, pitch=note.pitch + octaves)) for note in score.notes if note.role == role]
    if not notes:
        raise ValueError(f"{SOLOS}/{number}: no notes in the excerpt")
    chords = score.chords if role == "chords" else ()
    score = humanised(replace(score, notes=in_order(notes), chords=chords), rng)
    program = int(rng.choice(programs))
    changes = {"transposition": 0, "stretch": 1.0, "programs": {note.part: program for note in notes}}
    return score, f"{SOLOS}/{number}", changes


def _draw_start(score: Score, seconds: float, rng: np.random.Generator) -> float:
    """Draw where an excerpt starts: just before a downbeat, or anywhere if beats are unknown."""
    latest = max(0.0, score.duration - seconds)
    downbeats = [beat.time for beat in score.beats if beat.position == 1 and beat.time <= latest + 1e-6]
    start = downbeats[int(rng.integers(len(downbeats)))] if downbeats else float(rng.uniform(0, latest))
    return max(0.0, start - 0.05)


def _in_range(note: Note) -> Note:
    if note.role == "drums":
        return note
    low, high = PITCH_RANGE
    octaves = -((note.pitch - low) // 12) if note.pitch < low else -((note.pitch - high + 11) // 12)
    return replace(note, pitch=note.pitch + 12 * octaves) if not low <= note.pitch <= high else note


def _share_of_key(score: Score, seconds: float) -> float | None:
    """Share of the time with music in which the main key is known to hold."""
    in_key = sum(key.end - key.start for key in score.keys if key.label == main_key(score.keys))
    return min(1.0, round(in_key / min(seconds, score.duration), 4)) if score.keys else None


def _rounded(item: Any) -> dict[str, Any]:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(item).items()}
