"""Songs to embeddings, with a published model."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from mt2_music.feature_extraction import MT2FeatureExtractor

from .configuration_mt2 import MT2Config
from .modeling_mt2 import MT2Model, MT2PreTrainedModel

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


@torch.no_grad()
def embed_audio(
    model: MT2Model, extractor: MT2FeatureExtractor, audio: Any, sampling_rate: int | None = None
) -> dict[str, np.ndarray]:
    """Embed one song of any length.

    Args:
        model: in evaluation mode, as `from_pretrained` returns it.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path.
        sampling_rate: of samples, in hertz; files know theirs.

    Returns:
        float32 vectors (hidden_size,): "mean" of the class tokens, the best all-rounder, and each of "equivariant"
        (key, harmony) and "contrastive" (timbre, style) that the model has. The windows of a long song are averaged.

    Raises:
        ValueError, FileNotFoundError: the audio cannot be used; the message says why.
    """
    inputs = extractor([audio], sampling_rate=sampling_rate, return_tensors="pt").to(model.device)
    outputs = model(**inputs)
    embeddings = {
        "mean": outputs.pooler_output,
        "equivariant": outputs.equivariant_embeds,
        "contrastive": outputs.contrastive_embeds,
    }
    return {name: value[0].float().cpu().numpy() for name, value in embeddings.items() if value is not None}
