"""The weights that the authors of MT2 released, as a Hub folder of ours.

What is known of them is known from code of others that loads them: names, order of tokens, layout of attention.
What a file of weights cannot say are arguments here. Everything else is read off it and checked: a name or a size that
does not fit is refused, and so are weights whose key profile does not turn when music is transposed.

Shapes: D hidden size, N layers, H heads, E = D / H, K constant-Q bins, M mel bands.
"""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.feature_extraction.feature_extraction_mt2 import PUBLISHED_FRAMES
from mt2_music.options import RELEASED_ACTIVATION, RELEASED_LAYER_NORM_EPS
from mt2_music.storage import file_hash

from .calibrate import calibrate_key, turning
from .folder import check_target, write_folder

MIN_TURNING = 0.6  # random weights give about 0.1 to 0.2, a bare chroma of their front end 0.8, a trained model 1
HEAD_SIZE = 64
KINDS = ("weight", "bias")
NAMES = {  # theirs to ours, of what has weight and bias
    "norm_in_stone": "mt2.embeddings.cqt_norm",
    "linear_in_stone": "mt2.embeddings.cqt_projection",
    "norm_in_contrastive": "mt2.embeddings.mel_norm",
    "linear_in_contrastive": "mt2.embeddings.mel_projection",
    "backbone.norm": "mt2.layernorm",
    "linear_out_stone": "key_head.linear",
}
NAMES_IN_LAYERS = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
TOKENS = {"cls_stone": "mt2.embeddings.equivariant_token", "cls_contrastive": "mt2.embeddings.contrastive_token"}
# Constants of nnAudio's VQT and torchaudio's MelSpectrogram, which such modules keep among their weights.
FRONT_END = r"hcqt\.(?:.*\.)?(?:lowpass_filter|lenghts|cqt_kernels_(?:real|imag)_\d+)|spec\.(?:.*\.)?(?:window|fb)"


def convert(
    weights: Path,
    target: Path,
    weights_license: str,
    source: str,
    *,
    num_attention_heads: int | None = None,
    layer_norm_eps: float = RELEASED_LAYER_NORM_EPS,
    hidden_act: str = RELEASED_ACTIVATION,
    num_vqt_bins: int | None = None,
    replace: bool = False,
    unchecked: bool = False,
) -> float:
    """Turn a state dict of the released MT2 into a Hub folder; it appears complete or not at all.

    Args:
        weights: file that `torch.save` wrote of the state dict.
        target: folder to write.
        weights_license: licence of the weights, as the Hub spells it.
        source: where the weights come from, and what they were trained on; Markdown.
        num_attention_heads, layer_norm_eps, hidden_act, num_vqt_bins: as of `read_weights`.
        replace: put the model in the place of one published before.
        unchecked: also write a model whose profile does not turn; its card says so.

    Returns:
        How well the profile turns when music is transposed; see `turning`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, names or sizes that do not fit, or weights that do not turn; or `target`
            exists and is not to be or must not be replaced.
    """
    check_target(target, replace)
    state = load_state_dict(weights)
    model, extractor = read_weights(state, num_attention_heads, layer_norm_eps, hidden_act, num_vqt_bins)
    turns = turning(model, extractor)
    as_it_should = turns >= MIN_TURNING
    if not (as_it_should or unchecked):
        raise ValueError(
            f"{weights}: the key profile does not turn with transposed music ({turns:.2f}; at least {MIN_TURNING} is "
            "asked for): these weights are not understood, and nothing was written"
        )
    calibrate_key(model, extractor)
    config = model.config
    facts = {
        "name": target.name,
        "weights_license": weights_license,
        "training_data": f"Source of the weights: {source}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "converted": {"file": weights.name, "sha256": file_hash(weights), "turning": round(turns, 4)},
        "note": (
            "The weights were trained by others, and converted. Sizes were read off them. Assumed, as they do not say "
            f"it: {config.num_attention_heads} heads, `{config.hidden_act}`, {config.layer_norm_eps:g} in "
            "layer norms. The contrastive token has no projection.\n\n"
            "Check of the conversion: of pieces that were transposed to all twelve pitches, the profile turned with "
            f"the music to {turns:.2f} (1: exactly; about 0.3: at random; 0: not at all), "
            + ("as it should." if as_it_should else "**which it should: do not rely on this model.**")
        ),
    }
    write_folder(target, model.save_pretrained, extractor, facts)
    return turns


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Load a file of nothing but tensors by name, without running code of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is no file of weights that can be read safely: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__} that is no state dict: tensors by name are expected")
    return {str(name): value.float() for name, value in state.items()}


def read_weights(
    state: dict[str, Tensor],
    num_attention_heads: int | None = None,
    layer_norm_eps: float = RELEASED_LAYER_NORM_EPS,
    hidden_act: str = RELEASED_ACTIVATION,
    num_vqt_bins: int | None = None,
) -> tuple[MT2ForPreTraining, MT2FeatureExtractor]:
    """Make a model and its front end of the released state dict.

    Args:
        state: as of `load_state_dict`.
        num_attention_heads: which the weights do not say; by default each has 64 numbers.
        layer_norm_eps, hidden_act: which they do not say either.
        num_vqt_bins: bins of their constant-Q transform, of which the lowest are used; by default as many as the
            constants of the transform say if they are in the file, and otherwise as many as are used.

    Raises:
        ValueError: names that are not known, or lacking, all of which are listed; sizes that do not fit; or constants
            of another front end.
    """
    constants = {name: value for name, value in state.items() if re.fullmatch(FRONT_END, name)}
    state = {name: value for name, value in state.items() if name not in constants}
    positions = [name for name in state if re.fullmatch(r"pos_emb(\..*)?", name)]
    layers = {int(found[1]) for name in state if (found := re.match(r"backbone\.blocks\.(\d+)\.", name))}
    qkv_bias = any(name.endswith("attn.qkv.bias") for name in state)
    modules = NAMES | {
        f"backbone.blocks.{layer}.{theirs}": f"mt2.layers.{layer}.{ours}"
        for layer in range(len(layers))
        for theirs, ours in NAMES_IN_LAYERS.items()
    }
    renamed = TOKENS | {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules.items() for kind in KINDS}
    qkv = [
        f"backbone.blocks.{layer}.attn.qkv.{kind}" for layer in range(len(layers)) for kind in KINDS[: 1 + qkv_bias]
    ]
    expected = {*renamed, *qkv, *(positions or ["pos_emb"])}
    problems = [f"{name} is not known" for name in state if name not in expected]
    problems += [f"{name} is lacking" for name in sorted(expected - state.keys())]
    if not layers:
        problems.append("backbone.blocks.0 is lacking")
    if len(positions) > 1:
        problems.append(f"one table of positions is expected, not {', '.join(positions)}")
    if problems:
        raise ValueError("these are not the weights of MT2 as they are known: " + "; ".join(problems))
    hidden_size = state["cls_stone"].numel()
    num_bins, num_bands = (len(state[f"{norm}.weight"]) for norm in ("norm_in_stone", "norm_in_contrastive"))
    config = MT2Config.paper(
        hidden_size=hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=num_attention_heads or max(1, hidden_size // HEAD_SIZE),
        intermediate_size=len(state["backbone.blocks.0.mlp.fc1.weight"]),
        hidden_act=hidden_act,
        layer_norm_eps=layer_norm_eps,
        qkv_bias=qkv_bias,
        max_frames=PUBLISHED_FRAMES,
        num_cqt_bins=num_bins,
        num_transposition_bins=0,
        num_mel_bins=num_bands,
        projection_size=hidden_size,  # none is known: the identity stands for it
        projection_layers=1,
    )
    lengths = [value for name, value in constants.items() if name.endswith("lenghts")]
    all_bins = len(lengths[0]) if lengths else num_vqt_bins
    extractor = MT2FeatureExtractor(
        front_end="published",
        num_cqt_bins=num_bins,
        num_mel_bins=num_bands,
        num_vqt_bins=None if all_bins == num_bins else all_bins,
    )
    _check_constants(constants, extractor)
    ours = {new: state[old] for old, new in renamed.items()}
    table = state[positions[0]]
    ours["mt2.embeddings.position_embeddings"] = table[None] if table.ndim == 2 else table
    for name in qkv:
        layer, kind = name.split(".")[2], name.rpartition(".")[2]
        split = split_qkv(state[name], config.num_attention_heads)
        ours |= {f"mt2.layers.{layer}.attention.{one}_proj.{kind}": split[one] for one in "qkv"}
    for kind in KINDS:
        ours[f"key_head.linear.{kind}"] = _as_many_rows(ours[f"key_head.linear.{kind}"], num_bins)
    model = MT2ForPreTraining(config).eval()
    ours["projection_head.0.weight"], ours["projection_head.0.bias"] = torch.eye(hidden_size), torch.zeros(hidden_size)
    ours |= {name: value for name, value in model.state_dict().items() if name.startswith("key_head.running")}
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise ValueError(f"sizes of the weights do not fit together: {error}") from error
    return model, extractor


def split_qkv(joined: Tensor, num_heads: int) -> dict[str, Tensor]:
    """Split what maps to queries, keys and values, (3 * D, ...), whose rows are laid out (E, H, 3), the last fastest.

    Returns:
        "q", "k" and "v", each (D, ...) with rows laid out (H, E), as ours are.

    Raises:
        ValueError: rows that cannot be split so.
    """
    if len(joined) % (3 * num_heads):
        raise ValueError(f"{len(joined)} rows are not queries, keys and values of {num_heads} heads")
    by_kind = joined.unflatten(0, (-1, num_heads, 3)).transpose(0, 1).flatten(0, 1)
    return {kind: by_kind[:, index].contiguous() for index, kind in enumerate("qkv")}


def _as_many_rows(values: Tensor, num_rows: int) -> Tensor:
    """Give the layer before octave pooling as many rows as the model has bins: pooled, they say the same."""
    if len(values) == num_rows or len(values) % 12:
        return values
    return values.unflatten(0, (-1, 12)).mean(0).repeat(num_rows // 12, *[1] * (values.ndim - 1))


def _check_constants(constants: dict[str, Tensor], extractor: MT2FeatureExtractor) -> None:
    """Compare the constants of their front end with those of ours.

    Raises:
        ValueError: some differ; all are named.
    """
    (kernels, low_pass, factors), mel, _ = extractor._constants_on(torch.device("cpu"))
    real, imaginary = kernels.chunk(2)
    known = {
        "lowpass_filter": low_pass,
        "lenghts": factors[:, 0].square(),
        "real": real,
        "imag": imaginary,
        "window": torch.hann_window(extractor.n_fft),
        "fb": mel,
    }
    different = []
    for name, value in constants.items():
        last = name.rpartition(".")[2]
        want = known[last if last in known else last.split("_")[2]]
        if value.shape != want.shape or not torch.allclose(value, want, rtol=1e-4, atol=1e-4):
            different.append(name)
    if different:
        raise ValueError(f"the front end of these weights is not the one that is known: {', '.join(different)} differ")
