"""Find out which index of a trained profile is which key, which the loss leaves open, and whether it turns at all."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining
from mt2_music.music import signature
from mt2_music.song.keys import mean_profile
from mt2_music.train.pretrain.losses import profile_phase
from mt2_music.train.synth import compose, play_additive
from mt2_music.train.synth.corpus import key_of, read_rows
from mt2_music.train.synth.rows import GENERATED

PIECE_SECONDS = 12.0
PIECES_PER_KEY = 4  # of a corpus
PIECES_TO_TURN, TURNED_SECONDS = 3, 7.0


@torch.no_grad()
def calibrate_key(model: MT2ForPreTraining, extractor: MT2FeatureExtractor, corpus: Path | None = None) -> float:
    """Find out how far C major lies from profile index 0, and store it in the config.

    Short pieces are composed in every key, and their profiles estimated. The profiles are rotated back by the key
    signature and averaged as points on the circle of fifths, so that the answer need not be a whole step. The pieces
    modulate, as music does: on them, estimates are up to half a fifth sharper than on bare I-IV-V-I cadences. Rendered
    instruments are better than plain tones for the same reason: on them, estimates are up to another fifth of a fifth
    sharper. Such an offset matters to keys that lie between two indices.

    Args:
        model: trained, in evaluation mode, with an equivariant token.
        extractor: the front end it was trained with.
        corpus: rendered corpus; its composed training pieces, four in every key, are used instead of plain tones.

    Returns:
        Steps of a fifth, from 0 to below 12.

    Raises:
        FileNotFoundError, ValueError: there is no such corpus, or no composed piece with a key in it.
    """
    pieces = _composed_pieces(extractor.to_json_string()) if corpus is None else _rendered_pieces(extractor, corpus)
    total = torch.zeros(2)
    for piece_signature, features in pieces:
        total += profile_phase(mean_profile(model, features).roll(-piece_signature))
    fifths = math.atan2(total[1], total[0]) / (2 * math.pi) * 12 % 12
    model.config.key_calibration = round(fifths, 4) % 12
    return model.config.key_calibration


@torch.no_grad()
def turning(model: MT2ForPreTraining, extractor: MT2FeatureExtractor) -> float:
    """Measure how well the profile turns when music is transposed; its rotation and the key do not matter.

    A few pieces are played in all twelve transpositions. The phase of each profile is turned back by as much, which
    leaves one phase for all twelve if the model is equivariant.

    Returns:
        Length of the mean of these phases as points of the unit circle, averaged over the pieces: 1 if they turn
        exactly, about 0.3 if they are random, and 0 if they stay where they are.
    """
    lengths = []
    for transposed in _transposed_pieces(extractor.sampling_rate):
        phases = []
        for shift, audio in transposed.items():
            profile = mean_profile(model, extractor.extract(audio[None])[0])
            phases.append(torch.nn.functional.normalize(profile_phase(profile.roll(-shift)), dim=0))
        lengths.append(float(torch.stack(phases).mean(0).norm()))
    return sum(lengths) / len(lengths)


@lru_cache(maxsize=1)
def _transposed_pieces(sampling_rate: int) -> list[dict[int, Tensor]]:
    """Return a few pieces, each by transposition in semitones, (samples,)."""
    pieces = []
    for seed in range(PIECES_TO_TURN):
        score = compose(np.random.default_rng(seed), TURNED_SECONDS, 0, ("major", "minor")[seed % 2])
        score = score.excerpt(0, TURNED_SECONDS)
        played = {
            shift: play_additive(score.transposed(shift), np.random.default_rng(seed), sampling_rate)
            for shift in range(-6, 6)
        }
        pieces.append({shift: torch.from_numpy(audio) for shift, audio in played.items()})
    return pieces


def _rendered_pieces(extractor: MT2FeatureExtractor, corpus: Path) -> Iterator[tuple[int, Tensor]]:
    """Yield key signature and frames of pieces of a corpus that our generator composed, as many in every key."""
    used: Counter[str] = Counter()
    for row in read_rows(corpus):
        key = key_of(row)
        if row["split"] == "train" and row["source"] == GENERATED and key and used[key] < PIECES_PER_KEY:
            used[key] += 1
            yield signature(key), extractor(corpus / row["file"], return_tensors="pt")["input_features"][0]
    if not used:
        raise ValueError(f"{corpus} holds no composed training piece in one key")


@lru_cache(maxsize=2)
def _composed_pieces(extractor_settings: str) -> list[tuple[int, Tensor]]:
    """Return key signature and frames of every piece; cached, since an online probe calibrates many times."""
    extractor: Any = MT2FeatureExtractor.from_dict(json.loads(extractor_settings))
    pieces = []
    for tonic in range(12):
        for index, mode in enumerate(("major", "minor")):
            rng = np.random.default_rng([tonic, index])
            score = compose(rng, PIECE_SECONDS, tonic, mode, rich=True)
            audio = torch.from_numpy(play_additive(score, rng, extractor.sampling_rate))
            pieces.append((signature(str(score.key)), extractor.extract(audio[None])[0]))
    return pieces
