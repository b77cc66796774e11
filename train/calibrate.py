"""Find out which place of a trained profile is which key: the loss leaves the rotation open."""

import math

import numpy as np
import torch

from mt2_music.embed import mean_profile
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForPreTraining

from .losses import profile_phase
from .synth import Note, Score, play_additive

CHORD_SECONDS = 1.5


def pitch_fork(tonic: int, sampling_rate: int) -> np.ndarray:
    """Play I-IV-V-I in a major key with additive tones: audio whose key nobody doubts.

    Returns:
        Mono float32 (samples,).
    """
    notes = []
    for index, root in enumerate((0, 5, 7, 0)):
        start = index * CHORD_SECONDS
        for pitch in [36 + (tonic + root) % 12, *(48 + (tonic + root + step) % 12 for step in (0, 4, 7)),
                      *(60 + (tonic + root + step) % 12 for step in (0, 4, 7))]:  # fmt: skip
            notes.append(Note(start, start + CHORD_SECONDS, pitch, 90, "chords"))
    return play_additive(Score(tuple(notes)), np.random.default_rng(0), sampling_rate)


@torch.no_grad()
def calibrate_key(model: MT2ForPreTraining, extractor: MT2FeatureExtractor) -> float:
    """Find out how far C major lies from profile index 0, and store it in the config.

    Pitch forks on all twelve tonics are heard, turned back by their tonics, and averaged as points on the circle of
    fifths, so that the answer need not be a whole step.

    Args:
        model: trained, in evaluation mode, with an equivariant token.
        extractor: the front end it was trained with.

    Returns:
        Steps of a fifth, from 0 to below 12.
    """
    total = torch.zeros(2)
    for tonic in range(12):
        fork = pitch_fork(tonic, extractor.sampling_rate)
        features = extractor(fork, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"][0]
        total += profile_phase(mean_profile(model, features).roll(-tonic))
    fifths = math.atan2(total[1], total[0]) / (2 * math.pi) * 12 % 12
    model.config.key_calibration = round(fifths, 4) % 12
    return model.config.key_calibration
