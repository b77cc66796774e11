"""MT2: small, fast music representations that are good at harmony, for the Hugging Face ecosystem."""

import sys
import warnings
from importlib import import_module


def _hide_what_is_broken() -> None:
    # transformers imports these wherever they are installed, so one built for another torch or system breaks it all.
    for name in ("torchaudio", "soxr", "soundfile"):
        try:
            import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:
            warnings.warn(
                f"the installed {name} does not load ({error}), and is hidden from transformers. "
                f"Run `pip uninstall {name}`, or install the build of it that belongs to your system and your torch",
                stacklevel=3,
            )
            sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed


_hide_what_is_broken()

from transformers import (  # noqa: E402
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForPreTraining,
)

from .configuration_mt2 import MT2Config
from .feature_extraction import MT2FeatureExtractor
from .modeling_mt2 import (
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
