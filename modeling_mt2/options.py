"""Choices and defaults that functions and the `mt2` command share; imports nothing, so that `mt2 --help` is quick."""

DEFAULT_MODEL = "mt2-small-analysis"  # comes with the package; finds keys, chords, beats and tempo

VECTORS = ("mean", "equivariant", "contrastive")  # of a song; a model may lack one of the last two
TABLE_SUFFIXES = (".npz", ".parquet", ".arrow")

# Semitones up and down that keys are averaged over: of validation pieces as many are right without, but keys of music
# that is transposed follow more often with it.
DEFAULT_TRANSPOSITIONS = 1

NUM_SIMILAR = 10  # songs that are returned

# What the weights that the authors of MT2 released do not say of themselves, as it is usual.
RELEASED_LAYER_NORM_EPS, RELEASED_ACTIVATION = 1e-5, "gelu"

ONNX_INPUTS = ("waveform", "features")

PICTURE_SUFFIX = ".png"
