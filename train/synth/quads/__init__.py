"""Render quads, two scores x two orchestrations: `python -m mt2_music.train.synth.quads`.

Each of the four recordings has instruments of its own banks, a room and a microphone of its own. One quad in four (by
default) is of single instruments. The folder is one that `mt2_music.train.prepare` could have written, with a list of
the quads beside it. Quad i follows from the recipe and i alone, and only pieces of the training split are played.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mt2_music.interrupts import check, process_pool
from mt2_music.storage import atomic_path, content_hash, write_text_atomic
from mt2_music.train.data.prepared import SAMPLING_RATE, SETTINGS_FILE, write_shard
from mt2_music.train.data.quads import QUADS_FILE, track_name
from mt2_music.train.data.splits import split_of
from mt2_music.train.synth.effects import apply_effects, draw_effects
from mt2_music.train.synth.render import DRUMS, PROGRAMS, draw_programs, play_soundfont, programs_of
from mt2_music.train.synth.rows import GENERATED, Recipe, compose_solo, make_score
from mt2_music.train.synth.score import Note, Score

RENDERER = 1  # to be raised when the same recipe would give other quads
QUADS_PER_SHARD = 4
BALANCE_DB = 4.0  # by which parts of different banks differ at most from equal levels
OWN_BANK_SHARE = 0.4  # of parts whose bank is drawn apart from that of the others
GENERAL_MIDI = 100  # programs of a bank that is taken for a whole General MIDI one, with drums
MAX_TRIES = 20  # scores drawn for one quad before it is given up
ISOLATED_SHARE = 0.5  # of single instruments: notes with rests between them instead of a melody
SOLO_PROGRAMS = tuple(sorted({program for role in PROGRAMS.values() for program in role}))
# Lowest and highest note of instruments that have a range of their own; others play from RANGE.
RANGE = (36, 84)
RANGES = {
    32: (28, 55), 33: (28, 55), 34: (28, 55), 35: (28, 55), 38: (28, 55), 39: (28, 55), 24: (40, 79), 25: (40, 79),
    26: (40, 79), 27: (40, 79), 40: (55, 96), 41: (48, 84), 42: (36, 76), 43: (28, 60), 56: (54, 84), 57: (40, 72),
    58: (28, 58), 60: (38, 77), 61: (40, 77), 64: (56, 88), 65: (49, 81), 66: (44, 76), 68: (58, 88), 70: (34, 72),
    71: (50, 91), 73: (60, 96), 74: (60, 96), 75: (60, 96), 11: (53, 89), 12: (48, 84),
}  # fmt: skip


@dataclass(frozen=True)
class QuadRecipe:
    """Everything a quad follows from, but for its number.

    Args:
        scores: where scores come from, and the seed of all draws; its `soundfonts` are the banks, of which some may
            hold a few programs only.
        solo_share: share of quads of single instruments.
    """

    scores: Recipe
    solo_share: float

    def settings(self) -> dict[str, Any]:
        """Return what the recipe follows from, as it is stored beside the quads."""
        scores = self.scores
        return {
            "renderer": RENDERER,
            "seed": scores.seed,
            "seconds": scores.seconds,
            "soundfonts": {path.name: content_hash(path) for path in scores.soundfonts},
            "sources": {source.name: len(source.pieces) for source in scores.sources},
            "solo_share": self.solo_share,
        }


def render_quad(recipe: QuadRecipe, number: int) -> tuple[dict[str, Any], np.ndarray]:
    """Render one quad.

    Returns:
        Its row in the list of quads, and its samples, int16 (2, 2, samples): [score][orchestration].

    Raises:
        ValueError: no two usable scores were found.
    """
    solo = bool(np.random.default_rng([recipe.scores.seed, 1, number]).random() < recipe.solo_share)
    problem = ""
    for attempt in range(MAX_TRIES):
        rng = np.random.default_rng([recipe.scores.seed, 2, number, attempt])
        try:
            scores, orchestrations, pieces = (_solos if solo else _music)(recipe.scores, number, attempt, rng)
            samples = np.stack([np.stack([_play(recipe, s, o, rng) for o in orchestrations]) for s in scores])
        except ValueError as error:
            problem = str(error)
            continue
        row = {
            "id": f"quad-{number:06d}",
            "solo": solo,
            "pieces": pieces,
            "tempos": [round(score.tempo or 0.0, 3) for score in scores],
            "programs": orchestrations,
        }
        return row, samples
    raise ValueError(f"no usable scores for quad {number}: {problem}")


def _music(
    recipe: Recipe, number: int, attempt: int, rng: np.random.Generator
) -> tuple[list[Score], list[dict[str, int]], list[str]]:
    """Draw two scores of any two sources, and two orchestrations that both can play."""
    kinds = [GENERATED, *(source.name for source in recipe.sources)]
    scores, pieces = [], []
    for which, kind in enumerate((kinds[number % len(kinds)], kinds[int(rng.integers(len(kinds)))])):
        place = (2 * number + which) * MAX_TRIES + attempt  # another piece for every attempt
        score, piece, _ = make_score(recipe, kind, place, rng)
        if split_of(piece) != "train":
            raise ValueError(f"{piece} is not of the training split")
        scores.append(score)
        pieces.append(piece)
    parts = {note.part for score in scores for note in score.notes}
    return scores, [draw_programs(parts, rng), draw_programs(parts, rng)], pieces


def _solos(
    recipe: Recipe, number: int, _attempt: int, rng: np.random.Generator
) -> tuple[list[Score], list[dict[str, int]], list[str]]:
    """Draw two scores of one part, and two instruments; both play where both can reach the notes."""
    first, second = (int(program) for program in rng.choice(SOLO_PROGRAMS, 2, replace=False))
    low, high = (f(RANGES.get(p, RANGE)[k] for p in (first, second)) for f, k in ((max, 0), (min, 1)))
    if high - low < 12:
        raise ValueError("these two instruments have too few notes in common")
    scores = []
    for _ in range(2):
        if rng.random() < ISOLATED_SHARE:
            scores.append(isolated_notes(rng, recipe.seconds, low, high))
            continue
        score = compose_solo(rng, number, recipe.seconds)[0]
        scores.append(replace(score, notes=tuple(_into(note, low, high) for note in score.notes)))
    parts = {note.part for score in scores for note in score.notes}
    return scores, [dict.fromkeys(sorted(parts), program) for program in (first, second)], ["solo", "solo"]


def isolated_notes(rng: np.random.Generator, seconds: float, low: int, high: int) -> Score:
    """Compose single notes with rests between them, long and short, loud and soft.

    Args:
        rng: of the draws.
        seconds: length of the score.
        low, high: lowest and highest pitch.
    """
    notes, time = [], float(rng.uniform(0, 0.3))
    while time < seconds:
        length = float(0.15 * 2 ** rng.uniform(0, 4.3))
        notes.append(Note(time, time + length, int(rng.integers(low, high + 1)), int(rng.integers(35, 125)), "melody"))
        time += length + float(rng.uniform(0.05, 0.6))
    return Score(tuple(notes))


def _into(note: Note, low: int, high: int) -> Note:
    """Move a note by octaves into a range of at least one."""
    above = low + (note.pitch - low) % 12
    octaves = max(0, min((note.pitch - above) // 12, (high - above) // 12))
    return replace(note, pitch=above + 12 * octaves)


def _play(recipe: QuadRecipe, score: Score, programs: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    """Play a score, every part through a bank that is drawn among those that hold its program, and record it."""
    seconds = recipe.scores.seconds
    parts: dict[Path, list[str]] = {}
    main = _draw_bank(recipe.scores.soundfonts, DRUMS, 0, rng)  # one with drums, for most parts
    for part in sorted({note.part for note in score.notes}):
        holds = part.startswith("drums") or programs[part] in programs_of(main)
        own = rng.random() < OWN_BANK_SHARE or not holds
        bank = _draw_bank(recipe.scores.soundfonts, part, programs[part], rng) if own else main
        parts.setdefault(bank, []).append(part)
    audio = np.zeros(round(seconds * SAMPLING_RATE), np.float32)
    for bank, played in parts.items():
        some = replace(score, notes=tuple(note for note in score.notes if note.part in played))
        of_bank = play_soundfont(some, {part: programs[part] for part in played}, bank, SAMPLING_RATE, seconds)
        # Banks differ by 40 dB in their levels.
        level = 10 ** (rng.uniform(-BALANCE_DB, BALANCE_DB) / 20) * np.sqrt(len(played))
        audio += of_bank * np.float32(level / max(float(np.sqrt(np.square(of_bank).mean())), 1e-5))
    if not np.abs(audio).max() > 0.1:  # louder than that by far, unless nothing sounds
        raise ValueError("silent")
    audio = apply_effects(audio, draw_effects(rng), rng, SAMPLING_RATE)
    return (audio * 32767).astype(np.int16)


def _draw_bank(soundfonts: tuple[Path, ...], part: str, program: int, rng: np.random.Generator) -> Path:
    whole = [path for path in soundfonts if len(programs_of(path)) >= GENERAL_MIDI]
    able = whole if part.startswith(DRUMS) else [path for path in soundfonts if program in programs_of(path)]
    if not able:
        raise ValueError(f"no bank holds program {program}")
    return able[int(rng.integers(len(able)))]


def render_quads(recipe: QuadRecipe, num_quads: int, workers: int | None = None, seconds_limit: float = 0.0) -> int:
    """Render a folder of quads, or the rest of one that was begun.

    Args:
        recipe: what to render; its scores' folder is where to.
        num_quads: how many; rounded up to whole shards.
        workers: processes; as many as there are cores if not given.
        seconds_limit: stop after so long and keep what is done; the same command goes on. 0: never.

    Returns:
        How many quads the folder holds.

    Raises:
        ValueError: the folder was begun with another recipe, or a quad cannot be rendered.
        BrokenProcessPool: a worker was killed; the shards that are done stay.
    """
    for path in recipe.scores.soundfonts:
        programs_of(path)  # raises here, not among the problems of a quad, if it is no SoundFont
    folder = recipe.scores.folder
    folder.mkdir(parents=True, exist_ok=True)
    settings = recipe.settings()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    begun = folder / SETTINGS_FILE
    if begun.exists() and json.loads(begun.read_text(encoding="utf-8")).get("names") != digest:
        raise ValueError(f"{folder} was begun with another recipe: use another folder")
    for unfinished in folder.glob("*.part"):
        unfinished.unlink()
    planned = -(-num_quads // QUADS_PER_SHARD)
    shown = {"sampling_rate": SAMPLING_RATE, "shards": planned, "names": digest, "quads": settings}
    if not begun.exists():  # first of all: whoever goes on must know the recipe
        write_text_atomic(begun, json.dumps(shown, indent=1))
    rows, shards = folder.glob("rows-*.jsonl"), folder.glob("shard-*.arrow")  # whole where both are there
    done = {_number(path) for path in rows} & {_number(path) for path in shards}
    deadline = time.monotonic() + seconds_limit if seconds_limit else float("inf")
    todo = [shard for shard in range(planned) if shard not in done]
    make = partial(_render_shard, recipe, deadline)
    progress = tqdm(total=planned * QUADS_PER_SHARD, initial=len(done) * QUADS_PER_SHARD, unit="quad")
    with process_pool(workers) as pool, progress:
        for shard in pool.map(make, todo):
            if shard is not None:
                done.add(shard)
                progress.update(QUADS_PER_SHARD)
    finished = next((shard for shard in range(planned) if shard not in done), planned)  # those before it are whole
    if not finished:
        raise ValueError("not one shard was finished in time")
    lists = [(folder / f"rows-{shard:05d}.jsonl").read_text(encoding="utf-8") for shard in range(finished)]
    write_text_atomic(begun, json.dumps({**shown, "shards": finished}, indent=1))
    write_text_atomic(folder / QUADS_FILE, "".join(lists))
    return finished * QUADS_PER_SHARD


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _render_shard(recipe: QuadRecipe, deadline: float, shard: int) -> int | None:
    """Render the quads of a shard, and list them when it is whole; None when there was no time left."""
    if time.monotonic() > deadline:
        return None
    rows: list[dict[str, Any]] = []

    def tracks() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(shard * QUADS_PER_SHARD, (shard + 1) * QUADS_PER_SHARD):
            check()
            row, samples = render_quad(recipe, number)
            rows.append(row)
            for score in range(2):
                for orchestration in range(2):
                    yield track_name(row["id"], score, orchestration), samples[score, orchestration]

    write_shard(recipe.scores.folder, shard, tracks(), [])
    with atomic_path(recipe.scores.folder / f"rows-{shard:05d}.jsonl") as unfinished:
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return shard
