"""Write the cards of published models: `python -m mt2_music.train.card model_cards/NAME --results results.json`.

Everything a card says comes from files in the model's folder: the training data (training.json), the scores of the
benchmark (results.json, which this command copies there with the scores of other models), and the mistakes on test
pieces. All scores go to results.md beside the card. `--corpus` and `--songs` redraw the pictures.
`--readme README.md` also writes README's claim and table, from the results of these models and of those that README
speaks of already. `--push USER/NAME` uploads the folder. The cards of all models here, and README:

    python -m mt2_music.train.card model_cards/mt2-* --readme README.md
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from mt2_music.interrupts import command
from mt2_music.storage import write_text_atomic
from mt2_music.train.probing.report.report import load_results
from mt2_music.train.publish.card import title_of, write_card
from mt2_music.train.publish.facts import FACTS_FILE, FIGURES_FOLDER, RESULTS_FILE, read_json, write_hub_files
from mt2_music.train.publish.push import PushError, check_name, push
from mt2_music.train.publish.readme import fill_readme

logger = logging.getLogger(__name__)


@command("card", "cards may be partly new; start again")
def main(argv: list[str] | None = None) -> int:
    """Fill a card; return 0, 1 when the Hub did not take the folder, or 2 when nothing was changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="folder of a published model")
    parser.add_argument("--results", type=Path, nargs="+", help="files of probing.run: this model's and others'")
    parser.add_argument(
        "--readme", type=Path, help="file whose claim and table of models are updated; its other models stay in it"
    )
    parser.add_argument("--layers", type=Path, help="file of probing.run with --layers, for the picture by layer")
    parser.add_argument("--corpus", type=Path, help="rendered corpus; keys of its test pieces are estimated")
    parser.add_argument("--songs", type=Path, help="folder of real recordings, one folder for each album or kind")
    parser.add_argument("--run", type=Path, help="output folder of the training run")
    parser.add_argument("--push", metavar="USER/NAME", help="name the model so, and upload its folder to the Hub")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    material = (arguments.results, arguments.layers, arguments.corpus, arguments.songs, arguments.run, arguments.push)
    try:
        if len(arguments.models) > 1 and any(material):
            raise ValueError(
                "--results, --layers, --corpus, --songs, --run and --push are of one model: name one folder"
            )
        if arguments.push:
            check_name(arguments.push)
            rename(arguments.models[0], arguments.push)
        for folder in arguments.models:
            refresh(folder, arguments.results, arguments.layers, arguments.corpus, arguments.songs, arguments.run)
        if arguments.readme is not None:
            write_text_atomic(
                arguments.readme, fill_readme(arguments.readme.read_text(encoding="utf-8"), arguments.models)
            )
            logger.info("%s", arguments.readme)
        if arguments.push:
            push(arguments.models[0], arguments.push)
    except PushError as error:
        logger.error("card: %s", error)
        return 1
    except (OSError, ValueError) as error:
        logger.error("card: %s", error)
        return 2
    return 0


def rename(folder: Path, name: str) -> None:
    """Let the card of a model load it from the Hub.

    Args:
        folder: of the model.
        name: USER/NAME; results know the model by NAME.

    Raises:
        FileNotFoundError, ValueError: there is no model, or it has another NAME.
    """
    facts = read_facts(folder)
    if title_of({"name": name}) != title_of(facts):
        raise ValueError(f"{folder} holds {title_of(facts)}: push it as USER/{title_of(facts)}, not as {name}")
    write_text_atomic(folder / FACTS_FILE, json.dumps({**facts, "name": name}, indent=1) + "\n")


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what a published folder says of its model.

    Raises:
        FileNotFoundError: it says nothing.
    """
    facts = read_json(folder / FACTS_FILE)
    if not facts:
        raise FileNotFoundError(f"{folder} holds no {FACTS_FILE}: it was not published by mt2_music.train.publish")
    return facts


def refresh(
    folder: Path,
    results: list[Path] | None,
    layers: Path | None,
    corpus: Path | None,
    songs: Path | None,
    run: Path | None,
) -> None:
    """Bring code, pictures, card and table of a published model up to date.

    Args:
        folder: of the model.
        results: files of the benchmark that take the place of results.json.
        layers, corpus, songs, run: what pictures are drawn from, as `draw` takes it.

    Raises:
        FileNotFoundError, ValueError: something of it is not what it should be; the card was not changed.
    """
    facts = read_facts(folder)
    if results:
        models, title = load_results(results), title_of(facts)
        if title not in models:
            raise ValueError(f"the results hold no scores of {title}, only of {', '.join(models)}")
        asked = set(models[title]["tasks"])  # what the model was not asked for says nothing about it
        for model in models.values():
            model["tasks"] = {task: scores for task, scores in model["tasks"].items() if task in asked}
        models = {name: model for name, model in models.items() if model["tasks"]}
        write_text_atomic(folder / RESULTS_FILE, json.dumps({"models": models}, indent=1) + "\n")
    from mt2_music.train.publish.figures import draw

    (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
    draw(folder, layers, corpus, songs, run)
    write_hub_files(folder)
    write_card(folder)
    logger.info("%s", folder / "README.md")


if __name__ == "__main__":
    sys.exit(main())
