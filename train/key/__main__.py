"""Fit a key classifier on a published model: `python -m mt2_music.train.key MODEL TARGET --corpus corpus`.

One linear layer is fitted on the frozen embeddings of the training pieces of a rendered corpus, also in other keys,
and of pieces of plain tones. The corpus's validation pieces choose the readout and the weight decay, and its test
pieces are not used. The new folder holds the whole model and the layer. `AutoModelForAudioClassification`,
`pipeline("audio-classification")` and `mt2 key` name keys with it. Every other Auto class loads the same as from the
model's own folder.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from mt2_music import MT2ForPreTraining
from mt2_music.interrupts import command
from mt2_music.loading import find_model, load_extractor, load_model
from mt2_music.train.publish.facts import FACTS_FILE, read_json
from mt2_music.train.publish.folder import check_target, write_folder
from mt2_music.train.publish.key_layer import FITTED_ON, READOUTS, fit_keys, with_keys

logger = logging.getLogger(__name__)


@command("key", "nothing was written but embeddings in the cache; start again to go on")
def main(argv: list[str] | None = None) -> int:
    """Fit and write a folder; return 0, or 2 when nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub name of a published model")
    parser.add_argument("target", type=Path, help="folder to write, such as model_cards/NAME-key")
    parser.add_argument("--corpus", type=Path, required=True, help="rendered corpus")
    parser.add_argument("--cache_dir", type=Path, default=Path("probe_cache"), help="where embeddings are kept")
    parser.add_argument("--weights_license", default="apache-2.0", help="licence of the weights, as the Hub spells it")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument("--replace", action="store_true", help="replace a model published to that folder before")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        check_target(arguments.target, arguments.replace)
        model = load_model(MT2ForPreTraining, arguments.model)
        extractor = load_extractor(arguments.model)
        pooling, probe = fit_keys(model, extractor, arguments.corpus, arguments.cache_dir, Path(arguments.model).name)
        classifier = with_keys(model, pooling, probe)
        # The heads of pre-training stay with it: one folder names keys with and without the layer.
        weights = {**model.state_dict(), **classifier.state_dict()}
        half = {name: tensor.half() for name, tensor in weights.items()} if arguments.half else weights
        facts = {
            "training_data": f"See the card of {arguments.model}.",  # of one on the Hub; a folder says more itself
            **read_json(Path(find_model(arguments.model)) / FACTS_FILE),
            "name": arguments.target.name,
            "weights_license": arguments.weights_license,
            "parameters": sum(tensor.numel() for tensor in weights.values()),
            "base": Path(arguments.model).name,
            "pieces": FITTED_ON,
            "readout": READOUTS[pooling],
            "validation": f"{100 * probe.validation:.1f} %",
        }
        save = partial(classifier.save_pretrained, state_dict=half)
        write_folder(arguments.target, save, extractor, facts)
    except (OSError, ValueError) as error:
        logger.error("key: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
