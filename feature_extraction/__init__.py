"""Audio in, spectrogram frames out."""

from .feature_extraction_mt2 import MT2FeatureExtractor

__all__ = ["MT2FeatureExtractor"]
