"""Pre-train MT2 on a folder of music: `python -m mt2_music.train.pretrain --audio_dir DIR --output_dir OUT`.

The same line under `accelerate launch -m` trains on several processes. Killed and started again, it goes on from the
last complete checkpoint in OUT and ends with the same weights.
"""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from mt2_music.interrupts import command
from mt2_music.train.data.streaming import TooFewTracksError
from mt2_music.train.run_folder import only_run_in, refuse_divided_weights

from .run import begin, parse_arguments, train

logger = logging.getLogger(__name__)


@command("pretrain", "the same command goes on from the last checkpoint, if there is one")
def main(argv: list[str] | None = None) -> int:
    """Train, and leave model, feature extractor, log and settings in the output folder.

    Returns:
        0, or 2 when something is wrong with what was given.
    """
    with ExitStack() as stack:
        try:
            arguments, training = parse_arguments(sys.argv[1:] if argv is None else argv)
            level = logging.INFO if training.process_index == 0 else logging.ERROR
            logging.basicConfig(level=level, format="%(message)s")
            refuse_divided_weights(training)
            output_dir = Path(str(training.output_dir))
            output_dir.mkdir(parents=True, exist_ok=True)
            if training.process_index == 0:
                stack.enter_context(only_run_in(output_dir))
            trainer = begin(arguments, training, output_dir)
        except (ImportError, OSError, ValueError) as error:
            logger.error("pretrain: %s", error)
            return 2
        try:
            train(trainer, training, output_dir)
        except TooFewTracksError as error:  # a worker puts its traceback before the sentence
            logger.error("pretrain: %s", str(error).rpartition(f"{TooFewTracksError.__name__}: ")[2].strip())
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
