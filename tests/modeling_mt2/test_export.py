"""Export: the ONNX file says what torch says, for any batch and length, and stands alone."""

import json
import sys

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.export import Dim

from mt2_music import (
    MT2FeatureExtractor,
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForMusicAnalysis,
    MT2ForPreTraining,
    MT2Model,
)
from mt2_music.cli import main
from mt2_music.export import FeatureGraph, WaveformGraph, export_onnx
from support import RATE, song, tiny_config

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

EARLY = {"num_hidden_layers": 2, "contrastive_layer": 1, "contrastive_deviation": True}  # as the published models
TOLERANCE = 1e-4
# Of single frames: a band of a pure tone near the floor is rounding, and the encoder's first norm enlarges it. Torch's
# own frame tokens move as much when the same music is 1e-6 louder.
FRAME_TOLERANCE = 1e-3
NAMES = {"mean": "pooler_output", "frames": "last_hidden_state"}
NAMES |= {name: f"{name}_embeds" for name in ("equivariant", "contrastive")}


def make(cls, **changes):
    torch.manual_seed(0)
    model = cls(tiny_config(**{"num_hidden_layers": 1, **changes})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("_token"):  # they start at zero or nearly, and nobody would miss them
            parameter.data.normal_()
    return model


def save(model, folder):
    model.save_pretrained(folder)
    MT2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Folder of a classifier, in half precision as models are published."""
    labels = dict(enumerate(["slow", "middling", "fast"]))
    model = make(MT2ForAudioClassification, pooling="concat", id2label=labels).half()
    return save(model, tmp_path_factory.mktemp("models") / "tempo")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save(make(MT2ForPreTraining), tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="module")
def waveform_file(classifier):
    path = classifier / "model.onnx"
    export_onnx(classifier, path)
    return path


@pytest.fixture(scope="module")
def features_file(encoder):
    path = encoder / "model.onnx"
    export_onnx(encoder, path, input="features")
    return path


def answers(file, **inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


@torch.no_grad()
def expected(model, features, mask=None):
    """What torch says, under the names of the file."""
    outputs = getattr(model, "mt2", model)(features, mask)
    results = {name: outputs[attribute] for name, attribute in NAMES.items()}
    if not isinstance(model, (MT2Model, MT2ForPreTraining)):
        results["logits"] = model(features, mask).logits
    return results


def differences(got, want):
    assert got.keys() == want.keys()
    assert all(got[name].shape == want[name].shape for name in want)
    return {name: float(np.abs(np.asarray(got[name]) - np.asarray(want[name])).max()) for name in want}


def worst(got, want):
    return max(differences(got, want).values())


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (1, 1),
        (3, 511),
        (2, 31 * 512),  # one whole window of 32 frames
        (2, 31 * 512 + 511),
        (1, 32 * 512),  # one frame more than a window
        (3, 50_001),
        (1, 161_803),
    ],
)
def test_a_waveform_gives_what_extractor_and_classifier_give(classifier, waveform_file, extractor, batch, samples):
    model = MT2ForAudioClassification.from_pretrained(classifier).float().eval()
    clips = np.stack([song(index, 12.0)[-samples:] for index in range(batch)])
    want = expected(model, extractor.extract(torch.from_numpy(clips)))
    off = differences(answers(waveform_file, waveform=clips), want)
    assert off.pop("frames") < FRAME_TOLERANCE
    assert max(off.values()) < TOLERANCE
    if samples > 512:
        others = np.stack([song(index + 5, 12.0)[-samples:] for index in range(batch)])
        assert min(differences(answers(waveform_file, waveform=others), want).values()) > 10 * TOLERANCE


@pytest.mark.parametrize("lengths", [[1], [7, 20], [32, 5, 31], [33], [100, 64, 3, 40]])
def test_padded_features_give_what_each_clip_gives_alone(encoder, features_file, extractor, lengths):
    """The extractor's own arrays go in as they are; clips of less than a window and of several in one batch."""
    model = MT2Model.from_pretrained(encoder).eval()
    clips = [song(index, 5.0)[: (length - 1) * 512 + 1] for index, length in enumerate(lengths)]
    batch = dict(extractor(clips, sampling_rate=RATE, return_tensors="np"))
    got = answers(features_file, **batch)
    for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        want = expected(model, torch.from_numpy(extractor(clip, sampling_rate=RATE)["input_features"][0])[None])
        alone = {name: value[row : row + 1] for name, value in got.items()}
        alone["frames"] = alone["frames"][:, :length]
        assert worst(alone, want) < TOLERANCE
    if min(lengths) < max(lengths):
        batch["input_features"][batch["attention_mask"] == 0] = 1.0
        unmasked = answers(features_file, **{**batch, "attention_mask": np.ones_like(batch["attention_mask"])})
        assert np.abs(unmasked["mean"] - got["mean"]).max() > 10 * TOLERANCE


def test_wrong_input_is_refused_by_the_file(features_file, waveform_file):
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="227"):
        answers(features_file, input_features=np.zeros((1, 9, 226), "f4"), attention_mask=np.ones((1, 9), "i4"))
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="rank"):
        answers(waveform_file, waveform=np.zeros(9, "f4"))


def test_int8_is_smaller_and_near_but_not_equal(encoder, features_file, extractor, tmp_path):
    path = tmp_path / "small.onnx"
    assert main(["export", str(encoder), str(path), "--input", "features", "--int8"]) == 0
    assert path.stat().st_size < 0.5 * features_file.stat().st_size
    batch = dict(extractor([song(0), song(1, 3.0)], sampling_rate=RATE, return_tensors="np"))
    small, exact = answers(path, **batch), answers(features_file, **batch)
    for name in ("mean", "equivariant", "contrastive"):
        cosines = torch.nn.functional.cosine_similarity(*(torch.from_numpy(each[name]) for each in (small, exact)))
        assert cosines.min() > 0.999
        assert np.abs(small[name] - exact[name]).max() > TOLERANCE


def test_a_file_stands_alone(classifier, waveform_file, features_file):
    """What its user must know is inside, and nothing of the machine that wrote it."""
    session = onnxruntime.InferenceSession(str(waveform_file))
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["model"], metadata["input"]) == ("tempo", "waveform")
    assert (metadata["sampling_rate"], metadata["hop_length"]) == ("16000", "512")
    assert json.loads(metadata["labels"]) == ["slow", "middling", "fast"]
    assert json.loads(metadata["front_end"]) == json.loads(
        (classifier / "preprocessor_config.json").read_text(encoding="utf-8")
    )
    assert [session.get_inputs()[0].name, *session.get_inputs()[0].shape] == ["waveform", "batch", "samples"]
    metadata = onnxruntime.InferenceSession(str(features_file)).get_modelmeta().custom_metadata_map
    assert metadata["input"] == "features"
    assert "labels" not in metadata
    for file in (waveform_file, features_file):
        assert {path.suffix for path in file.parent.iterdir()} == {".json", ".safetensors", ".py", ".onnx"}
        assert b"/modeling_mt2.py" not in file.read_bytes()


@pytest.mark.parametrize("changes", [{}, {"cqt_scale": "decibel"}, {"hop_length": 400, "n_fft": 900}])
def test_the_front_end_of_real_numbers_is_the_extractor(changes):
    extractor = MT2FeatureExtractor(**changes)
    graph = WaveformGraph(FeatureGraph(make(MT2Model)), extractor)
    music = [song(index)[: 2 * RATE] for index in range(2)]
    waveforms = torch.from_numpy(np.stack([music[0], 1e-4 * music[1], 0 * music[0]]))
    for samples in (1, 399, 400, 2 * RATE):
        with torch.no_grad():
            got, want = graph.front_end(waveforms[:, :samples]), extractor.extract(waveforms[:, :samples])
        assert got.shape == want.shape
        assert (got - want).abs().max() < TOLERANCE


@pytest.mark.parametrize("pooling", ["equivariant", "contrastive", "mean", "frames", "concat", None])
def test_every_classifier_has_the_logits_of_whole_clips(pooling):
    changes = {"pooling": pooling} if pooling else {}
    model = make(MT2ForAudioClassification if pooling else MT2ForAudioFrameClassification, num_labels=4, **changes)
    features, mask = torch.rand(2, 75, 227), torch.ones(2, 75)
    mask[1, 41:] = 0
    with torch.no_grad():
        got, want = FeatureGraph(model)(features, mask), expected(model, features, mask)
    for results in (got, want):  # tokens of padding mean nothing
        for name in {"frames"} if pooling else {"frames", "logits"}:
            results[name] = results[name][mask.bool()]
    assert worst(got, want) < 1e-5


def test_a_file_of_an_analysis_model_has_both_its_heads(extractor, tmp_path):
    settings = {"frame_labels": ["rising", "falling"], "id2label": {0: "slow", 1: "fast", 2: "neither"}}
    model = make(MT2ForMusicAnalysis, num_context_layers=2, context_size=8, **settings)
    folder, path = save(model, tmp_path / "analysis"), tmp_path / "model.onnx"
    export_onnx(folder, path)
    clips = np.stack([song(place)[: 6 * RATE] for place in (1, 2)])
    with torch.no_grad():
        wanted = model(**extractor(list(clips), sampling_rate=RATE, return_tensors="pt"))
    got = answers(path, waveform=clips)
    assert got["logits"] == pytest.approx(wanted.logits.numpy(), abs=TOLERANCE)
    assert got["frame_logits"] == pytest.approx(wanted.frame_logits.numpy(), abs=FRAME_TOLERANCE)
    assert wanted.frame_logits.std() > 0.01
    metadata = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["frame_labels"]) == settings["frame_labels"]
    assert json.loads(metadata["labels"]) == ["slow", "fast", "neither"]


def test_a_contrastive_token_of_an_earlier_layer_is_that_of_the_model():
    model = make(MT2ForPreTraining, **EARLY)
    features, mask = torch.rand(2, 75, 227), torch.ones(2, 75)
    mask[1, 41:] = 0
    with torch.no_grad():
        got, want = FeatureGraph(model)(features, mask), expected(model, features, mask)
    for results in (got, want):
        results["frames"] = results["frames"][mask.bool()]
    assert worst(got, want) < 1e-5


@pytest.mark.parametrize("token", ["equivariant", "contrastive"])
def test_outputs_are_those_the_model_has(token):
    outputs = FeatureGraph(make(MT2Model, class_tokens=[token]))(torch.rand(1, 5, 227), torch.ones(1, 5))
    assert list(outputs) == ["mean", token, "frames"]


@pytest.mark.parametrize("changes", [{}, EARLY], ids=["plain", "early"])
def test_torch_exports_one_program_for_all_batches_and_lengths(changes):
    """As `torch.onnx` lets it: with no size taken for one that never equals another."""
    model = make(MT2Model, **changes)
    sizes = {0: Dim("batch"), 1: Dim("frames")}
    example = (torch.rand(2, 65, 227), torch.ones(2, 65))
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(FeatureGraph(model), example, dynamic_shapes=(sizes, sizes)).module()
    for batch, frames in ((3, 1), (2, 32), (1, 33), (2, 64), (4, 150)):
        features = torch.rand(batch, frames, 227)
        with torch.no_grad():
            got = program(features, torch.ones(batch, frames))
        assert worst(got, expected(model, features)) < 1e-5


@pytest.mark.parametrize("wrap", [lambda model: model, FeatureGraph], ids=["model", "graph"])
def test_ten_lengths_compile_at_most_three_graphs(wrap):
    torch.compiler.reset()
    counter = CompileCounter()
    graph = torch.compile(wrap(make(MT2Model)), fullgraph=True, backend=counter)
    with torch.no_grad():
        for frames in (20, 31, 32, 7, 33, 64, 65, 100, 9, 150):
            graph(torch.rand(2, frames, 227), torch.ones(2, frames))
    assert 1 <= counter.frame_count <= 3


def test_torch_exports_the_model_itself_for_all_batches_and_lengths_of_a_window():
    model = make(MT2Model)
    sizes = {0: Dim("batch"), 1: Dim("frames", min=2, max=model.config.max_frames)}
    example, masks = torch.rand(2, 17, 227), torch.ones(2, 17)
    program = torch.export.export(model, (example, masks), dynamic_shapes=(sizes, sizes)).module()
    for batch, frames in ((3, 2), (2, 32), (5, 20)):
        features = torch.rand(batch, frames, 227)
        with torch.no_grad():
            got, want = (module(features, torch.ones(batch, frames)) for module in (program, model))
        assert torch.allclose(got["pooler_output"], want.pooler_output, atol=1e-5)


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(encoder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="cannot write .*nowhere"):
        export_onnx(encoder, tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(ValueError, match="cannot write"):
        export_onnx(encoder, tmp_path)
    with pytest.raises(ValueError, match="waveform, features"):
        export_onnx(encoder, path, input="notes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert main(["export", str(tmp_path / "other"), str(path)]) == 2
    assert "not mt2" in capsys.readouterr().err
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_onnx(encoder, path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="onnxscript: run `pip install onnx onnxscript onnxruntime`"):
        export_onnx(encoder, path)
    assert [each.name for each in tmp_path.iterdir()] == ["other"]


def test_a_failure_half_way_keeps_the_file_that_was_there(encoder, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")

    class Program:
        class model:  # noqa: N801
            metadata_props = {}

        def save(self, place):
            place.write_bytes(b"half")
            raise OSError("disk full")

    monkeypatch.setattr("mt2_music.export._to_onnx", lambda *_: Program())
    with pytest.raises(OSError, match="disk full"):
        export_onnx(encoder, path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
