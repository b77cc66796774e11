"""Fit one linear layer that names the 24 keys, and put it on a model."""

import logging
from pathlib import Path

import torch

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.configuration_mt2 import POOLINGS
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.encoders import MT2Encoder
from mt2_music.train.probing.probe import FittedProbe, fit_probe
from mt2_music.train.probing.tasks import TASKS, metric_of

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
    workers = torch.get_num_threads() if model.device.type == "cpu" else 1
    failed = cache.fill((clip for clips in used.values() for clip in clips), workers)
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
