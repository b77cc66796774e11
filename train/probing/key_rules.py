"""Keys without any training on keys: templates on a chroma, and the calibrated profile of MT2 itself."""

import numpy as np
import torch

from mt2_music.embed import key_calibration, mean_profile, rotate_to_c
from mt2_music.modeling_mt2 import MT2ForPreTraining
from mt2_music.train.synth.score import key_name

from .encoders import Embedding, MT2Encoder, SpectrogramStatistics

# Ratings of the twelve pitch classes in a major and a minor context, the tonic first.
# Source: Krumhansl & Kessler 1982, Tracing the dynamic changes in perceived tonal organization, Psychol. Review 89.
RATINGS = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


class KrumhanslTemplates(SpectrogramStatistics):
    """The key whose ratings correlate best with the mean chroma of the clip.

    Source: Krumhansl 1990, Cognitive foundations of musical pitch.
    """

    def __init__(self) -> None:
        super().__init__("chroma")

    def answer(self, embedding: Embedding) -> str:
        """Name the key of a clip."""
        return correlate(embedding.vectors["statistics"][:12])


def correlate(chroma: np.ndarray) -> str:
    """Return the key whose template correlates best with a chroma (12,), C first."""
    scores = {
        key_name(tonic, mode): np.corrcoef(np.roll(ratings, tonic), chroma)[0, 1]
        for mode, ratings in RATINGS.items()
        for tonic in range(12)
    }
    return max(scores, key=lambda key: scores[key])


class ZeroShotKey:
    """The key signature that a calibrated MT2 names.

    A profile knows signatures and no modes, so the answer is always the major key: right by "signature", and by the
    MIREX weights the relative minor counts 0.3.

    Args:
        encoder: of a calibrated pre-training model.
        transpositions: also pitch the music up by so many semitones up and down, turn the profiles back, and average.
    """

    def __init__(self, encoder: MT2Encoder, transpositions: int = 0) -> None:
        if not isinstance(encoder.model, MT2ForPreTraining):
            raise ValueError(f"{encoder.name} has no key head")
        key_calibration(encoder.model)
        self.encoder = encoder
        self.transpositions = transpositions
        self.name = f"{encoder.name}-key"
        self.sampling_rate = encoder.sampling_rate
        self.fingerprint = f"{encoder.fingerprint}-{encoder.model.config.key_calibration}-{transpositions}"

    @torch.no_grad()
    def embed(self, waveform: np.ndarray) -> Embedding:
        """Return the profile of one clip, C first."""
        model = self.encoder.model
        assert isinstance(model, MT2ForPreTraining)
        features = self.encoder.extractor.extract(torch.from_numpy(waveform)[None])[0]
        profile = mean_profile(model, features, self.transpositions)
        return Embedding({"profile": rotate_to_c(profile, key_calibration(model)).numpy()})

    def answer(self, embedding: Embedding) -> str:
        """Name the key of a clip: the major key of the signature."""
        return key_name(int(embedding.vectors["profile"].argmax()), "major")
