"""Teach a published model the 24 keys: `python -m mt2_music.train.key MODEL TARGET --corpus corpus`.

One linear layer is fitted on the frozen embeddings of the training pieces of a rendered corpus; its validation pieces
choose what it reads and how it is regularised, and its test pieces are not looked at. The new folder holds all of the
model and the layer: `AutoModelForAudioClassification`, `pipeline("audio-classification")` and `mt2 key` name keys with
it, and every other Auto class finds in it what the model's own folder holds.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

import torch

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.configuration_mt2 import POOLINGS
from mt2_music.embed import load_model

from .card import FACTS_FILE, read_json
from .probing.cache import EmbeddingCache
from .probing.encoders import MT2Encoder
from .probing.probe import FittedProbe, fit_probe
from .probing.tasks import TASKS, metric_of
from .publish import check_target, write_folder

logger = logging.getLogger(__name__)

TASK = TASKS["corpus-key"]
# What a layer of `MT2ForAudioClassification` can read, and what the benchmark calls it.
READOUTS = {name: "concatenation" if name == "concat" else name for name in POOLINGS}


def fit_keys(
    model: MT2ForPreTraining,
    extractor: MT2FeatureExtractor,
    corpus: Path,
    cache_dir: Path,
    name: str = "mt2",
    seed: int = 0,
) -> tuple[str, FittedProbe]:
    """Fit one layer on every readout of a model; return the best on validation, after the name of its pooling.

    Args:
        model, extractor: from one published folder.
        corpus: rendered corpus; training and validation pieces are used.
        cache_dir: where embeddings are kept, and found if the benchmark has made them.
        name: of the model, as the benchmark calls it.
        seed: of the order of batches.

    Raises:
        FileNotFoundError, ValueError: there is no corpus, or it has too few pieces.
    """
    splits = TASK.load(corpus)
    cache = EmbeddingCache(cache_dir, MT2Encoder(model, extractor, name, (), str(model.device)), with_frames=False)
    used = {name: splits[name] for name in ("train", "validation")}
    failed = cache.fill(clip for clips in used.values() for clip in clips)
    if failed:
        raise ValueError(f"{len(failed)} pieces cannot be used; {next(iter(failed.values()))}")
    metric = metric_of(TASK)
    fitted = {}
    for pooling, readout in READOUTS.items():
        if readout in cache(used["train"][0]).vectors:
            fitted[pooling] = fit_probe(cache, used, readout, TASK.head, metric, TASK.main, seed)
            logger.info("%s: %s %.4f on validation", readout, TASK.main, fitted[pooling].validation)
    return max(fitted.items(), key=lambda item: item[1].validation)


@torch.no_grad()
def with_keys(model: MT2ForPreTraining, pooling: str, probe: FittedProbe) -> MT2ForAudioClassification:
    """Put a fitted layer on a model: the same logits as the probe's, from the embedding itself."""
    names = probe.head.names  # type: ignore[attr-defined]
    config = type(model.config).from_dict(model.config.to_dict())
    config.pooling = pooling
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "single_label_classification"
    classifier = MT2ForAudioClassification(config).eval()
    classifier.mt2.load_state_dict(model.mt2.state_dict())
    weight = probe.layer.weight / probe.deviation
    classifier.classifier.weight.copy_(weight)
    classifier.classifier.bias.copy_(probe.layer.bias - weight @ probe.mean)
    return classifier


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
        extractor = MT2FeatureExtractor.from_pretrained(arguments.model)
        pooling, probe = fit_keys(model, extractor, arguments.corpus, arguments.cache_dir, Path(arguments.model).name)
        classifier = with_keys(model, pooling, probe)
        # The heads of pre-training stay with it: one folder names keys with and without the layer.
        weights = {**model.state_dict(), **classifier.state_dict()}
        half = {name: tensor.half() for name, tensor in weights.items()} if arguments.half else weights
        facts = {
            "training_data": f"See the card of {arguments.model}.",  # of one on the Hub; a folder says more itself
            **read_json(Path(arguments.model) / FACTS_FILE),
            "name": arguments.target.name,
            "weights_license": arguments.weights_license,
            "parameters": sum(tensor.numel() for tensor in weights.values()),
            "base": Path(arguments.model).name,
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
