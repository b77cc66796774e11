"""Make a complete Hub folder of a trained model: `python -m mt2_music.train.publish OUT model_cards/NAME`.

The folder holds card, licence, configs, weights and code, and loads with every Auto class on a machine without this
package. Nothing is uploaded unless `--push USER/NAME` says so.
"""

import argparse
import logging
import sys
from pathlib import Path

from mt2_music.interrupts import command

from .folder import publish
from .push import PushError, check_name, push

logger = logging.getLogger(__name__)


@command("publish", "nothing was published; start again")
def main(argv: list[str] | None = None) -> int:
    """Publish a folder; return 0, 1 when it was written and the Hub did not take it, or 2 when nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="output folder of pretrain, or a checkpoint in it")
    parser.add_argument("target", type=Path, help="folder to write, such as model_cards/NAME")
    parser.add_argument("--weights_license", default="apache-2.0", help="licence of the weights, as the Hub spells it")
    parser.add_argument(
        "--training_data",
        default="A private collection of music; the publisher gives no details of its licences.",
        help="what the model was trained on, and on what terms: text, or a file of Markdown",
    )
    parser.add_argument(
        "--note",
        default="",
        help="what else the card says about the training, such as its stages: text, or a file of Markdown",
    )
    parser.add_argument("--hardware", help='what the run computed on, for the card: such as "one H200 GPU"')
    parser.add_argument(
        "--corpus", type=Path, help="calibrate with its composed training pieces, not with plain tones"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument(
        "--push", metavar="USER/NAME", help="upload the folder to the Hub; without this option nothing is uploaded"
    )
    parser.add_argument("--replace", action="store_true", help="replace a model published to that folder before")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.push:
            check_name(arguments.push)
        publish(
            arguments.run_dir,
            arguments.target,
            arguments.weights_license,
            _text_of(arguments.training_data),
            name=arguments.push,
            replace=arguments.replace,
            half=arguments.half,
            corpus=arguments.corpus,
            note=_text_of(arguments.note),
            hardware=arguments.hardware,
        )
    except (OSError, ValueError) as error:
        logger.error("publish: %s", error)
        return 2
    try:
        if arguments.push:
            push(arguments.target, arguments.push)
    except (OSError, PushError, ValueError) as error:
        logger.error("publish: %s", error)
        return 1
    return 0


def _text_of(text_or_file: str) -> str:
    return Path(text_or_file).read_text(encoding="utf-8").strip() if text_or_file.endswith(".md") else text_or_file


if __name__ == "__main__":
    sys.exit(main())
