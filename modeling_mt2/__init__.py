"""MT2: small, fast music representations that are good at harmony, for the Hugging Face ecosystem.

Names are imported when they are used: `import mt2_music` alone loads neither torch nor transformers. Whichever is
imported first, transformers' Auto classes know MT2 once both are.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .compat import connect_to_transformers

if TYPE_CHECKING:
    from .configuration_mt2 import MT2Config
    from .feature_extraction import MT2FeatureExtractor
    from .loading import list_models
    from .modeling_mt2 import (
        MT2ForAudioClassification,
        MT2ForAudioFrameClassification,
        MT2ForMusicAnalysis,
        MT2ForPreTraining,
        MT2Model,
        MT2PreTrainedModel,
    )
    from .music_model import FailedSong, MusicModel, load
    from .song.analysis import SongAnalysis
    from .song.embed import SongEmbedding
    from .song.keys import KeyEstimate
    from .song.timeline import Beats, ChordSegment, KeySegment

    __version__: str

_MODULES = {
    "Beats": "song.timeline",
    "ChordSegment": "song.timeline",
    "FailedSong": "music_model",
    "KeyEstimate": "song.keys",
    "KeySegment": "song.timeline",
    "MT2Config": "configuration_mt2",
    "MT2FeatureExtractor": "feature_extraction",
    "MT2ForAudioClassification": "modeling_mt2",
    "MT2ForAudioFrameClassification": "modeling_mt2",
    "MT2ForMusicAnalysis": "modeling_mt2",
    "MT2ForPreTraining": "modeling_mt2",
    "MT2Model": "modeling_mt2",
    "MT2PreTrainedModel": "modeling_mt2",
    "MusicModel": "music_model",
    "SongAnalysis": "song.analysis",
    "SongEmbedding": "song.embed",
    "list_models": "loading",
    "load": "music_model",
}

__all__ = [
    "Beats",
    "ChordSegment",
    "FailedSong",
    "KeyEstimate",
    "KeySegment",
    "MT2Config",
    "MT2FeatureExtractor",
    "MT2ForAudioClassification",
    "MT2ForAudioFrameClassification",
    "MT2ForMusicAnalysis",
    "MT2ForPreTraining",
    "MT2Model",
    "MT2PreTrainedModel",
    "MusicModel",
    "SongAnalysis",
    "SongEmbedding",
    "__version__",
    "list_models",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version("mt2-music")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


connect_to_transformers()
