"""MT2: a transformer over one-dimensional spectrogram patches with an equivariant and a contrastive class token.

One frame of the front end (constant-Q bins and mel bands) is one patch and one token. The tokens are, in this order,
[equivariant, contrastive, frame 0, frame 1, ...]; a model may have only one of the class tokens.

Shapes: B clips, T frames, W windows of at most `max_frames` frames, C class tokens, D hidden size.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_mt2 import MT2Config

NOT_TAKEN = ("input_ids", "inputs_embeds", "labels")  # PEFT passes them to every model, as None
VARIANCE_FLOOR = 1e-6  # keeps the deviation of a constant differentiable
WINDOWS_PER_CHUNK = 64  # windows encoded at once when a long input is cut up: bounds memory, changes no result


@dataclass
class MT2ModelOutput(ModelOutput):
    """What `MT2Model` returns.

    Args:
        last_hidden_state: frame tokens of the last layer, (B, T, D), one every `config.hop_length` samples.
        pooler_output: mean of the class tokens, (B, D): the best all-rounder.
        equivariant_embeds: class token trained to follow transposition, (B, D): key and harmony.
        contrastive_embeds: class token trained to tell songs apart, (B, D): timbre, style.
        hidden_states: with `output_hidden_states`, the embeddings and the output of every layer before the final
            norm, each (B, C + T, D), class tokens first.
        attentions: with `output_attentions`, the weights of every layer, each (B * W, heads, C + frames, C + frames)
            where W is 1 and frames is T unless the input is longer than `config.max_frames`.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    equivariant_embeds: Tensor | None = None
    contrastive_embeds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class MT2ForPreTrainingOutput(MT2ModelOutput):
    """What `MT2ForPreTraining` returns: all of `MT2ModelOutput`, and what the two losses need.

    Args:
        key_logits: octave-pooled logits before centring, (B, 12); None without an equivariant token.
        key_signature_profile: probabilities over 12 key signatures that sum to 1, (B, 12), float32. Index i is one
            semitone above index i - 1; which key index 0 is, training leaves open (`config.key_calibration`).
        projection: projected contrastive token, (B, projection_size); None without a contrastive token.
        frame_projection: projected frame tokens, (B, T, frame_projection_size); None without that head.
        tempo_logits: of classes of tempo, from the first class token, (B, num_tempo_classes), or None.
        cepstrum: cepstral statistics read off the contrastive token, (B, 2 * num_cepstral_coefficients), or None.
        spectrum: mean spectrum read off the equivariant token, (B, num_spectrum_bins), or None.
        loss: of pairs of windows; None otherwise.
    """

    loss: Tensor | None = None
    key_logits: Tensor | None = None
    key_signature_profile: Tensor | None = None
    projection: Tensor | None = None
    frame_projection: Tensor | None = None
    tempo_logits: Tensor | None = None
    cepstrum: Tensor | None = None
    spectrum: Tensor | None = None


class MT2ChromaLinear(nn.Linear):
    """A linear layer that `chroma_init` starts as the identity on as many units as both sides have."""


class MT2Embeddings(nn.Module):
    """Spectrogram frames to tokens."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.config = config
        self.cqt_norm = nn.LayerNorm(config.num_cqt_bins, eps=config.layer_norm_eps)
        self.cqt_projection = MT2ChromaLinear(config.num_cqt_bins, config.hidden_size)
        self.mel_norm = nn.LayerNorm(config.num_mel_bins, eps=config.layer_norm_eps)
        self.mel_projection = nn.Linear(config.num_mel_bins, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        if config.contrastive_deviation and "contrastive" in config.class_tokens:
            self.deviation_projection = nn.Linear(config.hidden_size, config.hidden_size)
        for name in config.class_tokens:
            self.register_parameter(f"{name}_token", nn.Parameter(torch.zeros(config.hidden_size)))
        num_positions = len(config.class_tokens) + config.max_frames
        self.position_embeddings = nn.Parameter(torch.zeros(1, num_positions, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None,
        transposition: Tensor | int | None,
        mel_mask: Tensor | None,
    ) -> Tensor:
        cqt = self._crop(input_features, transposition)
        mel = input_features[:, :, -self.config.num_mel_bins :]
        if self.config.mel_level is not None:
            mel = _levelled(mel, attention_mask, self.config.mel_level)
        branches = {
            "equivariant": self.activation(self.cqt_projection(self.cqt_norm(cqt))),
            "contrastive": self.activation(self.mel_projection(self.mel_norm(mel))),
        }
        if mel_mask is not None:
            branches["contrastive"] = branches["contrastive"] * mel_mask[:, None, None].to(mel.dtype)
        means = {name: _masked_mean(branches[name], attention_mask) for name in self.config.class_tokens}
        tokens = {name: getattr(self, f"{name}_token") + mean[:, None] for name, mean in means.items()}
        if self.config.contrastive_deviation and "contrastive" in means:
            centred = branches["contrastive"] - means["contrastive"][:, None]
            deviation = (_masked_mean(centred.square(), attention_mask) + VARIANCE_FLOOR).sqrt()
            tokens["contrastive"] = tokens["contrastive"] + self.deviation_projection(deviation)[:, None]
        embeddings = torch.cat(
            [*tokens.values(), branches["equivariant"] + branches["contrastive"]], dim=1
        )  # (B, C + T, D)
        return self.dropout(embeddings + self.position_embeddings[:, : embeddings.shape[1]])

    def _crop(self, input_features: Tensor, transposition: Tensor | int | None) -> Tensor:
        """Take the bins the encoder sees; a crop that starts one bin lower shows the music one bin higher."""
        num_bins, first = self.config.num_cqt_bins, self.config.cqt_offset
        if transposition is None:
            return input_features[:, :, first : first + num_bins]
        starts = first - torch.as_tensor(transposition, device=input_features.device).expand(len(input_features))
        outside = (starts < 0) | (starts > self.config.num_transposition_bins)
        if not torch.compiler.is_compiling() and outside.any():
            raise ValueError(
                f"transposition must lie between {first - self.config.num_transposition_bins} and {first} bins, got "
                f"{transposition}"
            )
        index = starts[:, None] + torch.arange(num_bins, device=starts.device)
        return input_features.gather(2, index[:, None].expand(-1, input_features.shape[1], -1))


def _levelled(mel: Tensor, attention_mask: Tensor | None, level: float) -> Tensor:
    """Shift the mel half of each window to one level; bands at their floor, 0, say nothing of it and stay."""
    levels = mel.amax(2)
    loudest = (levels if attention_mask is None else levels.masked_fill(~attention_mask.bool(), 0.0)).amax(1)
    return torch.where(mel > 0, (mel + (level - loudest)[:, None, None]).clamp(min=0.0), mel)


def _masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the frames that the mask keeps, (B, T, D) to (B, D); zero where it keeps none."""
    if mask is None:
        return tokens.mean(dim=1)
    weights = mask.float()  # counts of frames do not fit into half precision
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return (tokens * weights.to(tokens.dtype)[:, :, None]).sum(dim=1)


def frame_levels(input_features: Tensor, config: MT2Config) -> Tensor:
    """Return the loudest mel band of every frame, (..., T, input_size) to (..., T); 1 is 100 dB."""
    return input_features[..., -config.num_mel_bins :].amax(-1)


def sounding_frames(levels: Tensor, config: MT2Config, attention_mask: Tensor | None = None) -> Tensor:
    """Tell which frames hold sound: silent ones have no weight in class tokens, keys and song vectors.

    A frame is silent if its loudest mel band lies more than `config.silence_range` below that of the loudest frame of
    its clip, 45 dB as published, or below `config.silence_floor`, about where 16-bit dither is.

    Args:
        levels: of `frame_levels`, (B, T), of whole recordings or of windows.
        config: of the model.
        attention_mask: (B, T), 1 for frames of the clip and 0 for padding; None when nothing is padded.

    Returns:
        True where a frame of the clip holds sound, (B, T).
    """
    valid = torch.ones_like(levels, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    if config.silence_range is None:
        return valid
    loudest = levels.masked_fill(~valid, 0.0).amax(1, keepdim=True)
    return valid & (levels >= (loudest - config.silence_range).clamp(min=config.silence_floor))


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, the only form that also returns its weights."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class MT2Attention(nn.Module):
    """Multi-head self-attention over class and frame tokens."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False  # sdpa takes a module without this attribute for a causal one
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, output_attentions: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        batch, length, _ = hidden_states.shape
        query, key, value = (
            projection(hidden_states).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        if output_attentions:
            attention = eager_attention_forward
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        mixed, weights = attention(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return self.o_proj(mixed.reshape(batch, length, -1)), weights


class MT2MLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


class MT2Layer(GradientCheckpointingLayer):
    """Pre-norm transformer block."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MT2Attention(config)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MT2MLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, output_attentions: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attention(
            self.layernorm_before(hidden_states), attention_mask, output_attentions=output_attentions, **kwargs
        )
        hidden_states = hidden_states + self.dropout(mixed)
        hidden_states = hidden_states + self.dropout(self.mlp(self.layernorm_after(hidden_states)))
        return hidden_states, weights if output_attentions else None


class MT2PreTrainedModel(PreTrainedModel):
    """Initialisation, loading and saving shared by all MT2 models."""

    config: MT2Config
    base_model_prefix = "mt2"
    main_input_name = "input_features"
    input_modalities = ("audio",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # our losses are means, so the Trainer must divide by the accumulation steps itself
    _no_split_modules = ["MT2Embeddings", "MT2Layer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _input_embed_layer = "cqt_projection"
    # A checkpoint of one head is a good start for another; its own head is no error then.
    _keys_to_ignore_on_load_unexpected = [
        r"^(key|projection|frame|tempo|cepstrum|spectrum|analysis)_head\.|^classifier\."
    ]

    def freeze_feature_encoder(self) -> None:
        """Keep what turns spectrogram frames into tokens, `MT2Embeddings`, from being trained."""
        self.base_model.embeddings.requires_grad_(False)  # type: ignore[union-attr, operator]

    def freeze_base_model(self) -> None:
        """Keep the encoder from being trained, so that only heads are."""
        self.base_model.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Start every parameter and buffer of one module.

        Linear layers and positions are normal with `initializer_range`, biases 0, norms 1 and 0, class tokens normal.
        With `chroma_init`, the constant-Q branch starts as the identity, the key head as its transpose, the
        equivariant token at zero and positions at a fifth of the range, so that the first profile is the chroma of
        the clip and follows transposition before any step. Plain starts stay on CPSD's plateaus for long.
        """
        super()._init_weights(module)
        std, chroma = self.config.initializer_range, self.config.chroma_init
        if isinstance(module, MT2Embeddings):
            init.normal_(module.position_embeddings, std=std * (0.2 if chroma else 1.0))
            for name in self.config.class_tokens:
                if chroma and name == "equivariant":
                    init.zeros_(getattr(module, f"{name}_token"))
                else:
                    init.normal_(getattr(module, f"{name}_token"), std=std)
        elif isinstance(module, MT2ChromaLinear) and chroma:
            init.eye_(module.weight)
        elif isinstance(module, MT2KeyHead):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)


class MT2Model(MT2PreTrainedModel):
    """The encoder: spectrogram frames of any length to class and frame tokens."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__(config)
        self.embeddings = MT2Embeddings(config)
        self.layers = nn.ModuleList([MT2Layer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if config.contrastive_layer is not None and "contrastive" in config.class_tokens:
            self.contrastive_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        transposition: Tensor | int | None = None,
        mel_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MT2ModelOutput:
        """Encode clips; more than `config.max_frames` frames are cut into windows that are encoded one by one.

        Args:
            input_features: (B, T, input_size) from `MT2FeatureExtractor`.
            attention_mask: (B, T), 1 for frames of the clip and 0 for padding; None when nothing is padded.
            transposition: bins (semitones) by which the constant-Q half is pitched up, (B,) or one for all.
            mel_mask: (B,), 0 for clips whose mel half is to be left out.
            kwargs: `output_hidden_states`, `output_attentions` (computed with eager attention), and what an attention
                backend may need.

        Returns:
            Nothing attends to frames that are silent beside the loudest of their window (see `sounding_frames`). Class
            tokens of a long input are means over its windows, weighted with their numbers of frames that are not
            silent beside the loudest of the clip.

        Raises:
            ValueError: shapes that do not fit the config or each other, or a transposition out of range.
        """
        options: dict[str, Any] = {name: value for name, value in kwargs.items() if name not in NOT_TAKEN}
        self._check(input_features, attention_mask, kwargs)
        for name in ("output_attentions", "output_hidden_states"):
            if options.get(name) is None:
                options[name] = getattr(self.config, name)
        num_windows = math.ceil(input_features.shape[1] / self.config.max_frames)
        encode = self._encode if num_windows == 1 else self._encode_windows
        states, attentions = encode(input_features, attention_mask, transposition, mel_mask, **options)
        names = self.config.class_tokens
        tokens = dict(zip(names, states[-1][:, : len(names)].unbind(1), strict=True))
        return MT2ModelOutput(
            last_hidden_state=states[-1][:, len(names) :],
            pooler_output=torch.stack(list(tokens.values())).mean(0),
            equivariant_embeds=tokens.get("equivariant"),
            contrastive_embeds=tokens.get("contrastive"),
            hidden_states=tuple(states[:-1]) if options["output_hidden_states"] else None,
            attentions=tuple(attentions) if options["output_attentions"] else None,
        )

    def _check(self, input_features: Tensor, attention_mask: Tensor | None, kwargs: Any) -> None:
        given = [name for name in NOT_TAKEN if kwargs.get(name) is not None]
        if given:
            raise TypeError(f"forward() takes spectrogram frames, as input_features, and no {given[0]}")
        unknown = set(kwargs) - set(TransformersKwargs.__annotations__) - set(NOT_TAKEN)
        if unknown:
            raise TypeError(f"forward() got an unexpected argument {', '.join(sorted(unknown))}")
        shape = tuple(input_features.shape)
        if len(shape) != 3 or shape[2] != self.config.input_size or 0 in shape:
            raise ValueError(f"input_features must be (batch, frames, {self.config.input_size}), got {shape}")
        if attention_mask is not None and tuple(attention_mask.shape) != shape[:2]:
            raise ValueError(f"attention_mask must be {shape[:2]}, got {tuple(attention_mask.shape)}")

    def _encode(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None,
        transposition: Tensor | int | None,
        mel_mask: Tensor | None,
        output_attentions: bool,
        output_hidden_states: bool,
        **kwargs: Any,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Encode clips of at most one window; nothing attends to their silent frames.

        Returns:
            States (B, C + T, D), last of them the normalised output and, where hidden states are asked for, before it
            the embeddings and the output of every layer; and attentions.
        """
        if self.config.silence_range is not None:
            levels = frame_levels(input_features, self.config)
            attention_mask = sounding_frames(levels, self.config, attention_mask)
        input_features = input_features.to(self.embeddings.position_embeddings.dtype)
        hidden_states = self.embeddings(input_features, attention_mask, transposition, mel_mask)
        mask = self._attention_mask(hidden_states, attention_mask, output_attentions)
        states, attentions = [hidden_states], []
        contrastive = None  # the token, where it is taken before the last layer
        for number, layer in enumerate(self.layers, start=1):
            hidden_states, weights = layer(hidden_states, mask, output_attentions=output_attentions, **kwargs)
            if output_hidden_states:
                states.append(hidden_states)
            attentions.append(weights)
            if number == self.config.contrastive_layer and "contrastive" in self.config.class_tokens:
                place = self.config.class_tokens.index("contrastive")
                contrastive = self.contrastive_layernorm(hidden_states[:, place : place + 1])
        final = self.layernorm(hidden_states)
        if contrastive is not None:
            final = torch.cat([final[:, :place], contrastive, final[:, place + 1 :]], dim=1)
        return ([*states, final] if output_hidden_states else [final]), attentions

    def _attention_mask(self, hidden_states: Tensor, attention_mask: Tensor | None, output_attentions: bool) -> Any:
        """Let every token attend to the class tokens and the valid frames, in the form the attention wants."""
        if attention_mask is None:
            return None
        mask = nn.functional.pad(attention_mask.bool(), (len(self.config.class_tokens), 0), value=True)
        if output_attentions:
            masked = torch.zeros(mask.shape, dtype=hidden_states.dtype, device=mask.device)
            return masked.masked_fill(~mask, torch.finfo(hidden_states.dtype).min)[:, None, None]
        return create_bidirectional_mask(config=self.config, inputs_embeds=hidden_states, attention_mask=mask)

    def _encode_windows(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None,
        transposition: Tensor | int | None,
        mel_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Encode windows in chunks and join them: class tokens by weighted mean, frame tokens end to end."""
        batch, num_frames, _ = input_features.shape
        num_windows = math.ceil(num_frames / self.config.max_frames)
        padding = num_windows * self.config.max_frames - num_frames
        if attention_mask is None:
            attention_mask = torch.ones(batch, num_frames, dtype=torch.bool, device=input_features.device)
        mask = nn.functional.pad(attention_mask.bool(), (0, padding)).reshape(batch * num_windows, -1)
        windows = nn.functional.pad(input_features, (0, 0, 0, padding)).reshape(*mask.shape, -1)  # (B * W, frames, .)
        per_clip = [
            None if value is None else torch.as_tensor(value, device=mask.device).expand(batch)
            for value in (transposition, mel_mask)
        ]
        occupied = mask.any(1)
        occupied[::num_windows] = True  # of every clip at least the first, as of a clip of one window
        # Compiled code cannot depend on how many windows hold only padding, and encodes them too.
        every = torch.arange(len(mask), device=mask.device)
        occupied = every if torch.compiler.is_compiling() else every[occupied]
        chunks = []
        for rows in occupied.split(WINDOWS_PER_CHUNK):
            clips = rows // num_windows
            moved, shown = [None if value is None else value[clips] for value in per_clip]
            chunks.append(self._encode(windows[rows], mask[rows], moved, shown, **kwargs))

        def scatter(pieces: tuple[Tensor, ...]) -> Tensor:
            joined = torch.cat(pieces)
            return joined.new_zeros(len(mask), *joined.shape[1:]).index_copy(0, occupied, joined)

        states = [scatter(pieces) for pieces in zip(*(states for states, _ in chunks), strict=True)]
        num_tokens = len(self.config.class_tokens)
        sounding = sounding_frames(frame_levels(input_features, self.config), self.config, attention_mask)
        sounding = nn.functional.pad(sounding, (0, padding)).reshape(batch, num_windows, -1)
        weights = window_weights(sounding.sum(2), mask.reshape(batch, num_windows, -1).sum(2))
        weights = weights.to(states[0].dtype)[:, :, None, None]
        joined = []
        for state in states:
            by_window = state.unflatten(0, (batch, num_windows))  # (B, W, C + frames, D)
            tokens = (by_window[:, :, :num_tokens] * weights).sum(1)
            joined.append(torch.cat([tokens, by_window[:, :, num_tokens:].flatten(1, 2)[:, :num_frames]], dim=1))
        if not kwargs["output_attentions"]:
            return joined, []
        return joined, [scatter(pieces) for pieces in zip(*(weights for _, weights in chunks), strict=True)]


def window_weights(sounding: Tensor, valid: Tensor) -> Tensor:
    """Weigh the windows of a recording by their frames that hold sound; of a silent recording, by all their frames.

    Args:
        sounding: frames of each window that are not silent beside the loudest of the recording, (..., W).
        valid: frames of each window, (..., W).

    Returns:
        float32 (..., W); sums to 1, or is 0 where there is no frame at all.
    """
    counts = torch.where(sounding.sum(-1, keepdim=True) > 0, sounding, valid).float()
    return counts / counts.sum(-1, keepdim=True).clamp(min=1)


def _mean_over_sound(tokens: Tensor, levels: Tensor, config: MT2Config, attention_mask: Tensor | None) -> Tensor:
    """Mean of frame tokens, (B, T, D) to (B, D): over the frames of each window that hold sound, then over windows."""
    batch, num_frames, _ = tokens.shape
    num_windows = math.ceil(num_frames / config.max_frames)
    length = min(num_frames, config.max_frames)
    valid = torch.ones_like(levels, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    sounding = sounding_frames(levels, config, valid)  # beside the loudest frame of the clip

    def cut(values: Tensor) -> Tensor:
        padding = num_windows * length - num_frames
        padded = nn.functional.pad(values, (0, 0) * (values.ndim - 2) + (0, padding))
        return padded.unflatten(1, (num_windows, length))

    levels, valid, sounding = cut(levels), cut(valid), cut(sounding)
    here = sounding_frames(levels.flatten(0, 1), config, valid.flatten(0, 1))  # beside that of the window
    means = _masked_mean(cut(tokens).flatten(0, 1), here).unflatten(0, (batch, num_windows))
    weights = window_weights(sounding.sum(2), valid.sum(2)).to(tokens.dtype)
    return (means * weights[:, :, None]).sum(1)


class MT2KeyHead(nn.Module):
    """Equivariant token to a profile over the 12 key signatures."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.config = config
        self.linear = MT2ChromaLinear(config.hidden_size, config.num_cqt_bins)
        self.register_buffer("running_mean", torch.zeros(config.bins_per_octave))
        self.register_buffer("running_var", torch.ones(config.bins_per_octave))

    def forward(self, token: Tensor) -> Tensor:
        """Map tokens (B, D) to logits pooled over octaves, (B, 12)."""
        return self.linear(token).unflatten(1, (-1, self.config.bins_per_octave)).mean(1)

    def profile(self, logits: Tensor, batch_statistics: bool = False) -> Tensor:
        """Centre logits (B, 12), and turn them into probabilities (B, 12) in float32.

        Args:
            logits: what `forward` returned; in training, of the whole batch, gathered over all processes.
            batch_statistics: centre with the mean and variance of these logits and let the running statistics follow,
                as training does; False centres with the running statistics.

        Source: batch normalisation before the softmax as in S-KEY (Kong et al. 2025, arXiv:2501.12907): a profile
            that is the same for all songs becomes uniform, and gains nothing.
        """
        logits = logits.float()
        if self.config.center_profile:
            mean, variance = self.running_mean, self.running_var
            if batch_statistics:
                variance, mean = torch.var_mean(logits, dim=0, correction=0)
                with torch.no_grad():
                    self.running_mean.lerp_(mean.to(self.running_mean.dtype), PROFILE_MOMENTUM)
                    self.running_var.lerp_(variance.to(self.running_var.dtype), PROFILE_MOMENTUM)
            logits = (logits - mean.float()) * (variance.float() + 1e-5).rsqrt()
        return (logits * self.config.profile_gain).softmax(-1)


PROFILE_MOMENTUM = 0.02  # share of a new batch in the running statistics of the key head
SEMITONES_PER_FIFTH = 7  # a semitone turns the profile by 7 twelfths of the circle, a fifth by one


def profile_phase(profile: Tensor) -> Tensor:
    """Map profiles over 12 key signatures to points of the disc spanned by the circle of fifths.

    Args:
        profile: (..., 12), non-negative, each summing to 1.

    Returns:
        Real and imaginary part, (..., 2): on the unit circle for a one-hot profile, at 0 for a uniform one. Real
        arithmetic, because not every device has complex numbers.

    Raises:
        ValueError: the last axis is not 12 long.
    """
    if profile.shape[-1] != 12:
        raise ValueError(f"a profile has 12 values on its last axis, got shape {tuple(profile.shape)}")
    angles = 2 * math.pi * SEMITONES_PER_FIFTH * torch.arange(12, device=profile.device) / 12
    profile = profile.float()
    # Sums, not a matrix product: autocast would round that to half precision.
    return torch.stack([(profile * angles.cos()).sum(-1), (profile * angles.sin()).sum(-1)], dim=-1)


def transposition_distance(profile: Tensor, transposed: Tensor, semitones: Tensor) -> Tensor:
    """Measure how far a second profile is from being the first one, transposed.

    Args:
        profile: (B, 12).
        transposed: (B, 12), of the same music pitched up by `semitones`.
        semitones: (B,), of any sign.

    Returns:
        (B,), |exp(2 pi i 7 c / 12) - z' conj(z)|^2: 0 for one-hot profiles that follow the transposition, 1 when
        either profile is uniform, up to 4 for one-hot profiles half a circle apart.

    Source: cross-power spectral density loss, Kong et al. 2024 (STONE, arXiv:2407.07408).
    """
    first, second = profile_phase(profile), profile_phase(transposed)
    cross_real = (first * second).sum(-1)
    cross_imag = second[..., 1] * first[..., 0] - second[..., 0] * first[..., 1]
    angle = 2 * math.pi * SEMITONES_PER_FIFTH * semitones / 12
    return (angle.cos() - cross_real).square() + (angle.sin() - cross_imag).square()


def cpsd_loss(
    profile_a: Tensor,
    profile_b: Tensor,
    profile_a_transposed: Tensor,
    semitones: Tensor,
    semitones_b: Tensor | None = None,
    two_window_weight: float = 1.0,
) -> Tensor:
    """Ask that profiles turn with the music: the same for two windows of a song, rotated for a transposed one.

    Args:
        profile_a, profile_b: profiles of two windows of each song, (B, 12).
        profile_a_transposed: profiles of window A pitched up by `semitones`, (B, 12).
        semitones: (B,), pitch of the transposed view above view A.
        semitones_b: (B,), pitch of view B above view A; 0 when left out, as published.
        two_window_weight: weight of the two terms that compare different windows, against 1 for the term within A.

    Returns:
        Scalar mean over the batch; 0 for ideal one-hot profiles, 3 for uniform ones with equal weights.

    Raises:
        ValueError: the shapes differ.

    Source: Kong et al. 2025 (arXiv:2507.12996) and 2024 (arXiv:2407.07408); both options are ours.
    """
    shapes = {tuple(profile.shape) for profile in (profile_a, profile_b, profile_a_transposed)}
    if len(shapes) > 1 or semitones.shape != profile_a.shape[:1]:
        raise ValueError(
            f"profiles must have one shape (batch, 12) and semitones (batch,), got {sorted(shapes)} and "
            f"{tuple(semitones.shape)}"
        )
    if semitones_b is None:
        semitones_b = torch.zeros_like(semitones)
    within = transposition_distance(profile_a, profile_a_transposed, semitones)
    across = transposition_distance(profile_a, profile_b, semitones_b)
    across = across + transposition_distance(profile_b, profile_a_transposed, semitones - semitones_b)
    return (within + two_window_weight * across).mean()


def nt_xent_loss(projections: Tensor, positives: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull rows that belong together towards each other, and push all others away.

    Args:
        projections: (R, P), any scale.
        positives: which rows belong together: a label of every row, (R,), such as the number of its song; or a
            symmetric matrix of truth values, (R, R), whose diagonal means nothing.
        temperature: of the softmax over cosines, above 0.

    Returns:
        Scalar: minus the log-softmax over all other rows, averaged over the positives of a row, and then over the rows
        that have one. With two rows a label this is the NT-Xent of SimCLR; log(R - 1) when all rows are equal.

    Raises:
        ValueError: shapes that do not fit, fewer than three rows (no negatives), or a temperature not above 0.

    Source: normalised temperature-scaled cross-entropy, Chen et al. 2020 (SimCLR), as used by Kong et al. 2025; with
        several positives, Khosla et al. 2020 (arXiv:2004.11362). Gathering rows of other processes is up to callers.
    """
    num_rows = len(projections)
    if projections.ndim != 2 or tuple(positives.shape) not in ((num_rows,), (num_rows, num_rows)):
        raise ValueError(
            f"projections must be (rows, size) and positives (rows,) or (rows, rows), got {tuple(projections.shape)} "
            f"and {tuple(positives.shape)}"
        )
    if num_rows < 3:
        raise ValueError("a contrastive loss needs at least two songs in a batch: there are no negatives")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    rows = nn.functional.normalize(projections.float(), dim=-1)
    with torch.autocast(rows.device.type, enabled=False):
        similarity = rows @ rows.T / temperature
    itself = torch.eye(num_rows, dtype=torch.bool, device=rows.device)
    log_share = similarity.masked_fill(itself, torch.finfo(similarity.dtype).min).log_softmax(dim=1)
    together = (positives[:, None] == positives[None] if positives.ndim == 1 else positives) & ~itself
    num_positives = together.sum(1)
    of_rows = (log_share * together).sum(1) / num_positives.clamp(min=1)
    return -of_rows.sum() / (num_positives > 0).sum().clamp(min=1)


def _mlp(hidden_size: int, size: int, num_layers: int, activation: type[nn.Module]) -> nn.Sequential:
    """Make a projection head: linear layers of the hidden size with activations between, the last one to `size`."""
    inner: list[nn.Module] = []
    for _ in range(num_layers - 1):
        inner += [nn.Linear(hidden_size, hidden_size), activation()]
    return nn.Sequential(*inner, nn.Linear(hidden_size, size))


class MT2ForPreTraining(MT2PreTrainedModel):
    """MT2 with the heads its losses act on.

    Pairs of windows give a loss, so that a plain loop trains the model; `mt2_music.train.pretrain` has the recipe.
    """

    def __init__(self, config: MT2Config) -> None:
        super().__init__(config)
        self.mt2 = MT2Model(config)
        if "equivariant" in config.class_tokens:
            self.key_head = MT2KeyHead(config)
            if config.num_spectrum_bins:
                self.spectrum_head = nn.Linear(config.hidden_size, config.num_spectrum_bins)
        if "contrastive" in config.class_tokens:
            self.projection_head = _mlp(config.hidden_size, config.projection_size, config.projection_layers, nn.ReLU)
            if config.num_cepstral_coefficients:
                self.cepstrum_head = nn.Linear(config.hidden_size, 2 * config.num_cepstral_coefficients)
        if config.num_tempo_classes:
            self.tempo_head = nn.Linear(config.hidden_size, config.num_tempo_classes)
        if config.frame_projection_size:
            self.frame_head = _mlp(config.hidden_size, config.frame_projection_size, 2, nn.GELU)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        transposition: Tensor | int | None = None,
        mel_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MT2ForPreTrainingOutput:
        """Encode clips as `MT2Model.forward` does, with key signature profile and projections; or train on pairs.

        Args:
            input_features: (B, T, input_size); or pairs of windows of B songs, (B, 2, T, input_size), for a loss.
            attention_mask: of clips, (B, T); pairs are windows without padding.
            transposition: of clips, as for `MT2Model`; of pairs, (B, 2) semitones by which the second window and the
                first one, encoded again, are pitched up for CPSD; drawn at random if not given.
            mel_mask: of clips, as for `MT2Model`.
            kwargs: as for `MT2Model`.

        Returns:
            Of pairs, `loss` is CPSD plus NT-Xent, as published, with the transposed views without their mel half (see
            `mt2_music.train.pretrain.trainer`), and all other outputs are those of the two windows of all songs,
            (2 * B, ...), first windows first.
        """
        if input_features.ndim == 4:
            if attention_mask is not None or mel_mask is not None:
                raise ValueError("pairs of windows take neither attention_mask nor mel_mask")
            return self._pair_loss(input_features, transposition, **kwargs)
        encoded = self.mt2(input_features, attention_mask, transposition, mel_mask, **kwargs)
        heads: dict[str, Any] = {}
        if encoded.equivariant_embeds is not None:
            heads["key_logits"] = self.key_head(encoded.equivariant_embeds)
            heads["key_signature_profile"] = self.key_head.profile(heads["key_logits"])
            if self.config.num_spectrum_bins:
                heads["spectrum"] = self.spectrum_head(encoded.equivariant_embeds)
        if encoded.contrastive_embeds is not None:
            heads["projection"] = self.projection_head(encoded.contrastive_embeds)
            if self.config.num_cepstral_coefficients:
                heads["cepstrum"] = self.cepstrum_head(encoded.contrastive_embeds)
        if self.config.num_tempo_classes:  # what is played, not how it sounds
            first = encoded.contrastive_embeds if encoded.equivariant_embeds is None else encoded.equivariant_embeds
            heads["tempo_logits"] = self.tempo_head(first)
        if self.config.frame_projection_size:
            heads["frame_projection"] = self.frame_head(encoded.last_hidden_state)
        return MT2ForPreTrainingOutput(**encoded, **heads)

    def _pair_loss(self, pairs: Tensor, transposition: Tensor | int | None, **kwargs: Any) -> MT2ForPreTrainingOutput:
        first, second = pairs.unbind(1)
        num_songs, names = len(pairs), self.config.class_tokens
        outputs = self(torch.cat([first, second]), **kwargs)
        loss = pairs.new_zeros(())
        if "contrastive" in names:
            loss = loss + nt_xent_loss(outputs.projection, torch.arange(num_songs, device=pairs.device).repeat(2))
        if "equivariant" in names:
            if transposition is None:
                room = self.config.cqt_offset, self.config.num_transposition_bins - self.config.cqt_offset
                transposition = torch.randint(-room[1], room[0] + 1, (num_songs, 2)).to(pairs.device)
            semitones = torch.as_tensor(transposition, device=pairs.device).expand(num_songs, 2).T
            bare = self.mt2(torch.cat([second, first]), None, semitones.flatten(), semitones.new_zeros(2 * num_songs))
            logits = torch.cat([outputs.key_logits[:num_songs], self.key_head(bare.equivariant_embeds)])
            profile_a, profile_b, again = self.key_head.profile(logits, batch_statistics=self.training).chunk(3)
            loss = loss + cpsd_loss(profile_a, profile_b, again, semitones[1].float(), semitones[0].float())
        outputs.loss = loss
        return outputs


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows (N, C) that have a label, (N,), which is not -100; 0 where none has."""
    losses = nn.functional.cross_entropy(logits, labels, reduction="sum")
    return losses / (labels != -100).sum().clamp(min=1)


class MT2ForAudioClassification(MT2PreTrainedModel):
    """MT2 with a linear layer over one embedding of the clip: one label, several labels, or numbers."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__(config)
        self.mt2 = MT2Model(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        width = config.hidden_size * (len(config.class_tokens) if config.pooling == "concat" else 1)
        self.classifier = nn.Linear(width, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify clips by the embedding that `config.pooling` names.

        Args:
            input_features: (B, T, input_size) from `MT2FeatureExtractor`.
            attention_mask: (B, T), 1 for frames of the clip and 0 for padding.
            labels: (B,) class indices for one label of many, -100 where there is none; (B, num_labels) float 0 or 1
                for several labels; floats for regression. `config.problem_type` decides; when it is None the first
                labels set it.
            kwargs: `output_hidden_states`, `output_attentions` (computed with eager attention), and what an attention
                backend may need.

        Returns:
            `logits` (B, num_labels), and with labels their mean `loss`.
        """
        encoded = self.mt2(input_features, attention_mask, **kwargs)
        levels = frame_levels(input_features, self.config)
        logits = self.classifier(self.dropout(self._pool(encoded, levels, attention_mask)))
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _pool(self, encoded: dict[str, Tensor], levels: Tensor, attention_mask: Tensor | None) -> Tensor:
        if self.config.pooling == "frames":
            return _mean_over_sound(encoded["last_hidden_state"], levels, self.config, attention_mask)
        if self.config.pooling == "mean":
            return encoded["pooler_output"]
        if self.config.pooling == "concat":
            return torch.cat([encoded[f"{name}_embeds"] for name in self.config.class_tokens], dim=1)
        return encoded[f"{self.config.pooling}_embeds"]

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.problem_type is None:
            if self.config.num_labels == 1:
                self.config.problem_type = "regression"
            elif labels.is_floating_point():
                self.config.problem_type = "multi_label_classification"
            else:
                self.config.problem_type = "single_label_classification"
        logits = logits.float()
        if self.config.problem_type == "regression":
            return nn.functional.mse_loss(logits, labels.float().view_as(logits))
        if self.config.problem_type == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        return _cross_entropy(logits, labels.view(-1))


class MT2ContextLayer(nn.Module):
    """A residual convolution over frames that lie `dilation` apart.

    Source: temporal convolutional networks, Bai et al. 2018 (arXiv:1803.01271); for beats, Davies & Boeck 2019.
    """

    KERNEL_SIZE = 5

    def __init__(self, config: MT2Config, dilation: int) -> None:
        super().__init__()
        size, reach = config.context_size, self.KERNEL_SIZE // 2 * dilation
        self.layernorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.convolution = nn.Conv1d(size, size, self.KERNEL_SIZE, padding=reach, dilation=dilation)
        self.activation = ACT2FN[config.hidden_act]
        self.projection = nn.Linear(size, size)

    def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.layernorm(hidden_states)
        if mask is not None:
            normed = normed * mask  # zeros, as the convolution finds at the ends of a clip
        mixed = self.convolution(normed.transpose(1, 2)).transpose(1, 2)
        return hidden_states + self.projection(self.activation(mixed))


class MT2AnalysisHead(nn.Module):
    """Frame tokens and their surroundings to logits: convolutions that look further from layer to layer."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__()
        self.projection = nn.Linear(config.hidden_size, config.context_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.layers = nn.ModuleList([MT2ContextLayer(config, 2**layer) for layer in range(config.num_context_layers)])
        self.layernorm = nn.LayerNorm(config.context_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.context_size, len(config.frame_labels))

    @property
    def reach(self) -> int:
        """Frames before and behind a frame that its logits depend on."""
        return MT2ContextLayer.KERNEL_SIZE // 2 * (2 ** len(self.layers) - 1)

    def forward(self, frames: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Take frame tokens (B, T, D), and (B, T), 1 where they are not padding; return (B, T, frame_labels)."""
        mask = None if attention_mask is None else attention_mask[..., None].to(frames.dtype)
        hidden_states = self.projection(self.dropout(frames))
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return self.classifier(self.dropout(self.layernorm(hidden_states)))


@dataclass
class MT2ForMusicAnalysisOutput(SequenceClassifierOutput):
    """What `MT2ForMusicAnalysis` returns: what `MT2ForAudioClassification` does, and what it says of frames.

    Args:
        frame_logits: (B, T, frame_labels), one row every `config.hop_length` samples.
    """

    frame_logits: Tensor | None = None


class MT2ForMusicAnalysis(MT2ForAudioClassification):
    """MT2 with two heads: the key of the clip, and in every frame what `config.frame_labels` names, such as chords."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__(config)
        self.analysis_head = MT2AnalysisHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MT2ForMusicAnalysisOutput:
        """Classify clips and their frames.

        Args, loss: as of `MT2ForAudioClassification`; labels are of clips.
        """
        encoded = self.mt2(input_features, attention_mask, **kwargs)
        levels = frame_levels(input_features, self.config)
        logits = self.classifier(self.dropout(self._pool(encoded, levels, attention_mask)))
        return MT2ForMusicAnalysisOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            frame_logits=self.analysis_head(encoded.last_hidden_state, attention_mask),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class MT2ForAudioFrameClassification(MT2PreTrainedModel):
    """MT2 with a linear layer over every frame token: chords, beats, activity."""

    def __init__(self, config: MT2Config) -> None:
        super().__init__(config)
        self.mt2 = MT2Model(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Classify every frame.

        Args:
            input_features: (B, T, input_size) from `MT2FeatureExtractor`.
            attention_mask: (B, T), 1 for frames of the clip and 0 for padding, which no loss sees.
            labels: (B, T) class indices, -100 where there is none; or float (B, T, num_labels) of 0 to 1 for labels
                that do not exclude each other.
            kwargs: `output_hidden_states`, `output_attentions` (computed with eager attention), and what an attention
                backend may need.

        Returns:
            `logits` (B, T, num_labels), one row every `config.hop_length` samples, and with labels their mean `loss`.
        """
        encoded = self.mt2(input_features, attention_mask, **kwargs)
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        return TokenClassifierOutput(
            loss=None if labels is None else self._loss(logits.float(), labels, attention_mask),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor, attention_mask: Tensor | None) -> Tensor:
        valid = torch.ones_like(logits[..., 0], dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        if labels.is_floating_point():
            losses = nn.functional.binary_cross_entropy_with_logits(logits[valid], labels[valid], reduction="none")
            return losses.sum() / max(1, losses.numel())
        return _cross_entropy(logits[valid], labels[valid])


__all__ = [
    "MT2ForAudioClassification",
    "MT2ForAudioFrameClassification",
    "MT2ForMusicAnalysis",
    "MT2ForPreTraining",
    "MT2Model",
    "MT2PreTrainedModel",
]
