"""Data sets of the benchmark, one file each: a folder to labelled clips in splits."""

from .ballroom import load_ballroom_beats, load_ballroom_tempo
from .emomusic import load_emomusic
from .fma import load_fma
from .giantsteps import load_giantsteps_key
from .gtzan import load_gtzan_genre, load_gtzan_rhythm
from .jamendo import load_mtg_jamendo
from .magnatagatune import load_magnatagatune
from .nsynth import load_nsynth_instrument, load_nsynth_pitch
from .philharmonia import load_philharmonia_instrument, load_philharmonia_pitch

__all__ = [
    "load_ballroom_beats",
    "load_ballroom_tempo",
    "load_emomusic",
    "load_fma",
    "load_giantsteps_key",
    "load_gtzan_genre",
    "load_gtzan_rhythm",
    "load_magnatagatune",
    "load_mtg_jamendo",
    "load_nsynth_instrument",
    "load_nsynth_pitch",
    "load_philharmonia_instrument",
    "load_philharmonia_pitch",
]
