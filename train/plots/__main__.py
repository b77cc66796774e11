"""Pictures of a training run and of a model's output: `python -m mt2_music.train.plots --model DIR song.ogg`.

Writes, for every song, its key signature profile around the circle of fifths, how alike its frames are to one another,
and what the class tokens attend to; and with `--run DIR`, losses and health of the representation over a run.
"""

import argparse
import logging
import sys
from pathlib import Path

from mt2_music.interrupts import command
from mt2_music.loading import load_extractor, load_model
from mt2_music.modeling_mt2 import MT2ForPreTraining

from .pictures import plot_song, plot_training

logger = logging.getLogger(__name__)


@command("plots", "start again")
def main(argv: list[str] | None = None) -> int:
    """Draw; return 0, or 2 when something could not be drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="*", type=Path, help="sound files")
    parser.add_argument("--model", help="published model that analyses the songs")
    parser.add_argument("--run", type=Path, help="output folder of pretrain; the run may be unfinished")
    parser.add_argument("--output_dir", type=Path, default=Path(), help="folder of the pictures (default: this one)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not (arguments.run or arguments.songs) or bool(arguments.songs) != bool(arguments.model):
        parser.error("give songs and a --model, or a --run, or both")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.run is not None:
            states = sorted(arguments.run.glob("**/trainer_state.json"), key=lambda path: path.stat().st_mtime)
            if not states:
                raise FileNotFoundError(
                    f"{arguments.run} holds no trainer_state.json: its first checkpoint is not there"
                )
            picture = arguments.output_dir / f"{arguments.run.name} training.png"
            plot_training(states[-1], picture)
            logger.info("%s", picture)
        if arguments.songs:
            model = load_model(MT2ForPreTraining, arguments.model)
            extractor = load_extractor(arguments.model)
            for song in arguments.songs:
                for picture in plot_song(model, extractor, song, arguments.output_dir):
                    logger.info("%s", picture)
    except (ValueError, OSError) as error:
        logger.error("plots: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
