"""Fit one linear layer that names the 24 keys, and put it on a model."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.configuration_mt2 import POOLINGS
from mt2_music.music import key_name, transpose_key
from mt2_music.storage import atomic_path
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.clips import Clip
from mt2_music.train.probing.encoders import Embedding, MT2Encoder
from mt2_music.train.probing.probe import FittedProbe, fit_probe
from mt2_music.train.probing.tasks import TASKS, metric_of
from mt2_music.train.synth import compose, play_additive

logger = logging.getLogger(__name__)

TASK = TASKS["corpus-key"]
# What a layer of `MT2ForAudioClassification` can read, and what the benchmark calls it.
READOUTS = {name: "concatenation" if name == "concat" else name for name in POOLINGS}

# A training piece is also shown pitched up or down by so many of these, so that the layer knows every key in every
# register, as well as pieces of plain tones, which no SoundFont plays.
TRANSPOSITIONS, VIEWS_PER_PIECE = tuple(shift for shift in range(-6, 7) if shift), 2
NUM_PLAIN_PIECES, PLAIN_SECONDS = 320, 15.0
FITTED_ON = (
    f"the training pieces of a rendered corpus, in {1 + VIEWS_PER_PIECE} keys each, and of {NUM_PLAIN_PIECES} "
    "composed pieces of plain tones"
)


@dataclass(frozen=True)
class _TransposedClip(Clip):
    """A clip that is shown some semitones higher; its label is the key then."""

    transposition: int = 0


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
        cache_dir: where embeddings and pieces of plain tones are kept, and found if the benchmark has made them.
        name: of the model, as the benchmark calls it.
        seed: of the order of batches.

    Raises:
        FileNotFoundError, ValueError: there is no corpus, or it has too few pieces.
    """
    splits = TASK.load(corpus)
    room = model.config.num_transposition_bins // 2
    plain = list(_plain_pieces(cache_dir / "plain-tones"))
    used = {"train": [*_in_other_keys([*splits["train"], *plain], room)], "validation": splits["validation"]}
    caches = {
        shift: EmbeddingCache(
            cache_dir, MT2Encoder(model, extractor, name, (), str(model.device), shift), with_frames=False
        )
        for shift in {_shift_of(clip) for clip in used["train"]} | {0}
    }
    workers = torch.get_num_threads() if model.device.type == "cpu" else 1
    failed: dict[Clip, str] = {}
    for shift, cache in caches.items():
        failed |= cache.fill([clip for clips in used.values() for clip in clips if _shift_of(clip) == shift], workers)
    if failed:
        raise ValueError(f"{len(failed)} pieces cannot be used; {next(iter(failed.values()))}")

    def embed(clip: Clip) -> Embedding:
        return caches[_shift_of(clip)](clip)

    metric = metric_of(TASK)
    fitted = {}
    for pooling, readout in READOUTS.items():
        if readout in embed(used["train"][0]).vectors:
            fitted[pooling] = fit_probe(embed, used, readout, TASK.head, metric, TASK.main, seed)
            logger.info("%s: %s %.4f on validation", readout, TASK.main, fitted[pooling].validation)
    return max(fitted.items(), key=lambda item: item[1].validation)


def _shift_of(clip: Clip) -> int:
    return clip.transposition if isinstance(clip, _TransposedClip) else 0


def _in_other_keys(clips: list[Clip], room: int) -> Iterator[Clip]:
    """Yield every clip as it is, and in other keys: for one clip always the same ones."""
    shifts = [shift for shift in TRANSPOSITIONS if abs(shift) <= room]
    for clip in clips:
        yield clip
        digest = hashlib.sha256(f"{clip.path.name} {clip.start}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        for shift in rng.choice(shifts, min(VIEWS_PER_PIECE, len(shifts)), replace=False) if shifts else ():
            label = transpose_key(clip.label, int(shift))
            yield _TransposedClip(clip.path, label, clip.group, clip.start, clip.seconds, int(shift))


def _plain_pieces(folder: Path) -> Iterator[Clip]:
    """Compose pieces in all keys in turn, play them with plain tones, and keep them in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(NUM_PLAIN_PIECES):
        key = number % 12, ("major", "minor")[number // 12 % 2]
        path = folder / f"{number:03d} {key_name(*key)}.flac"
        if not path.exists():
            rng = np.random.default_rng([17, number])
            with atomic_path(path) as unfinished:
                audio = play_additive(compose(rng, PLAIN_SECONDS, *key), rng)
                soundfile.write(unfinished, audio, 16000, format="FLAC", subtype="PCM_16")
        yield Clip(path, key_name(*key), f"plain/{number}")


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
