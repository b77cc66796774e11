"""Pre-train MT2 on a folder of music: `python -m mt2_music.train.pretrain --audio_dir DIR --output_dir OUT`.

The same line under `accelerate launch -m` trains on several processes. Killed and started again, it goes on from the
last complete checkpoint in OUT and ends with the same weights.
"""

import logging
import sys
from contextlib import nullcontext
from pathlib import Path

from mt2_music.interrupts import command
from mt2_music.train.run_folder import only_run_in

from .run import parse_arguments, pretrain


@command("pretrain", "the same command goes on from the last checkpoint, if there is one")
def main(argv: list[str] | None = None) -> None:
    """Train, and leave model, feature extractor, log and settings in the output folder."""
    arguments, training = parse_arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO if training.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(str(training.output_dir))
    output_dir.mkdir(parents=True, exist_ok=True)
    with only_run_in(output_dir) if training.process_index == 0 else nullcontext():
        pretrain(arguments, training, output_dir)


if __name__ == "__main__":
    main()
