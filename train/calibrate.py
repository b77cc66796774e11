"""Find out which place of a trained profile is which key: the loss leaves the rotation open."""

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music.embed import mean_profile
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining

from .losses import profile_phase
from .synth import compose, play_additive
from .synth.score import signature

PIECE_SECONDS = 12.0


@torch.no_grad()
def calibrate_key(model: MT2ForPreTraining, extractor: MT2FeatureExtractor) -> float:
    """Find out how far C major lies from profile index 0, and store it in the config.

    Two short pieces in every signature, one in major and one in minor, are composed and heard; their profiles are
    turned back by the signature and averaged as points on the circle of fifths, so that the answer need not be a whole
    step. Pieces that modulate and not bare cadences: a model hears them up to half a fifth sharper than I-IV-V-I,
    and is to be right about music.

    Args:
        model: trained, in evaluation mode, with an equivariant token.
        extractor: the front end it was trained with.

    Returns:
        Steps of a fifth, from 0 to below 12.
    """
    total = torch.zeros(2)
    for piece_signature, features in _pieces(extractor.to_json_string()):
        total += profile_phase(mean_profile(model, features).roll(-piece_signature))
    fifths = math.atan2(total[1], total[0]) / (2 * math.pi) * 12 % 12
    model.config.key_calibration = round(fifths, 4) % 12
    return model.config.key_calibration


@lru_cache(maxsize=2)
def _pieces(extractor_settings: str) -> list[tuple[int, Tensor]]:
    """Key signature and frames of every piece; kept, since a run that is listened to calibrates many times."""
    extractor: Any = MT2FeatureExtractor.from_dict(json.loads(extractor_settings))
    pieces = []
    for tonic in range(12):
        for index, mode in enumerate(("major", "minor")):
            rng = np.random.default_rng([tonic, index])
            score = compose(rng, PIECE_SECONDS, tonic, mode, rich=True)
            audio = torch.from_numpy(play_additive(score, rng, extractor.sampling_rate))
            pieces.append((signature(str(score.key)), extractor.extract(audio[None])[0]))
    return pieces
