"""Open a published model by folder, Hub name or short name, and tell what it is: the one place that does.

A short name is that of a folder of `model_cards/`, which is installed with the package. A path wins over a short name
if there is a model, so a folder that is called "mt2-small" and holds anything else is in nobody's way.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from huggingface_hub import try_to_load_from_cache
from transformers.utils import logging

from .configuration_mt2 import MT2Config
from .feature_extraction import MT2FeatureExtractor
from .modeling_mt2 import (
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForMusicAnalysis,
    MT2ForPreTraining,
    MT2Model,
    MT2PreTrainedModel,
)
from .storage import content_hash

LoadedModel = TypeVar("LoadedModel", bound=MT2PreTrainedModel)

ARCHITECTURES: dict[str, type[MT2PreTrainedModel]] = {
    model_class.__name__: model_class
    for model_class in (
        MT2Model,
        MT2ForPreTraining,
        MT2ForAudioClassification,
        MT2ForMusicAnalysis,
        MT2ForAudioFrameClassification,
    )
}


def _packaged_models() -> Path:
    # A part of the package where it is installed; in a checkout (`pip install -e .`) it lies beside modeling_mt2/.
    package = Path(__file__).parent
    inside = package / "model_cards"
    return inside if inside.is_dir() else package.parent / "model_cards"


def list_models() -> list[str]:
    """List the short names of the models that come with the package, for `load` and `--model`."""
    return sorted(path.parent.name for path in _packaged_models().glob("*/config.json"))


def find_model(name: str | Path) -> str:
    """Return where a model is: its folder, or its Hub name, which is the only one that need not be there.

    Args:
        name: folder, short name (see `list_models`) or Hub name, tried in this order.

    Raises:
        FileNotFoundError: it can be none of them.
    """
    if (Path(name) / "config.json").is_file():
        return str(name)
    if name in list_models():
        return str(_packaged_models() / name)
    if Path(name).exists():
        raise FileNotFoundError(f"{name} holds no model: there is no config.json in it")
    if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name
    raise FileNotFoundError(
        f"there is no model {name}: give a folder, a model that comes with the package "
        f"({', '.join(list_models())}), or a Hub name such as USER/NAME"
    )


def load_config(name: str | Path) -> MT2Config:
    """Load the settings of a model by folder, Hub name or short name.

    Raises:
        ValueError: it is another kind of model.
        OSError: nothing is there.
    """
    folder = find_model(name)
    settings, _ = MT2Config.get_config_dict(folder)
    if settings.get("model_type") != MT2Config.model_type:
        raise ValueError(f"{name} holds a model of type {settings.get('model_type')!r}, not mt2")
    return MT2Config.from_pretrained(folder)


def load_extractor(name: str | Path) -> MT2FeatureExtractor:
    """Load the feature extractor that was published with a model, by folder, Hub name or short name."""
    return MT2FeatureExtractor.from_pretrained(find_model(name))


def load_model(
    model_class: type[LoadedModel],
    name: str | Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> LoadedModel:
    """Load a published MT2 model for use, in evaluation mode, and refuse one that is not whole.

    Args:
        model_class: such as `MT2Model`, or `MT2ForPreTraining` for key signatures.
        name: folder, Hub name or short name.
        device: where to compute (default: the CPU).
        dtype: of the weights, such as "bfloat16" (default: as they are stored).

    Raises:
        ValueError: it holds another kind of model, or lacks weights that the class needs: transformers would fill
            them with random numbers and only warn; or there is no such device or dtype.
        OSError: nothing is there.
    """
    load_config(name)
    options: dict[str, Any] = {} if dtype is None else {"dtype": _dtype(dtype)}
    folder = find_model(name)
    with _without_progress_bar() if Path(folder).is_dir() else nullcontext():
        loaded: Any = model_class.from_pretrained(folder, output_loading_info=True, **options)
    model, report = loaded
    lacking = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if lacking:
        raise ValueError(f"{name} lacks {len(lacking)} weights of {model_class.__name__}, such as {lacking[0]}")
    return model.eval() if device is None else to_device(model, device).eval()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    # Of reading the weights, which takes no time; a download shows how far it is.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_published(
    name: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> MT2PreTrainedModel:
    """Load a model as the class that its config names, so with every head that was published; as `load_model`."""
    return load_model(published_class(name), name, device, dtype)


def published_class(name: str | Path) -> type[MT2PreTrainedModel]:
    """Return the class of a model as it was published; `MT2Model` where its config does not say."""
    return ARCHITECTURES.get((load_config(name).architectures or [""])[0], MT2Model)


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f'dtype must be one of floating point, such as "float32" or "bfloat16", got {dtype!r}')
    return found


def default_device(local_rank: int = 0) -> str:
    """Return the device to compute on where none is asked for: a GPU where there is one.

    Args:
        local_rank: number of this process among those that share the machine, each of which takes the next GPU.
    """
    if torch.cuda.is_available():
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def to_device(model: LoadedModel, device: str | torch.device) -> LoadedModel:
    """Move a model to a device.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        model.to(torch.device(device))  # type: ignore[arg-type]
    except (AssertionError, RuntimeError) as refusal:
        raise ValueError(f"cannot compute on {str(device)!r}: {refusal}") from refusal
    return model


class Provenance(NamedTuple):
    """What made embeddings.

    Args:
        model: name of the published folder, or on the Hub; for people, and not compared.
        revision: hash of the weights, and of the settings of the model that shape embeddings.
        front_end: hash of the settings of the feature extractor.
    """

    model: str
    revision: str
    front_end: str

    def fits(self, other: "Provenance") -> bool:
        """Tell whether embeddings of both can be compared: a model may have been renamed, and nothing else changed."""
        return self[1:] == other[1:]


# Settings that no embedding depends on: of training, and of naming keys and labels.
NOT_IN_EMBEDDINGS = (
    "initializer_range",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "chroma_init",
    "center_profile",
    "profile_gain",
    "key_calibration",
    "pooling",
    "frame_labels",
    "num_context_layers",
    "context_size",
)


# Settings of feature extractors that came later: at their defaults they change nothing for embeddings made before.
LATER_SETTINGS = ("front_end", "num_vqt_bins")


def provenance(name: str | Path, model: MT2PreTrainedModel, extractor: MT2FeatureExtractor) -> Provenance:
    """Tell where embeddings come from.

    Args:
        name: folder, Hub name or short name that both were loaded from.
        model: loaded from there.
        extractor: loaded from there.
    """
    known = inspect.signature(MT2FeatureExtractor.__init__).parameters
    later = [(setting, known[setting].default) for setting in LATER_SETTINGS]
    chosen = [pair for pair in extractor.to_dict().items() if pair[0] in known and pair not in later]
    front_end = _short_hash(dict(chosen))
    place = Path(find_model(name))
    folder = place if place.is_dir() else _downloaded(str(name), model)
    weights = [content_hash(path) for path in sorted(folder.resolve().glob("*.safetensors"))]
    # Of settings, those that differ from the defaults: so a new one changes nothing for the models that do without.
    fields = [field for field in MT2Config.__annotations__ if field not in NOT_IN_EMBEDDINGS]
    settings, defaults = ({field: _listed(getattr(of, field)) for field in fields} for of in (model.config, MT2Config))
    changed = {field: value for field, value in settings.items() if value != defaults[field]}
    name = place.resolve().name if place.is_dir() else str(name)
    return Provenance(name, _short_hash([weights, changed]), front_end)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _downloaded(name: str, model: MT2PreTrainedModel) -> Path:
    """Return the folder of the cache that a model of the Hub was loaded from."""
    config = try_to_load_from_cache(name, "config.json", revision=getattr(model.config, "_commit_hash", None))
    if not isinstance(config, str):
        raise FileNotFoundError(f"the files of {name} are no longer in the cache: load the model again")
    return Path(config).parent
