"""On a device other than the CPU, on any machine: torch only notes shapes, types and devices, and refuses to mix them.

What depends on values is decided by the test. Not here: metrics, which see lists and arrays, and linear probes, fitted
on the CPU.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from mt2_music import (
    MT2FeatureExtractor,
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForMusicAnalysis,
    MT2ForPreTraining,
    MT2Model,
)
from mt2_music.music import KEY_LABELS
from mt2_music.song.embed import embed_audio
from mt2_music.song.keys import classify_key, estimate_key
from mt2_music.train.data.windows import NUM_DRAWS
from mt2_music.train.finetune.trainer import in_own_units, loss_of
from mt2_music.train.plots.pictures import class_attention, self_similarity
from mt2_music.train.pretrain import augment, losses
from mt2_music.train.pretrain.augment import Augmentation
from mt2_music.train.pretrain.callbacks import OnlineProbe
from mt2_music.train.pretrain.config import MT2TrainingArguments
from mt2_music.train.pretrain.trainer import MT2Trainer
from mt2_music.train.probing.heads import Beats, Chords, Classes, Keys, Numbers, Tags, Tempo
from mt2_music.train.publish import calibrate
from support import RATE, song, tiny_config

# A build of torch for CPUs alone knows no CUDA; of the devices that it knows, "lazy" is one that is not the CPU.
OTHER = torch.device("cuda:0" if torch.backends.cuda.is_built() else "lazy:0")
MISMATCH = "Expected all tensors to be on the same device|index is on|numpy|Metal"
aten = torch.ops.aten
# Of operations one might use here, those that torch does not have for Apple's GPUs, which also know no float64.
NOT_ON_METAL = {aten._linalg_svd, aten._linalg_eigh, aten._pdist_forward, aten.linalg_eig, aten.linalg_lstsq}


class OnDevice(FakeTensorMode):
    """Notes devices instead of computing; numbers are 1.5, and where values decide, what is usual is so.

    Args:
        anything: whether `any()` finds something; `all()` always holds, and no comparison alone.
    """

    def __init__(self, anything: bool = False) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.answers = {"any": anything, "all": True}

    def dispatch(self, func, types, args=(), kwargs=None):
        if func is aten._local_scalar_dense.default:
            return (
                getattr(args[0], "answer", False)
                if args[0].dtype == torch.bool
                else (1.5 if args[0].dtype.is_floating_point else 1)
            )
        if func is aten.nonzero.default:  # every element counts
            with self:
                return torch.zeros(args[0].numel(), args[0].ndim, dtype=torch.long, device=args[0].device)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            for index in args[1]:
                if index is not None and index.device.type != "cpu" and index.device != args[0].device:
                    raise RuntimeError(f"index is on {index.device}, and what it looks into on {args[0].device}")
        result = super().dispatch(func, types, args, kwargs)
        given = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor)]
        there = [each for each in given if each.device.type != "cpu"]
        if there and (func.overloadpacket in NOT_ON_METAL or any(each.dtype == torch.float64 for each in there)):
            raise RuntimeError(f"Metal has no {func}, or no float64")
        if func.overloadpacket in (aten.any, aten.all):
            result.answer = self.answers[func.overloadpacket.__name__]
        return result


@pytest.fixture
def on_device(monkeypatch):
    """The mode, in which arrays can be made of what is on the CPU and of nothing else."""

    def numpy(self, **options):
        if self.device.type != "cpu":
            raise TypeError(f"can't convert a tensor on {self.device} to numpy")
        return np.zeros(tuple(self.shape), str(self.dtype).removeprefix("torch."))

    monkeypatch.setattr(FakeTensor, "numpy", numpy)
    monkeypatch.setattr(FakeTensor, "__array__", lambda self, *_, **__: numpy(self))
    monkeypatch.setattr(FakeTensor, "tolist", lambda self: numpy(self.cpu()).tolist())

    if OTHER.type != "cuda":  # it knows no other device whose precision it would lower
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())

    yield OnDevice
    augment._noise.cache_clear()


def make(cls, **changes):
    with OTHER:
        return cls(tiny_config(num_hidden_layers=1, **changes))


def rows(*shape):
    return torch.rand(*shape, device=OTHER, requires_grad=True)


OLD_TORCH = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8)


def on_other(result):
    """All tensors of a result; they must be on the device."""
    tensors = [result] if isinstance(result, torch.Tensor) else [t for t in result.values() if t is not None]
    flat = [each for t in tensors for each in (t if isinstance(t, tuple) else (t,))]
    assert flat and {each.device for each in flat} == {OTHER}
    return flat


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(len(x)),
        lambda x: x.softmax(0).cpu() @ x,
        lambda x: torch.arange(4)[x.argsort()],
        lambda x: torch.cat([x, torch.zeros(1)]),
        pytest.param(lambda x: x.detach().numpy(), marks=pytest.mark.skipif(OLD_TORCH, reason="it ends the process")),
        lambda x: torch.nn.functional.cross_entropy(x[None], torch.zeros(1, dtype=torch.long)),
        lambda x: torch.linalg.svdvals(x[None]),
        lambda x: torch.linalg.eigvalsh(x[None] * x[:, None]),
        lambda x: torch.nn.functional.pdist(x[:, None]),
        lambda x: x.double(),
        lambda x: x.sum(dtype=torch.float64),
        lambda x: torch.zeros(2, dtype=torch.float64, device=OTHER),
    ],
)
def test_these_tests_can_fail(on_device, wrong):
    with on_device(), pytest.raises((RuntimeError, TypeError), match=MISMATCH):
        wrong(rows(4))


LOSSES = {
    "phase": lambda: losses.profile_phase(rows(4, 12)),
    "distance": lambda: losses.transposition_distance(rows(4, 12), rows(4, 12), rows(4)),
    "cpsd": lambda: losses.cpsd_loss(rows(4, 12), rows(4, 12), rows(4, 12), rows(4)),
    "cpsd of three views": lambda: losses.cpsd_loss(rows(4, 12), rows(4, 12), rows(4, 12), rows(4), rows(4), 0.5),
    "nt_xent": lambda: losses.nt_xent_loss(rows(4, 16), torch.arange(2, device=OTHER).repeat(2)),
    "nt_xent of a matrix": lambda: losses.nt_xent_loss(rows(4, 16), torch.ones(4, 4, dtype=torch.bool, device=OTHER)),
    "frames": lambda: losses.frame_nt_xent_loss(rows(4, 3, 16), rows(4, 3, 16))[0],
    "tempo": lambda: losses.tempo_loss(rows(4, 16), torch.full((4,), 100.0, device=OTHER))[0],
    "cepstrum": lambda: losses.reading_loss(rows(4, 26), losses.cepstral_statistics(rows(4, 9, 128), 13)),
    "spectrum": lambda: losses.spectral_shape(rows(4, 9, 84)),
    "rank": lambda: losses.effective_rank(rows(4, 16)),
    "alignment": lambda: losses.alignment(rows(4, 16), rows(4, 16)),
    "uniformity": lambda: losses.uniformity(rows(4, 16)),
    "spread": lambda: losses.spread(rows(4, 16)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_measures_of_health(on_device, name):
    with on_device():
        (result,) = on_other(LOSSES[name]())
        result.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_augmentation(on_device, dtype):
    def effect(waveforms, rate, generator):
        assert generator.device.type == "cpu"
        return waveforms * torch.rand(len(waveforms), 1, generator=generator).to(waveforms.device)

    change = Augmentation(6.0, 3.0, 0.5, 0.5, 0.3, effect)
    with on_device():
        waveforms = torch.zeros(3, RATE, device=OTHER, dtype=dtype)
        draws = torch.rand(3, NUM_DRAWS, device=OTHER)
        on_other(change.waveforms(waveforms, draws, RATE))
        on_other(change.frames(torch.zeros(3, 32, 227, device=OTHER), draws))


@pytest.mark.parametrize("changes", [{}, {"cqt_scale": "decibel"}])
def test_the_front_end(on_device, changes):
    extractor = MT2FeatureExtractor(**changes)
    with on_device(anything=True):
        for dtype in (torch.float32, torch.int16):
            on_other(extractor.extract(torch.zeros(2, RATE, device=OTHER, dtype=dtype)))
        given = extractor([song(0, 2.0), song(1, 1.0)], sampling_rate=RATE, device=OTHER)
        assert [type(frames) for frames in given["input_features"]] == [np.ndarray] * 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("num_frames", [20, 75])
@pytest.mark.parametrize("cls", [MT2Model, MT2ForPreTraining])
def test_the_model(on_device, cls, num_frames, attention):
    with on_device():
        model = make(cls, attn_implementation=attention)
        features = torch.rand(2, num_frames, 227, device=OTHER)
        mask = torch.ones(2, num_frames, device=OTHER)
        moved, shown = torch.zeros(2, dtype=torch.long, device=OTHER), torch.ones(2, device=OTHER)
        for inputs in (
            {},
            {"attention_mask": mask},
            {"transposition": 3},
            {"transposition": moved, "mel_mask": shown},
        ):
            on_other(model(features, **inputs))
        seen = {"output_attentions": True, "output_hidden_states": True}
        sum(each.sum() for each in on_other(model(features, mask, **seen))).backward()


def test_pairs_of_windows_and_all_heads(on_device):
    with on_device():
        model = make(
            MT2ForPreTraining, contrastive_layer=1, contrastive_deviation=True,
            frame_projection_size=8, num_tempo_classes=8, num_cepstral_coefficients=5, num_spectrum_bins=84,
        ).train()  # fmt: skip
        for inputs in ({}, {"transposition": torch.zeros(3, 2, dtype=torch.long, device=OTHER)}):
            outputs = model(torch.rand(3, 2, 20, 227, device=OTHER), **inputs)
            on_other(outputs)
            outputs.loss.backward()


@pytest.mark.parametrize("pooling", ["equivariant", "contrastive", "mean", "frames", "concat"])
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression", None])
def test_classifiers_of_clips(on_device, pooling, problem):
    with on_device():
        model = make(MT2ForAudioClassification, pooling=pooling, problem_type=problem, num_labels=3)
        classes = problem in ("single_label_classification", None)
        labels = torch.zeros(2, dtype=torch.long, device=OTHER) if classes else torch.zeros(2, 3, device=OTHER)
        on_other(model(torch.rand(2, 40, 227, device=OTHER), torch.ones(2, 40, device=OTHER), labels))


@pytest.mark.parametrize("labels", [(2, 40), (2, 40, 3)])
def test_classifiers_of_frames(on_device, labels):
    with on_device():
        model = make(MT2ForAudioFrameClassification, num_labels=3)
        truth = torch.zeros(labels, device=OTHER, dtype=torch.long if len(labels) == 2 else torch.float32)
        for mask in (None, torch.ones(2, 40, device=OTHER)):
            on_other(model(torch.rand(2, 40, 227, device=OTHER), mask, truth))


def test_the_head_of_analyses(on_device):
    with on_device():
        model = make(MT2ForMusicAnalysis, num_labels=3, frame_labels=["beat", "chord C:maj"])
        for mask in (None, torch.ones(2, 40, device=OTHER)):
            found = model(torch.rand(2, 40, 227, device=OTHER), mask, torch.zeros(2, device=OTHER, dtype=torch.long))
            assert on_other(found)[2].shape == (2, 40, 2)


QUADS = {"quad_share": 1.0, "solo_share": 0.5, "per_device_train_batch_size": 4}
QUADS |= {f"{name}_weight": 1.0 for name in ("frame", "tempo", "solo_nt_xent", "cepstrum", "spectrum")}


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """The Trainer as it is on a machine with a device."""

    def make_trainer(heads, **changes):
        arguments = MT2TrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=10, **changes)
        model = MT2ForPreTraining(tiny_config(num_hidden_layers=1, **heads))
        made = MT2Trainer(
            model=model,
            args=arguments,
            processing_class=MT2FeatureExtractor(),
            augmentation=Augmentation(6.0, 3.0, 0.5, 0.5, 0.3),
        )
        monkeypatch.setattr(MT2TrainingArguments, "device", OTHER)
        return made

    return make_trainer


@pytest.mark.parametrize(
    "changes",
    [{}, {"mel_views": "all"}, {"songs_per_forward": 2}, QUADS],
    ids=lambda changes: next(iter(changes), "plain"),
)
@pytest.mark.parametrize("tokens", [["equivariant", "contrastive"], ["equivariant"], ["contrastive"]], ids="+".join)
def test_a_training_step_and_what_is_logged_of_it(on_device, trainer, changes, tokens, monkeypatch):
    windows, heads = 2, {}
    if "quad_share" in changes:
        heads = {"frame_projection_size": 8, "num_tempo_classes": 8, "num_cepstral_coefficients": 13}
        windows, heads["num_spectrum_bins"] = 3, 84
    trainer = trainer(heads, **changes)
    logged = []
    monkeypatch.setattr(MT2Trainer.__base__, "log", lambda self, logs, *_: logged.append(logs))
    with on_device():
        model = make(MT2ForPreTraining, class_tokens=tokens, **heads).train()
        batch = {
            "waveforms": torch.zeros(4, windows, RATE, dtype=torch.int16, device=OTHER),
            "transpositions": torch.zeros(4, 3, dtype=torch.long, device=OTHER),
            "augmentation": torch.rand(4, windows, NUM_DRAWS, device=OTHER),
            "num_draws": torch.ones(4, device=OTHER),
            "song": torch.arange(4, device=OTHER),
            "sound": torch.zeros(4, dtype=torch.long, device=OTHER),
            "tempo": torch.full((4,), 100.0, device=OTHER),
        }
        loss = trainer.compute_loss(model, batch)
        on_other(loss)
        loss.backward()
        assert {weights.grad.device for weights in model.parameters() if weights.grad is not None} == {OTHER}
        trainer.log({"loss": 1.0})
    assert {f"rank_{token}" for token in tokens} <= logged[0].keys()


def test_the_online_probe(on_device, monkeypatch):
    probe = object.__new__(OnlineProbe)  # as if it had read a corpus of eight pieces
    probe.extractor = MT2FeatureExtractor()
    probe.features = [torch.rand(70, 227).half() for _ in range(8)]
    probe.signatures, probe.overlap = np.zeros(8, int), np.ones((8, 8))
    pieces = [(index % 12, torch.rand(40, 227)) for index in range(3)]
    monkeypatch.setattr(calibrate, "_composed_pieces", lambda *_: pieces)
    with on_device():
        scores = probe.measure(make(MT2ForPreTraining))
    assert scores.keys() == {"probe_key", "probe_key_fifth", "probe_instruments"}


FINE_TUNING = {
    "single": ((4, 3), (4,), torch.long),
    "multi": ((4, 3), (4, 3), torch.float32),
    "regression": ((4, 3), (4, 3), torch.float32),
    "frames": ((4, 9, 3), (4, 9), torch.long),
}


@pytest.mark.parametrize("task", FINE_TUNING)
@pytest.mark.parametrize("labelled", [True, False])
def test_losses_of_fine_tuning(on_device, task, labelled):
    logits, labels, dtype = FINE_TUNING[task]
    with on_device(anything=labelled):
        weights = None if task == "regression" else torch.ones(3)  # as `Targets.weights` makes them, on the CPU
        loss = loss_of(task, rows(*logits), torch.zeros(labels, dtype=dtype, device=OTHER), weights)
        on_other(loss)
        loss.backward()


def test_a_head_in_its_own_units_is_made_on_the_cpu(on_device):
    """As `finish` does it; the statistics are arrays."""

    class Statistics:
        deviation, mean = np.ones(3), np.zeros(3)

    in_own_units(MT2ForAudioClassification(tiny_config(num_labels=3)), Statistics())


@pytest.mark.parametrize(
    ("head", "logits", "targets", "dtype"),
    [
        (Classes(), (5, 3), (5,), torch.long),
        (Keys(), (5, 24), (5,), torch.long),
        (Tags(), (5, 3), (5, 3), torch.float32),
        (Numbers(), (5, 2), (5, 2), torch.float32),
        (Tempo(), None, (5,), torch.long),
        (Chords(), (5, 25), (5,), torch.long),
        (Beats(), (5, 1), (5, 1), torch.float32),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "in_time") else "",
)
def test_losses_of_probing(on_device, head, logits, targets, dtype):
    with on_device(anything=True):
        loss = head.loss(rows(*(logits or (5, head.num_outputs))), torch.zeros(targets, dtype=dtype, device=OTHER))
        on_other(loss)
        loss.backward()


def test_songs_to_embeddings_keys_and_pictures(on_device):
    """All that takes a song and gives arrays, by a model on the device."""
    extractor, audio = MT2FeatureExtractor(), song(0, 3.0)
    numbers = {name: index for index, name in enumerate(KEY_LABELS)}
    with on_device():
        model = make(MT2ForPreTraining).eval()
        model.config.key_calibration = 1.5
        classifier = make(MT2ForAudioClassification, label2id=numbers, id2label=dict(enumerate(KEY_LABELS))).eval()
        assert embed_audio(model.mt2, extractor, audio, RATE, frames=True).frames.shape[1] == 96
        assert estimate_key(model, extractor, audio, RATE, transpositions=1).profile.shape == (12,)
        assert classify_key(classifier, extractor, audio, RATE, transpositions=1).profile.shape == (12,)
        features = torch.rand(50, 227)
        assert class_attention(model, features).shape == (2, 1, 32)
        assert self_similarity(torch.rand(50, 96, device=OTHER)).shape == (50, 50)
