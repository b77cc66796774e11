"""Render a labelled corpus from scores: audio whose keys, chords, beats, instruments and notes are known exactly.

`python -m mt2_music.train.synth.corpus --output_dir corpus --hours 10`

Row i of a source follows from the seed, the source's name and i alone: rows are rendered in any order, on any number
of cores, and a longer corpus begins with the rows of the shorter one. Splits are by piece, from a hash of its name,
and the test split is played with a SoundFont that occurs nowhere else.
"""

import argparse
import importlib.util
import logging
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from mt2_music.interrupts import command
from mt2_music.storage import content_hash
from mt2_music.train.synth.corpus import render
from mt2_music.train.synth.render import find_soundfonts
from mt2_music.train.synth.rows import Recipe
from mt2_music.train.synth.sources import SOURCES

logger = logging.getLogger(__name__)


@command("corpus", "the same command goes on with the rows that are missing")
def main(argv: list[str] | None = None) -> None:
    """Render a corpus from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="folder of the corpus; an unfinished one is completed"
    )
    parser.add_argument("--hours", type=float, default=10.0, help="of audio; may grow later (default: 10)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a row of music (default: 30)")
    parser.add_argument(
        "--solos", action="store_true", help="also pieces with one instrument, one for every row of music"
    )
    parser.add_argument("--soundfonts", type=Path, nargs="+", help="for training and validation (default: all found)")
    parser.add_argument("--test_soundfont", type=Path, help="for the test split alone (default: the last one found)")
    for name, source in SOURCES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=source.help)
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        soundfonts, test_soundfont = _choose_soundfonts(arguments.soundfonts, arguments.test_soundfont)
        sources = tuple(
            source.find(folder) for name, source in SOURCES.items() if (folder := getattr(arguments, name)) is not None
        )
        recipe = Recipe(
            arguments.output_dir,
            arguments.seed,
            arguments.seconds,
            soundfonts,
            test_soundfont,
            sources,
            arguments.solos,
        )
        rows = render(recipe, arguments.hours, arguments.workers)
    except BrokenProcessPool:
        parser.error("a worker was killed, perhaps for lack of memory: start again with fewer --workers to go on")
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    splits = Counter(row["split"] for row in rows)
    total = sum(row["seconds"] for row in rows) / 3600
    print(
        f"{len(rows)} rows, {total:.2f} hours in {arguments.output_dir}: "
        + ", ".join(f"{n} {s}" for s, n in splits.items())
    )


def _choose_soundfonts(given: list[Path] | None, test: Path | None) -> tuple[tuple[Path, ...], Path]:
    if importlib.util.find_spec("tinysoundfont") is None:
        raise ValueError("rendering needs tinysoundfont: run `pip install --no-deps tinysoundfont`")
    found = given or find_soundfonts()
    for path in [*found, *([test] if test else [])]:
        if not path.is_file():
            raise ValueError(f"no such SoundFont: {path}")
    test = test or (found[-1] if found else None)
    training = tuple(path for path in found if test is None or content_hash(path) != content_hash(test))
    if test is None or not training:
        raise ValueError(
            f"a corpus needs at least two different SoundFonts, one for the test split alone; found {len(found)}. "
            "Install another, such as the package fluid-soundfont-gm of Debian and Ubuntu, or name "
            "them: --soundfonts A.sf2 B.sf2 --test_soundfont C.sf2"
        )
    return training, test


if __name__ == "__main__":
    main()
