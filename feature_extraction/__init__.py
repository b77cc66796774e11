"""Audio in, spectrogram frames out.

On the Hub, `feature_extraction_mt2` is alone, and reads what libsndfile reads of a file. Here it reads all files, as
the rest of the package does.
"""

from .decoding import decode_file
from .feature_extraction_mt2 import MT2FeatureExtractor

MT2FeatureExtractor.read_file = staticmethod(decode_file)  # type: ignore[method-assign]

__all__ = ["MT2FeatureExtractor"]
