"""MT2: small, fast music representations that are good at harmony, for the Hugging Face ecosystem."""

import sys
import warnings
from importlib import import_module


def _hide_broken_torchaudio() -> None:
    # transformers imports torchaudio whenever its folder exists, so one built for another torch breaks everything.
    try:
        import_module("torchaudio")
    except ModuleNotFoundError:
        return
    except (ImportError, OSError, RuntimeError) as error:
        warnings.warn(
            f"the installed torchaudio does not load beside this torch ({error}); mt2_music does not need it, and "
            "hides it from transformers. Run `pip uninstall torchaudio`, or install the build made for your torch",
            stacklevel=3,
        )
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # as if it were not installed


_hide_broken_torchaudio()

from transformers import (  # noqa: E402
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForPreTraining,
)

from mt2_music.feature_extraction import MT2FeatureExtractor  # noqa: E402

from .configuration_mt2 import MT2Config  # noqa: E402
from .modeling_mt2 import (  # noqa: E402
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForPreTraining,
    MT2Model,
    MT2PreTrainedModel,
)

# With the package imported, Auto classes know MT2 without trust_remote_code, and whatever is saved carries its code.
AutoConfig.register("mt2", MT2Config, exist_ok=True)
AutoFeatureExtractor.register(MT2Config, MT2FeatureExtractor, exist_ok=True)
MT2Config.register_for_auto_class()
MT2FeatureExtractor.register_for_auto_class()
for _auto_class, _model_class in (
    (AutoModel, MT2Model),
    (AutoModelForPreTraining, MT2ForPreTraining),
    (AutoModelForAudioClassification, MT2ForAudioClassification),
    (AutoModelForAudioFrameClassification, MT2ForAudioFrameClassification),
):
    _auto_class.register(MT2Config, _model_class, exist_ok=True)
    _model_class.register_for_auto_class(_auto_class.__name__)

__all__ = [
    "MT2Config",
    "MT2FeatureExtractor",
    "MT2ForAudioClassification",
    "MT2ForAudioFrameClassification",
    "MT2ForPreTraining",
    "MT2Model",
    "MT2PreTrainedModel",
]
