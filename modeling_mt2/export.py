"""An MT2 model as one ONNX file.

The file takes clips of any number and length and carries as metadata what its user has to know.

Shapes: B clips, N samples, T frames, W windows of L = `config.max_frames` frames, K constant-Q bins, M mel bands, F
features of a frame, D hidden size.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from .feature_extraction import MT2FeatureExtractor
from .loading import load_extractor, load_model, published_class
from .modeling_mt2 import (
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForMusicAnalysis,
    MT2Model,
    MT2PreTrainedModel,
    frame_levels,
    sounding_frames,
    window_weights,
)
from .options import ONNX_INPUTS
from .storage import atomic_path

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CLASSIFIERS = (MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2ForMusicAnalysis)


class FeatureGraph(nn.Module):
    """An encoder or classifier with one graph for all lengths: the windows of all clips are one batch.

    `MT2Model` encodes long clips in chunks, so that its graph would depend on their number.
    """

    def __init__(self, model: MT2PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Encode clips as `MT2Model` does.

        Args:
            input_features: (B, T, F) from `MT2FeatureExtractor`.
            attention_mask: (B, T), 1 for frames of the clip and 0 for padding.

        Returns:
            "mean", "equivariant" and "contrastive", those the model has, each (B, D); "frames", (B, T, D); of a
            classifier also "logits", (B, labels), or (B, T, labels) if it classifies frames; of an analysis model also
            "frame_logits", (B, T, frame_labels). Tokens and logits of frames that are padding mean nothing.
        """
        model: Any = self.model
        batch, num_frames, width = input_features.shape
        length = model.config.max_frames
        num_windows = (num_frames + length - 1) // length
        padding = num_windows * length - num_frames
        mask = nn.functional.pad(attention_mask, (0, padding)).reshape(-1, length)  # (B * W, L)
        windows = nn.functional.pad(input_features, (0, 0, 0, padding)).reshape(-1, length, width)
        levels = frame_levels(input_features, model.config)
        sounding = sounding_frames(levels, model.config, attention_mask)
        sounding = nn.functional.pad(sounding, (0, padding)).reshape(batch, num_windows, length)
        weights = window_weights(sounding.sum(2), mask.reshape(batch, num_windows, length).sum(2))[:, :, None]

        def average(by_window: Tensor) -> Tensor:
            return (by_window.reshape(batch, num_windows, -1) * weights).sum(1)

        def join(by_window: Tensor) -> Tensor:
            return by_window.reshape(batch, num_windows * length, -1)[:, :num_frames]

        encoded = (model if isinstance(model, MT2Model) else model.mt2)(windows, mask)
        outputs = {"mean": average(encoded.pooler_output)}
        for name in model.config.class_tokens:
            outputs[name] = average(encoded[f"{name}_embeds"])
        outputs["frames"] = join(encoded.last_hidden_state)
        if isinstance(model, MT2ForAudioClassification):  # its logits are affine in what is pooled, as means are
            outputs["logits"] = average(
                model.classifier(model._pool(encoded, frame_levels(windows, model.config), mask))
            )
        elif isinstance(model, MT2ForAudioFrameClassification):
            outputs["logits"] = join(model.classifier(encoded.last_hidden_state))
        if isinstance(model, MT2ForMusicAnalysis):
            outputs["frame_logits"] = model.analysis_head(outputs["frames"], attention_mask)
        return outputs


class WaveformGraph(nn.Module):
    """A `FeatureGraph` behind the feature extractor, written as convolutions of real numbers.

    Fourier transforms and complex numbers are what most runtimes lack.
    """

    def __init__(self, features: FeatureGraph, extractor: MT2FeatureExtractor) -> None:
        super().__init__()
        self.features = features
        self.extractor = extractor
        blocks, filters, window = extractor._constants_on(torch.device("cpu"))
        # Lowest bins first and real beside imaginary parts, so that what a block reaches are its first channels.
        channels = [block.unflatten(1, (2, -1)).transpose(1, 2).flatten(1).T for block in blocks]
        self.sizes = [len(rows) for rows in channels]
        self.kernels = nn.Parameter(torch.cat(channels)[:, :, None])  # (channels of all blocks, hop_length, 1)
        n_fft = extractor.n_fft
        turns = torch.arange(n_fft // 2 + 1)[:, None] * torch.arange(n_fft) % n_fft
        angles = turns.double() * (2 * torch.pi / n_fft)
        fourier = torch.cat([angles.cos(), angles.sin()]) * window
        self.fourier = nn.Parameter(fourier.float()[:, None])
        self.filters = nn.Parameter(filters.T[:, :, None].contiguous())

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Encode mono clips of one length at the extractor's rate, (B, N) float32; outputs as of `FeatureGraph`."""
        input_features = self.front_end(waveform)
        return self.features(input_features, torch.ones_like(input_features[:, :, 0]))

    def front_end(self, waveform: Tensor) -> Tensor:
        """Compute what `MT2FeatureExtractor.extract` does, (B, N) to (B, T, F)."""
        extractor = self.extractor
        hop, n_fft, half = extractor.hop_length, extractor.n_fft, len(self.sizes) // 2
        num_frames = waveform.shape[1] // hop + 1
        margin = max(half * hop, n_fft)
        padded = nn.functional.pad(waveform, (margin, margin + num_frames * hop - waveform.shape[1]))
        blocks = padded[:, margin - half * hop :][:, : (num_frames + 2 * half) * hop].unflatten(1, (-1, hop))
        parts = nn.functional.conv1d(blocks.transpose(1, 2), self.kernels).split(self.sizes, dim=1)
        response = parts[0][:, :, :num_frames]
        for index in sorted(range(1, len(parts)), key=self.sizes.__getitem__):  # those that reach ever more bins
            room = (0, 0, 0, self.sizes[index] - response.shape[1])
            response = nn.functional.pad(response, room) + parts[index][:, :, index : index + num_frames]
        cqt = response.unflatten(1, (-1, 2)).square().sum(2)  # (B, K, T)
        if extractor.cqt_scale == "power":
            cqt = cqt.pow(extractor.cqt_power / 2)
        else:
            cqt = (1 + 10 * cqt.clamp(min=1e-10).log10() / 80).clamp(min=0)
        frames = padded[:, None, margin - n_fft // 2 :]
        spectrum = nn.functional.conv1d(frames, self.fourier, stride=hop)[:, :, :num_frames]
        power = spectrum.unflatten(1, (2, -1)).square().sum(1)
        mel = nn.functional.conv1d(power, self.filters)  # (B, M, T)
        mel = 10 * mel.clamp(min=10 ** (extractor.mel_floor_db / 10)).log10()
        mel = (mel - extractor.mel_floor_db) / extractor.mel_range_db
        return torch.cat([cqt, mel], dim=1).transpose(1, 2)


def export_onnx(model: str | Path, path: Path, input: str = "waveform", int8: bool = False) -> None:
    """Write a published model to one ONNX file.

    A classifier is exported as such, any other model as an encoder; its config says what it is. Inputs have the names
    of `MT2FeatureExtractor`'s results, or are "waveform"; outputs and shapes are those of `FeatureGraph`. Metadata:
    "model", "input", "sampling_rate" in hertz, "hop_length" in samples from one of the frames to the next,
    "front_end", the extractor's settings as JSON, of a classifier "labels", a JSON list in the order of logits, and
    of an analysis model also "frame_labels".

    Args:
        model: folder, Hub name or short name.
        path: file to write; it is complete, or not there.
        input: "waveform" for the whole way from mono float32 samples at `sampling_rate`, all clips of one length;
            "features" for the encoder alone, behind the extractor's `input_features` and `attention_mask`.
        int8: keep the encoder's matrices in 8 bits, and multiply with them in 8 bits; the front end stays float32.

    Raises:
        ValueError: `path` cannot be written, there is no such input, or the model is not a whole MT2 model.
        OSError: there is no such model.
        ImportError: a package that exporting needs is not installed.
    """
    if input not in ONNX_INPUTS:
        raise ValueError(f"input must be one of {', '.join(ONNX_INPUTS)}, got {input!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder, or lies in one that does not exist")
    for package in PACKAGES:
        _require(package)
    published = published_class(model)
    model_class = published if published in CLASSIFIERS else MT2Model
    loaded = load_model(model_class, model).float()
    extractor = load_extractor(model)
    if input == "waveform" and extractor.front_end != "local":
        raise ValueError(f"the {extractor.front_end} front end has no ONNX graph: export the encoder, input features")
    metadata = {
        "model": Path(model).name,
        "input": input,
        "sampling_rate": str(extractor.sampling_rate),
        "hop_length": str(extractor.hop_length),
        "front_end": extractor.to_json_string(),
    }
    if model_class is not MT2Model:
        metadata["labels"] = json.dumps([loaded.config.id2label[index] for index in range(loaded.config.num_labels)])
    if isinstance(loaded, MT2ForMusicAnalysis):
        metadata["frame_labels"] = json.dumps(list(loaded.config.frame_labels))
    with _quiet(), atomic_path(path) as unfinished:
        program = _to_onnx(loaded, extractor, input)
        program.model.metadata_props.update(metadata)
        if int8:
            quantization = importlib.import_module("onnxruntime.quantization")
            quantization.quantize_dynamic(
                program.model_proto,
                unfinished,
                op_types_to_quantize=["MatMul"],  # not convolutions: what the front end answers spans more than 8 bits
                weight_type=quantization.QuantType.QUInt8,  # products with signed ones overflow on older processors
            )
        else:
            program.save(unfinished)


def _to_onnx(model: MT2PreTrainedModel, extractor: MT2FeatureExtractor, input: str) -> Any:
    features_graph = FeatureGraph(model)
    graph: nn.Module = features_graph
    # More than one clip, and more than one window, which need not be whole: sizes of 1 are taken for constants.
    num_frames = 2 * model.config.max_frames + 1
    features, mask = torch.rand(2, num_frames, model.config.input_size), torch.ones(2, num_frames, dtype=torch.int32)
    example = {"input_features": features, "attention_mask": mask}
    if input == "waveform":
        graph = WaveformGraph(features_graph, extractor)
        example = {"waveform": torch.rand(2, num_frames * extractor.hop_length + 1)}
    graph.eval().requires_grad_(False)
    names = list(graph(**example))
    length = Dim("samples" if input == "waveform" else "num_frames")
    batch = Dim("batch")
    program: Any = torch.onnx.export(
        graph,
        kwargs=example,
        dynamo=True,
        verbose=False,
        input_names=list(example),
        output_names=names,
        dynamic_shapes={name: {0: batch, 1: length} for name in example},
    )
    for node in program.model.graph:
        node.metadata_props.clear()  # call stacks, with the paths of this machine
        for value in node.outputs:
            if value.name in names and not value.is_graph_output():
                value.name += "_inside"  # named for its operation, such as "mean", and in the way of an output's name
    return program


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"exporting needs the package {package}: run `pip install {' '.join(PACKAGES)}`") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs that are meant for developers of the exporters; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
