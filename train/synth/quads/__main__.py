"""Render quads, two scores x two orchestrations, for pre-training.

`python -m mt2_music.train.synth.quads --output_dir quads --quads 4000 --soundfonts *.sf2 --pop909 POP909`

A begun folder is finished; quads are added when the same command asks for more.
"""

import argparse
import importlib.util
import logging
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from mt2_music.interrupts import command
from mt2_music.train.synth.render import find_soundfonts
from mt2_music.train.synth.rows import Recipe
from mt2_music.train.synth.sources import SOURCES

from . import QuadRecipe, render_quads

logger = logging.getLogger(__name__)


@command("quads", "the same command goes on with the quads that are missing")
def main(argv: list[str] | None = None) -> int:
    """Render from the command line; return 0, or 2 when nothing can be rendered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the quads; a begun one is finished")
    parser.add_argument("--quads", type=int, default=1000, help="how many, of four times 30 s each (default: 1000)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each recording (default: 30)")
    parser.add_argument("--solo_share", type=float, default=0.25, help="share of single instruments (default: 0.25)")
    parser.add_argument(
        "--soundfonts", type=Path, nargs="+", help="banks; some may hold a few programs (default: those found here)"
    )
    for name, source in SOURCES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=source.help)
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--seconds_limit", type=float, default=0.0, help="stop after so long, and keep what is done")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if importlib.util.find_spec("tinysoundfont") is None:
            raise ValueError("rendering needs tinysoundfont: run `pip install --no-deps tinysoundfont`")
        soundfonts = tuple(arguments.soundfonts or find_soundfonts())
        missing = [str(path) for path in soundfonts if not path.is_file()]
        if missing or not soundfonts:
            raise ValueError(f"no such SoundFont: {missing[0]}" if missing else "no SoundFont was found")
        if not 0 <= arguments.solo_share <= 1 or arguments.quads < 1 or arguments.seconds <= 0:
            raise ValueError("solo_share must be from 0 to 1, and quads and seconds above 0")
        sources = tuple(
            source.find(folder) for name, source in SOURCES.items() if (folder := getattr(arguments, name)) is not None
        )
        scores = Recipe(arguments.output_dir, arguments.seed, arguments.seconds, soundfonts, soundfonts[0], sources)
        recipe = QuadRecipe(scores, arguments.solo_share)
        count = render_quads(recipe, arguments.quads, arguments.workers, arguments.seconds_limit)
    except BrokenProcessPool:
        logger.error("quads: a worker was killed, perhaps for lack of memory: start again with fewer --workers")
        return 2
    except (ValueError, OSError, ImportError) as error:
        logger.error("quads: %s", error)
        return 2
    logger.info("%d quads, %.1f hours in %s", count, count * 4 * arguments.seconds / 3600, arguments.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
