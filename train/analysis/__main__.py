"""Fit an analysis head on a published key model: `python -m mt2_music.train.analysis MODEL TARGET --corpus corpus`.

The head says of every frame which chord sounds, with its seventh, which key holds, how fast the beats are, and
whether there is a beat or a downbeat. It is fitted on the frozen frame tokens of the training pieces of a rendered
corpus, also in other keys, and of drums and noise without a chord. Validation pieces score it, and test pieces are not
used. The new folder holds the whole model, its key layer and the head: `mt2 analyze` and `mt2_music.load` use them.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mt2_music import MT2ForAudioClassification, MT2ForMusicAnalysis, MT2ForPreTraining
from mt2_music.interrupts import command
from mt2_music.loading import find_model, load_extractor, load_model, load_published
from mt2_music.song.keys import check_names_keys
from mt2_music.train.analysis.fit import STEPS, fit_head
from mt2_music.train.analysis.pieces import NUM_DRUMS, NUM_NOISES, VIEWS_PER_PIECE
from mt2_music.train.publish.facts import FACTS_FILE, read_json
from mt2_music.train.publish.folder import check_target, write_folder

logger = logging.getLogger(__name__)

FITTED_ON = (
    f"the training pieces of a rendered corpus, in {1 + VIEWS_PER_PIECE} keys each, and of {NUM_DRUMS} pieces of "
    f"drums alone and {NUM_NOISES} of noise"
)


@command("analysis", "nothing was written but frame tokens in the cache; start again to go on")
def main(argv: list[str] | None = None) -> int:
    """Fit and write a folder; return 0, or 2 when nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub name of a model that `mt2_music.train.key` made")
    parser.add_argument("target", type=Path, help="folder to write, such as model_cards/NAME-analysis")
    parser.add_argument("--corpus", type=Path, required=True, help="rendered corpus")
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where frame tokens are kept")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimiser (default: %(default)s)")
    parser.add_argument(
        "--head_of", help="published model of the same encoder whose head is taken over and scored; nothing is fitted"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument("--replace", action="store_true", help="replace a model published to that folder before")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        check_target(arguments.target, arguments.replace)
        model: Any = load_published(arguments.model)
        check_names_keys(model)
        if not isinstance(model, MT2ForAudioClassification):
            raise ValueError(f"{arguments.model} names key signatures only: fit its key layer first, by train.key")
        extractor = load_extractor(arguments.model)
        name = Path(arguments.model).name
        head_of: Any = load_published(arguments.head_of) if arguments.head_of else None
        if head_of is not None and not isinstance(head_of, MT2ForMusicAnalysis):
            raise ValueError(f"{arguments.head_of} has no analysis head")
        fit = partial(fit_head, steps=arguments.steps, head_of=head_of)
        analysis, scores = fit(model, extractor, arguments.corpus, arguments.cache_dir, name)
        for score, value in scores.items():
            logger.info("%s: %.4f on validation", score, value)
        # The heads of pre-training stay with it: one folder names keys with and without the layer.
        weights = {**load_model(MT2ForPreTraining, arguments.model).state_dict(), **analysis.state_dict()}
        half = {name: tensor.half() for name, tensor in weights.items()} if arguments.half else weights
        published = read_json(Path(find_model(arguments.model)) / FACTS_FILE)
        facts = {
            "training_data": f"See the card of {arguments.model}.",  # of one on the Hub; a folder says more itself
            "weights_license": "apache-2.0",
            **published,
            "name": arguments.target.name,
            "parameters": sum(tensor.numel() for tensor in weights.values()),
            "key_model": published.get("key_model", name),
            "frame_pieces": FITTED_ON,
            "frame_scores": {score: round(value, 4) for score, value in scores.items()},
        }
        write_folder(arguments.target, partial(analysis.save_pretrained, state_dict=half), extractor, facts)
    except (OSError, ValueError) as error:
        logger.error("analysis: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
