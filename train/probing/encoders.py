"""What is probed: anything that turns audio into vectors and frames. Frozen, never trained here.

Shapes: T frames, D values in a vector or frame.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from mt2_music import (
    MT2Config,
    MT2FeatureExtractor,
    MT2ForAudioClassification,
    MT2ForPreTraining,
    MT2Model,
    modeling_mt2,
)
from mt2_music.feature_extraction import feature_extraction_mt2
from mt2_music.loading import find_model, list_models, load_extractor, load_model
from mt2_music.song.keys import knows_keys
from mt2_music.train.functions import load_function
from mt2_music.train.publish.calibrate import calibrate_key

OWN_CODE = tuple(inspect.getsource(module) for module in (feature_extraction_mt2, modeling_mt2))
STATISTICS = ("log-mel", "mfcc", "chroma", "cqt")
RANDOM_MODELS = ("random-mt2", "random-mt2-chroma")
NUM_MFCC = 20
CHUNK_SECONDS = 10.0  # what a model of unknown input length is given at once


@dataclass(frozen=True)
class Embedding:
    """What an encoder knows of one clip.

    Args:
        vectors: readouts of the whole clip, each (D,).
        frames: readouts in time, each (T, D); empty of a model whose output is not known to be a row of frames.
        frame_rate: frames per second; frame t is centred on t / frame_rate, to within a frame.
    """

    vectors: dict[str, np.ndarray]
    frames: Mapping[str, np.ndarray] = field(default_factory=dict)
    frame_rate: float = 0.0


class Encoder(Protocol):
    """A frozen representation.

    `fingerprint` differs between any two encoders that could give different embeddings of one clip; `identity`
    between any two models, whichever of their layers are read.
    """

    name: str
    fingerprint: str
    identity: str
    sampling_rate: int

    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip: mono float32 (samples,) at `sampling_rate`."""


class SpectrogramStatistics:
    """Mean and standard deviation over time of a spectrogram, and its frames.

    Args:
        kind: "log-mel", "mfcc" (a cosine transform of it), "cqt" (our constant-Q frames), or "chroma" (the magnitudes
            of the constant-Q bins of one pitch class, summed, each frame with sum 1).
    """

    def __init__(self, kind: str) -> None:
        if kind not in STATISTICS:
            raise ValueError(f"unknown spectrogram {kind!r}, expected one of {STATISTICS}")
        self.name = kind
        self.extractor = MT2FeatureExtractor(cqt_power=1.0 if kind == "chroma" else 0.5)
        self.sampling_rate = self.extractor.sampling_rate
        self.identity = self.fingerprint = _fingerprint(kind, self.extractor.to_json_string(), *OWN_CODE)

    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip, mono float32 (samples,)."""
        features = self.extractor.extract(torch.from_numpy(waveform)[None])[0]
        cqt, mel = features.split([self.extractor.num_cqt_bins, self.extractor.num_mel_bins], dim=-1)
        if self.name == "chroma":
            octaves = math.ceil(cqt.shape[1] / 12)
            padded = torch.nn.functional.pad(cqt, (0, 12 * octaves - cqt.shape[1]))
            folded = padded.unflatten(1, (octaves, 12)).sum(1).roll(-3, 1)  # the lowest bin is an A; C comes first
            frames = folded / folded.sum(1, keepdim=True).clamp(min=1e-8)
        elif self.name == "mfcc":
            frames = mel @ _cosines(mel.shape[1], NUM_MFCC)
        else:
            frames = cqt if self.name == "cqt" else mel
        statistics = torch.cat([frames.mean(0), frames.std(0, unbiased=False)])
        return Embedding({"statistics": statistics.numpy()}, {"frames": frames.numpy()}, self.extractor.frame_rate)


def _cosines(num_bands: int, num_coefficients: int) -> Tensor:
    """Orthonormal cosine transform of type II, (bands, coefficients)."""
    places = (torch.arange(num_bands) + 0.5) * math.pi / num_bands
    basis = torch.cos(places[:, None] * torch.arange(num_coefficients)) * math.sqrt(2 / num_bands)
    basis[:, 0] /= math.sqrt(2)
    return basis


class Constant:
    """Knows nothing: what a probe makes of it is the floor that the labels' frequencies alone give."""

    name = fingerprint = identity = "constant"
    sampling_rate = 16000

    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip as zeros."""
        num_frames = len(waveform) // 512 + 1
        return Embedding(
            {"constant": np.zeros(1, np.float32)}, {"frames": np.zeros((num_frames, 1), np.float32)}, 31.25
        )


class MT2Encoder:
    """An MT2 model with all its readouts.

    Args:
        model: in evaluation mode: the encoder alone, or with a head that can name keys by itself.
        extractor: its front end.
        name: for the table.
        layers: hidden states to read besides the output: 0 is what enters the first layer.
        device: where to compute.
        transposition: pitch the music up by so many semitones.

    Readouts are "equivariant", "contrastive", their "mean" and "concatenation", and the mean over "frames"; those of
    layer k are called "mean@k" and so on.
    """

    def __init__(
        self,
        model: MT2ForPreTraining | MT2ForAudioClassification | MT2Model,
        extractor: MT2FeatureExtractor,
        name: str,
        layers: Sequence[int] = (),
        device: str = "cpu",
        transposition: int = 0,
    ) -> None:
        self.name = name
        self.extractor = extractor
        self.transposition = transposition
        self.sampling_rate = extractor.sampling_rate
        self.model = model.eval()
        self.model.to(torch.device(device))
        self.encoder: MT2Model = model if isinstance(model, MT2Model) else model.mt2
        depth = model.config.num_hidden_layers
        if any(not 0 <= layer <= depth for layer in layers):
            raise ValueError(f"layers {list(layers)} of a model that has 0 to {depth}")
        self.layers = tuple(layers)
        config = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
        settings = [config[key] for key in sorted(config) if key not in ("transformers_version", "dtype", "auto_map")]
        self.identity = _fingerprint(
            json.dumps(settings, default=str), _weights_hash(self.encoder), extractor.to_json_string(), *OWN_CODE
        )
        self.fingerprint = _fingerprint(self.identity, str(self.layers), *([str(transposition)] * bool(transposition)))

    @torch.no_grad()
    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip of any length, mono float32 (samples,)."""
        device = self.encoder.device
        features = self.extractor.extract(torch.from_numpy(waveform)[None].to(device))
        outputs = self.encoder(
            features, transposition=self.transposition or None, output_hidden_states=bool(self.layers)
        )
        tokens = self.encoder.config.class_tokens
        vectors: dict[str, np.ndarray] = {}
        frames: dict[str, np.ndarray] = {}
        states = {f"@{layer}": outputs.hidden_states[layer][0] for layer in self.layers}
        output = {"equivariant": outputs.equivariant_embeds, "contrastive": outputs.contrastive_embeds}
        states[""] = torch.cat([*(output[token] for token in tokens), outputs.last_hidden_state[0]])
        for suffix, state in states.items():
            class_tokens, in_time = state[: len(tokens)], state[len(tokens) :]
            named = dict(zip(tokens, class_tokens, strict=True))
            if len(tokens) > 1:
                named |= {"mean": class_tokens.mean(0), "concatenation": class_tokens.flatten()}
            named["frames"] = in_time.mean(0)
            vectors |= {f"{readout}{suffix}": vector.float().cpu().numpy() for readout, vector in named.items()}
            frames[f"frames{suffix}"] = in_time.float().cpu().numpy()
        return Embedding(vectors, frames, self.extractor.frame_rate)


class TransformersEncoder:
    """Any audio model of transformers, by its folder or name, with its own feature extractor.

    Args:
        source: folder or Hub name.
        layers: hidden states to read besides the output.
        trust_remote_code: run the code that comes with it.
        device: where to compute.

    Clips are cut into pieces of ten seconds. The clip's vector is the mean over all tokens; frames are given only of
    models that say how many samples make a token (`inputs_to_logits_ratio`, as wav2vec2, HuBERT, MERT and WavLM do).

    Raises:
        ValueError: it has no such layers, or wants other input than one waveform.
    """

    def __init__(
        self, source: str, layers: Sequence[int] = (), trust_remote_code: bool = False, device: str = "cpu"
    ) -> None:
        self.name = Path(source).name
        self.extractor = AutoFeatureExtractor.from_pretrained(source, trust_remote_code=trust_remote_code)
        model = AutoModel.from_pretrained(source, trust_remote_code=trust_remote_code, dtype=torch.float32)
        self.model = (model.get_encoder() if model.config.is_encoder_decoder else model).to(device).eval()
        self.sampling_rate = int(self.extractor.sampling_rate)
        self.layers = tuple(layers)
        ratio = getattr(self.model.config, "inputs_to_logits_ratio", None)
        self.frame_rate = self.sampling_rate / ratio if ratio else 0.0
        config = self.model.config.to_json_string()
        self.identity = _fingerprint(_weights_hash(self.model), config, self.extractor.to_json_string(), *OWN_CODE)
        self.fingerprint = _fingerprint(self.identity, str(self.layers))
        depth = getattr(model.config, "num_hidden_layers", 0)
        if any(not 0 <= layer <= depth for layer in self.layers):
            raise ValueError(f"layers {list(layers)} of a model that has 0 to {depth}")
        try:
            self.embed(np.zeros(self.sampling_rate, np.float32))
        except Exception as error:
            raise ValueError(f"{source} takes other input: wrap it in a function of your own ({error})") from error

    @torch.no_grad()
    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip, mono float32 (samples,)."""
        size = round(CHUNK_SECONDS * self.sampling_rate)
        pieces: dict[str, list[Tensor]] = {}
        weights = []
        for start in range(0, len(waveform), size):
            piece = waveform[start : start + size]
            if len(piece) < self.sampling_rate // 4:
                if start:
                    continue  # too short for some models to give a token at all
                piece = np.pad(piece, (0, self.sampling_rate // 4 - len(piece)))
            inputs = self.extractor(piece, sampling_rate=self.sampling_rate, return_tensors="pt")
            outputs = self.model(**inputs.to(self.model.device), output_hidden_states=bool(self.layers))
            states = {"": outputs.last_hidden_state, **{f"@{k}": outputs.hidden_states[k] for k in self.layers}}
            weights.append(len(piece))
            for suffix, state in states.items():
                pieces.setdefault(f"frames{suffix}", []).append(state[0].float().cpu())
        share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
        vectors = {
            name: (torch.stack([part.mean(0) for part in parts]) * share[:, None]).sum(0).numpy()
            for name, parts in pieces.items()
        }
        if not self.frame_rate:
            return Embedding(vectors)
        # Models lose a frame at the end of a piece; without it, those of the next would come early.
        lengths = [round(weight / self.sampling_rate * self.frame_rate) for weight in weights]
        frames = {
            name: torch.cat([_to_length(part, size) for part, size in zip(parts, lengths, strict=True)]).numpy()
            for name, parts in pieces.items()
        }
        return Embedding(vectors, frames, self.frame_rate)


def _to_length(frames: Tensor, length: int) -> Tensor:
    """Cut frames, or repeat the last one, to a length."""
    missing = length - len(frames)
    return torch.cat([frames, frames[-1:].expand(missing, -1)]) if missing > 0 else frames[:length]


class FunctionEncoder:
    """A user's own function, named as "module:function" or "file.py:function".

    The function takes mono float32 samples and their rate, 16 kHz, and returns frames (T, D) that are spread evenly
    over the clip. Its fingerprint is that of the file it stands in: delete the cache if something else changes.
    """

    sampling_rate = 16000

    def __init__(self, source: str) -> None:
        self.function, code = load_function(source)
        self.name = source.rpartition(":")[2]
        self.identity = self.fingerprint = _fingerprint(source, code)

    def embed(self, waveform: np.ndarray) -> Embedding:
        """Embed one clip, mono float32 (samples,)."""
        frames = np.asarray(self.function(waveform, self.sampling_rate), np.float32)
        if frames.ndim != 2 or not frames.size or not np.isfinite(frames).all():
            raise ValueError(f"{self.name} must return finite frames (T, D), got shape {frames.shape}")
        frame_rate = len(frames) / (len(waveform) / self.sampling_rate)
        return Embedding({"frames": frames.mean(0)}, {"frames": frames}, frame_rate)


def load_encoder(
    source: str, layers: Sequence[int] | None = (), trust_remote_code: bool = False, device: str = "cpu"
) -> Encoder:
    """Load an encoder by what is given on the command line.

    Args:
        source: "log-mel", "mfcc", "chroma" or "cqt" for statistics of a spectrogram; "constant"; "random-mt2" for the
            default model at ordinary random weights, "random-mt2-chroma" for the weights our training starts from;
            "module:function" or "file.py:function"; else a folder, Hub name or short name of a model that `AutoModel`
            loads.
        layers: layers to read besides the output; None for all.
        trust_remote_code: run the code that comes with a model of others.
        device: where to compute.

    Raises:
        ValueError: no such encoder, or one that is not whole.
    """
    if source in STATISTICS:
        return SpectrogramStatistics(source)
    if source == "constant":
        return Constant()
    if source in RANDOM_MODELS:
        torch.manual_seed(0)
        model = MT2ForPreTraining(MT2Config(chroma_init=source == "random-mt2-chroma")).eval()
        extractor = MT2FeatureExtractor()
        calibrate_key(model, extractor)
        return MT2Encoder(model, extractor, source, _layers(layers, model.config), device)
    if ":" in source and not Path(source).exists():
        return FunctionEncoder(source)
    source = find_model(source) if source in list_models() else source
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except OSError as error:
        raise ValueError(f"{source} is neither a baseline nor a model that can be loaded: {error}") from error
    if config.model_type == MT2Config.model_type:
        whole = MT2ForPreTraining.__name__ in (config.architectures or ())
        kind: Any = MT2ForPreTraining if whole else MT2ForAudioClassification if knows_keys(config) else MT2Model
        loaded = load_model(kind, source)
        extractor = load_extractor(source)
        return MT2Encoder(loaded, extractor, Path(source).name, _layers(layers, config), device)
    return TransformersEncoder(source, _layers(layers, config), trust_remote_code, device)


def _layers(layers: Sequence[int] | None, config: Any) -> Sequence[int]:
    return range(getattr(config, "num_hidden_layers", -1) + 1) if layers is None else layers


def _weights_hash(model: torch.nn.Module) -> str:
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return weights.hexdigest()


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
