"""How much the settings of the decoders matter: `python benchmarks/songs/decoders.py CORPUS --model NAME`.

Decodes the validation pieces of a rendered corpus with several settings, one varied at a time. The constants of
mt2_music.song.analysis and mt2_music.song.decode were chosen by this, with the weights of then; no test piece is used.
Writes decoders.md.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import peers
from tqdm import tqdm

import mt2_music
from mt2_music.song import analysis, decode
from mt2_music.song.embed import song_features
from mt2_music.train.synth.corpus import read_rows
from mt2_music.train.synth.score import Segment

VARIED: dict[tuple[ModuleType, str], tuple[float, ...]] = {
    (analysis, "CHORD_CHANGE"): (-2.0, -4.0, -8.0, -12.0, -16.0),
    (analysis, "KEY_CHANGE"): (-30.0, -60.0, -100.0, -150.0, -250.0),
    (decode, "BEAT_WEIGHT"): (0.2, 0.3, 0.5, 1.0),
    (decode, "TEMPO_WEIGHT"): (0.0, 0.1, 0.3, 0.6, 1.0),
    (decode, "TEMPO_CHANGE"): (20.0, 50.0, 100.0),
    (decode, "BEAT_FRAMES"): (1.0, 2.0, 3.0),
    (decode, "METRE_CHANGE"): (1e-2, 1e-3, 1e-5),
}
Piece = tuple[dict[str, Any], Any]


def read_pieces(corpus: Path, name: str, limit: int | None) -> list[Piece]:
    """Return the validation pieces of music with what the head says of their frames."""
    model = mt2_music.load(name, device="cpu")
    analysis.check_analyses(model.model)
    rows = [row for row in read_rows(corpus) if row["split"] == "validation" and row["beats"] and row["chords"]]
    if limit is not None:
        rows = [rows[place] for place in np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)]
    encoder: Any = model.model
    return [
        (row, analysis._read_frames(encoder, model.extractor, song_features(model.extractor, corpus / row["file"])))
        for row in tqdm(rows, unit="piece")
    ]


def score_chords(pieces: list[Piece]) -> dict[str, float]:
    """Share of the time in which the triad is right."""
    found = [[Segment(one.start, one.end, one.label) for one in analysis._chords(frames, 1.0)] for _, frames in pieces]
    return {"chords": peers.score_chords(found, [row for row, _ in pieces])["majmin"]}


def score_keys(pieces: list[Piece]) -> dict[str, float]:
    """Share of the time in which the key is right, of pieces that modulate and of others."""
    found = [[Segment(key.start, key.end, key.label) for key in analysis._keys(frames, 1.0)] for _, frames in pieces]
    modulating, others = peers.score_keys_over_time(found, [row for row, _ in pieces]).values()
    return {"keys, pieces that modulate": modulating, "keys, others": others}


def score_beats(pieces: list[Piece]) -> dict[str, float]:
    """F1 of beats and downbeats at 70 ms, and share of the tempi within 4 %."""
    rows, beats = [row for row, _ in pieces], [analysis._beats(frames, 1.0) for _, frames in pieces]
    return {
        "beats": peers.score_beats([one.times for one in beats], rows, downbeats=False)["F1"],
        "downbeats": peers.score_beats([one.downbeats for one in beats], rows, downbeats=True)["F1"],
        "tempo": peers.score_tempo([one.tempo for one in beats], rows)["acc1"],
    }


@contextmanager
def setting(module: ModuleType, name: str, value: float) -> Iterator[None]:
    """Set a constant inside the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def main() -> None:
    """Score settings, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="rendered corpus")
    parser.add_argument("--model", default="mt2-small-analysis", help="folder, Hub name or short name")
    parser.add_argument("--limit", type=int, help="take so many pieces, for a try")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    pieces = read_pieces(arguments.corpus, arguments.model, arguments.limit)
    scorers: dict[str, Callable[[list[Piece]], dict[str, float]]] = {
        "CHORD_CHANGE": score_chords,
        "KEY_CHANGE": score_keys,
    }
    lines = ["| setting | value | scores on validation |", "|---|---:|---|"]
    for (module, name), values in VARIED.items():
        for value in values:
            with setting(module, name, value):
                scores = scorers.get(name, score_beats)(pieces)
            chosen = "**" if value == getattr(module, name) else ""
            text = ", ".join(f"{score} {100 * found:.1f}" for score, found in scores.items())
            lines.append(f"| {name} | {chosen}{value:g}{chosen} | {text} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        f"{len(pieces)} validation pieces, in percent; bold is what is used. All other settings are as used.",
    ]
    lines.append("Chords: majmin of mir_eval; keys: share of the time; beats: F1 at 70 ms; tempo: within 4 %.")
    arguments.out.write_text("\n".join([*lines, "Written by benchmarks/songs/decoders.py.", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
