"""Fill the card of a published model: `python -m mt2_music.train.card model_cards/NAME --results results.json`.

Everything a card says comes from files in the model's folder: what it was trained on (training.json), what the
benchmark measured (results.json, copied there by this command together with the scores of other models beside it), and
which test pieces it hears wrong. With `--corpus` and `--songs` the pictures are drawn anew.
"""

import argparse
import inspect
import json
import logging
import sys
from pathlib import Path

from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.report.report import load_results
from mt2_music.train.publish.card import fill_card
from mt2_music.train.publish.facts import CODE_FILES, FACTS_FILE, FIGURES_FOLDER, RESULTS_FILE

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Fill a card; return 0, or 2 when nothing was changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a published model")
    parser.add_argument("--results", type=Path, nargs="+", help="files of probing.run: this model's and others'")
    parser.add_argument("--layers", type=Path, help="file of probing.run with --layers, for the picture by layer")
    parser.add_argument("--corpus", type=Path, help="rendered corpus whose test pieces are heard")
    parser.add_argument("--songs", type=Path, help="folder of real recordings, one folder for each album or kind")
    parser.add_argument("--run", type=Path, help="output folder of the training run")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = arguments.model
    try:
        if not (folder / FACTS_FILE).is_file():
            raise FileNotFoundError(f"{folder} holds no {FACTS_FILE}: it was not published by mt2_music.train.publish")
        if arguments.results:
            models = load_results(arguments.results)
            if folder.name not in models:
                raise ValueError(f"the results hold no scores of {folder.name}, only of {', '.join(models)}")
            write_text_atomic(folder / RESULTS_FILE, json.dumps({"models": models}, indent=1) + "\n")
        from mt2_music.train.publish.figures import draw

        (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
        draw(folder, arguments.layers, arguments.corpus, arguments.songs, arguments.run)
        for name, module in CODE_FILES.items():
            write_text_atomic(folder / name, inspect.getsource(module))
        write_text_atomic(folder / "README.md", fill_card(folder))
    except (OSError, ValueError) as error:
        logger.error("card: %s", error)
        return 2
    logger.info("%s", folder / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
