"""Fit the analysis head on frozen frame tokens, and score it.

Shapes: B stretches, T frames, D hidden size.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForMusicAnalysis
from mt2_music.modeling_mt2 import MT2AnalysisHead
from mt2_music.song.analysis import FRAME_LABELS, TEMPI, split_groups
from mt2_music.song.decode import find_bars, find_beats
from mt2_music.train.probing.cache import EmbeddingCache
from mt2_music.train.probing.encoders import MT2Encoder
from mt2_music.train.probing.metrics import load_metric
from mt2_music.train.synth.corpus import read_rows

from .pieces import UNKNOWN, Piece, chordless_pieces, corpus_pieces

logger = logging.getLogger(__name__)

STEPS, STRETCHES, STRETCH_FRAMES = 5000, 16, 768
LEARNING_RATE, WEIGHT_DECAY, WARMUP, DROPOUT = 2e-3, 0.02, 0.05, 0.1
BEAT_WEIGHT = 4.0  # of the loss of beats, beside those of chords, sevenths and keys
WORKERS, LOG_STEPS = 2, 500
CLASSES = ("chord", "seventh", "key", "tempo")  # of these one is right in every frame


class Tokens:
    """Frame tokens of pieces, computed once and kept on disk, with what is right in every frame.

    Args:
        model, extractor: whose tokens.
        cache_dir: where they are kept.
        name: of the model.
    """

    def __init__(
        self, model: MT2ForAudioClassification, extractor: MT2FeatureExtractor, cache_dir: Path, name: str
    ) -> None:
        self.model, self.extractor, self.cache_dir, self.name = model, extractor, cache_dir, name
        self._caches: dict[int, EmbeddingCache] = {}

    def _cache(self, shift: int) -> EmbeddingCache:
        if shift not in self._caches:
            encoder = MT2Encoder(self.model, self.extractor, self.name, (), str(self.model.device), shift)
            self._caches[shift] = EmbeddingCache(self.cache_dir, encoder)
        return self._caches[shift]

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Compute what is missing.

        Raises:
            ValueError: a piece cannot be used.
        """
        for shift in sorted({piece.transposition for piece in pieces}):
            failed = self._cache(shift).fill([piece.clip for piece in pieces if piece.transposition == shift], WORKERS)
            if failed:
                raise ValueError(f"{len(failed)} pieces cannot be used; {next(iter(failed.values()))}")

    def __call__(self, piece: Piece) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the tokens of a piece, (T, D) in half precision, and its targets."""
        tokens = self._cache(piece.transposition)(piece.clip).frames["frames"]
        return tokens, piece.targets(len(tokens), self.model.config.frame_rate)


def head_loss(logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """Sum the losses of chords, sevenths, keys, tempi and beats: of logits (B, T, C), against (B, T) and (B, T, 2)."""
    groups = split_groups(logits)
    total = logits.new_zeros(())
    for name in CLASSES:
        losses = torch.nn.functional.cross_entropy(
            groups[name].flatten(0, 1), targets[name].flatten(), ignore_index=UNKNOWN, reduction="sum"
        )
        total = total + losses / (targets[name] != UNKNOWN).sum().clamp(min=1)
    known = targets["beat"] >= 0
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        groups["beat"], targets["beat"].clamp(min=0), reduction="none"
    )
    return total + BEAT_WEIGHT * (losses * known).sum() / known.sum().clamp(min=1)


def fit_head(
    model: MT2ForAudioClassification,
    extractor: MT2FeatureExtractor,
    corpus: Path,
    cache_dir: Path,
    name: str,
    steps: int = STEPS,
    seed: int = 0,
    head_of: MT2ForMusicAnalysis | None = None,
) -> tuple[MT2ForMusicAnalysis, dict[str, float]]:
    """Fit an analysis head beside the key layer of a model, or take one over, and score it on validation pieces.

    Args:
        model, extractor: from one published folder; the model names keys.
        corpus: rendered corpus; training and validation pieces are used.
        cache_dir: where tokens and sounds without chords are kept, and found if they were made before.
        name: of the model.
        steps: of the optimiser; the learning rate falls to zero.
        seed: of weights, stretches and dropout.
        head_of: model whose head is taken over as it is; its frame tokens must be those of `model`.

    Returns:
        The model with both heads, in evaluation mode, and its scores on validation; see `score_head`.

    Raises:
        FileNotFoundError, ValueError: there is no corpus, or pieces cannot be used; or the encoders differ.
    """
    if head_of is not None and not _same_encoder(model, head_of):
        raise ValueError(f"the head cannot be taken over: the encoder it was fitted on is not that of {name}")
    rows = read_rows(corpus)
    room = model.config.num_transposition_bins // 2
    training = [*corpus_pieces(corpus, rows, "train", room), *chordless_pieces(cache_dir / "chordless")]
    validation = list(corpus_pieces(corpus, rows, "validation"))
    if not training or not validation:
        raise ValueError(f"{corpus} has too few pieces with chords, keys or beats")
    tokens = Tokens(model, extractor, cache_dir, name)
    analysis = with_head(model, seed)
    if head_of is not None:
        analysis.analysis_head.load_state_dict(head_of.analysis_head.state_dict())
    else:
        tokens.fill(training)
        _fit([tokens(piece) for piece in training], analysis.analysis_head, steps, seed)
    tokens.fill(validation)
    analysis.eval()
    return analysis, score_head(analysis, tokens, validation)


def _same_encoder(model: MT2ForAudioClassification, other: MT2ForAudioClassification) -> bool:
    """Tell whether two models make the same tokens, as far as weights and sizes decide that."""
    mine, theirs = model.mt2.state_dict(), other.mt2.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def with_head(model: MT2ForAudioClassification, seed: int) -> MT2ForMusicAnalysis:
    """Put a new analysis head beside the key layer of a model."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.frame_labels = list(FRAME_LABELS)
    torch.manual_seed(seed)
    analysis = MT2ForMusicAnalysis(config)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("analysis_head.")}
    analysis.load_state_dict(weights, strict=False)
    return analysis


def _fit(
    pieces: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]], head: MT2AnalysisHead, steps: int, seed: int
) -> None:
    """Train a head with AdamW on random stretches; tokens are standardised, and the head takes that over."""
    sample = np.concatenate([tokens[::50] for tokens, _ in pieces]).astype(np.float32)
    mean, deviation = torch.from_numpy(sample.mean(0)), torch.from_numpy(sample.std(0)).clamp(min=1e-6)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARMUP)
    head.dropout.p = DROPOUT
    head.train()
    for step in range(1, steps + 1):
        inputs, targets = _batch(pieces, rng)
        loss = head_loss(head((inputs - mean) / deviation), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % LOG_STEPS == 0 or step == steps:
            logger.info("step %d of %d: loss %.3f", step, steps, float(loss.detach()))
    head.dropout.p = 0.0
    with torch.no_grad():
        weight = head.projection.weight / deviation
        head.projection.bias.sub_(weight @ mean)
        head.projection.weight.copy_(weight)


def _batch(
    pieces: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]], rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw stretches: tokens (B, T, D) and targets; behind the end of a short piece nothing is known."""
    inputs, targets = [], []
    for place in rng.integers(len(pieces), size=STRETCHES):
        tokens, right = pieces[place]
        start = int(rng.integers(max(1, len(tokens) - STRETCH_FRAMES + 1)))
        stretch = slice(start, start + STRETCH_FRAMES)
        inputs.append(_padded(tokens[stretch].astype(np.float32), 0.0))
        targets.append({name: _padded(values[stretch], UNKNOWN) for name, values in right.items()})
    joined = {name: torch.from_numpy(np.stack([one[name] for one in targets])) for name in targets[0]}
    return torch.from_numpy(np.stack(inputs)), joined


def _padded(values: np.ndarray, value: float) -> np.ndarray:
    missing = STRETCH_FRAMES - len(values)
    return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)], constant_values=value)


@torch.no_grad()
def score_head(model: MT2ForMusicAnalysis, tokens: Tokens, pieces: Sequence[Piece]) -> dict[str, float]:
    """Score a head on pieces.

    Returns:
        "chord", "seventh", "key" and "tempo": share of the frames that are right before any decoding; "beat" and
        "downbeat": F1 at 70 ms, decoded.
    """
    right: dict[str, list[int]] = {name: [0, 0] for name in CLASSES}
    beats: dict[str, tuple[list[Any], list[Any]]] = {"beat": ([], []), "downbeat": ([], [])}
    rate = model.config.frame_rate
    for piece in pieces:
        values, targets = tokens(piece)
        logits = model.analysis_head(torch.from_numpy(values.astype(np.float32))[None])[0]
        groups = split_groups(logits)
        for name, counts in right.items():
            known = targets[name] != UNKNOWN
            counts[0] += int((groups[name].argmax(1).numpy() == targets[name])[known].sum())
            counts[1] += int(known.sum())
        if piece.row["beats"]:
            probabilities = groups["beat"].sigmoid().numpy()
            tempo_scores = groups["tempo"].log_softmax(1).numpy()
            times = find_beats(probabilities[:, 0], rate, np.array(TEMPI), tempo_scores)
            positions = find_bars(probabilities[:, 1], times, rate)
            for name, found, wanted in (
                ("beat", times, piece.row["beats"]),
                ("downbeat", times[positions == 1], [beat for beat in piece.row["beats"] if beat["position"] == 1]),
            ):
                beats[name][0].append([float(time) for time in found])
                beats[name][1].append([beat["time"] for beat in wanted])
    scores = {name: correct / max(1, total) for name, (correct, total) in right.items()}
    metric = load_metric("beat")
    for name, (found, wanted) in beats.items():
        scores[name] = metric.compute(predictions=found, references=wanted)["f1"]
    return scores
