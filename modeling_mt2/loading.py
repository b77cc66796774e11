"""Open a published model by folder, Hub name or short name, and tell what it is."""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .configuration_mt2 import MT2Config
from .feature_extraction import MT2FeatureExtractor
from .modeling_mt2 import MT2PreTrainedModel
from .storage import content_hash

LoadedModel = TypeVar("LoadedModel", bound=MT2PreTrainedModel)


def load_model(model_class: type[LoadedModel], folder: str | Path) -> LoadedModel:
    """Load a published MT2 model for use, and refuse one that is not whole.

    Args:
        model_class: `MT2Model`, or `MT2ForPreTraining` for key signatures.
        folder: folder or Hub name.

    Raises:
        ValueError: it holds another kind of model, or lacks weights that the class needs: transformers would fill
            them with random numbers and only warn.
        OSError: nothing is there.
    """
    settings, _ = MT2Config.get_config_dict(folder)
    if settings.get("model_type") != MT2Config.model_type:
        raise ValueError(f"{folder} holds a model of type {settings.get('model_type')!r}, not mt2")
    loaded: Any = model_class.from_pretrained(folder, output_loading_info=True)
    model, report = loaded
    lacking = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} weights of {model_class.__name__}, such as {lacking[0]}")
    return model.eval()


class Provenance(NamedTuple):
    """What embeddings must share to be compared.

    Args:
        model: name of the published folder, or on the Hub.
        revision: commit on the Hub; of a folder, a hash of its weights.
        front_end: hash of the settings of the feature extractor.
    """

    model: str
    revision: str
    front_end: str


def provenance(folder: str | Path, model: MT2PreTrainedModel, extractor: MT2FeatureExtractor) -> Provenance:
    """Tell where embeddings come from.

    Args:
        folder: folder or Hub name that both were loaded from.
        model: loaded from there.
        extractor: loaded from there.
    """
    known = inspect.signature(MT2FeatureExtractor.__init__).parameters
    settings = {name: value for name, value in extractor.to_dict().items() if name in known}
    front_end = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    place = Path(folder)
    if not place.is_dir():
        return Provenance(str(folder), str(getattr(model.config, "_commit_hash", None)), front_end[:12])
    weights = "".join(content_hash(path) for path in sorted(place.resolve().glob("*.safetensors")))
    return Provenance(place.resolve().name, hashlib.sha256(weights.encode()).hexdigest()[:12], front_end[:12])


DEFAULT_MODEL = Path(__file__).parent / "model_cards" / "mt2-small-key"  # comes with the package
