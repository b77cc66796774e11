"""Pre-training on quads: the losses of the prototype, all in one run, exact resumption, each off by its weight."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.train.data.quads import QUADS_FILE
from mt2_music.train.pretrain.__main__ import main
from mt2_music.train.pretrain.config import MT2TrainingArguments
from mt2_music.train.pretrain.run import load_audio, make_trainer, parse_arguments
from mt2_music.train.pretrain.trainer import MT2Trainer
from mt2_music.train.run_folder import SETTINGS_FILE
from support import TINY, KilledError, after_saving, log_of, same_weights, tiny_config, weights_of

REFERENCE = Path(__file__).parent / "reference" / "quads.npz"
# In which place of a batch of the package a song of the prototype's lies: solos first, both songs of a quad together.
ORDER = [2, 6, 3, 7, 0, 4, 1, 5, 8, 9, 10, 11]
LOSSES = {  # and the head that only it needs
    "cpsd": None,
    "nt_xent": None,
    "solo_nt_xent": None,
    "frame": "frame_head",
    "tempo": "tempo_head",
    "cepstrum": "cepstrum_head",
    "spectrum": "spectrum_head",
}


def logged_as(name):
    return f"loss_{name.removesuffix('_nt_xent') or name}" if name != "nt_xent" else "loss_nt_xent"


@pytest.mark.parametrize("positives", [True, False])
def test_losses_are_those_of_the_prototype(tmp_path, positives):
    """On tensors, with values of the prototype's formulas; the order of rows is the package's own."""
    reference = {name: torch.from_numpy(np.atleast_1d(value)) for name, value in np.load(REFERENCE).items()}
    arguments = MT2TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=12, quad_share=2 / 3, solo_share=0.5,
        frame_weight=1.0, solo_nt_xent_weight=0.25, instants_per_window=6, orchestration_positives=positives,
    )  # fmt: skip
    model = MT2ForPreTraining(tiny_config()).train()
    trainer = MT2Trainer(model=model, args=arguments, processing_class=MT2FeatureExtractor())
    head = nn.Sequential(nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 8))
    head.load_state_dict({name: reference[f"frame_head.{name}"] for name in head.state_dict()})
    outputs = {view: {"projection": reference[view][ORDER]} for view in "ab"}
    outputs["y"] = {
        "projection": reference["y"][ORDER[:8]],
        "frame_projection": head(reference["frames_y"][ORDER[:8]]),
    }
    outputs["a"]["frame_projection"] = head(reference["frames_a"][ORDER[:8]])
    outputs |= {"b_bare": {}, "c_bare": {}}
    for view, logits in zip(("a", "b_bare", "c_bare"), reference["key_logits"], strict=True):
        outputs[view]["key_logits"] = logits[ORDER]
    drawn = reference["transpositions"][ORDER]
    inputs = {
        "transpositions": torch.cat([torch.full((12, 1), 5), drawn], dim=1),  # A is encoded as it sounds all the same
        "augmentation": torch.full((12, 3, 1), (2 + 0.5) / 4),  # the third of four places where instants can start
        "song": torch.arange(12),
        "sound": torch.arange(12) ^ 1,
    }
    losses = {name: float(loss.detach()) for name, (_, loss) in trainer.losses(outputs, model, inputs, {}).items()}
    values = {name: float(value) for name, value in reference.items() if value.numel() == 1}
    if not positives:
        values["loss_nt_xent"] = values["loss_nt_xent_of_songs"]
        assert losses.pop("loss_solo") != pytest.approx(values["loss_solo"], rel=0.1)
    assert losses == pytest.approx({name: values[name] for name in losses}, abs=1e-5)
    assert len(losses) == (4 if positives else 3)
    for name in ("frame_accuracy", "profile_magnitude"):
        assert float(trainer._sums[name]) == pytest.approx(values[name], abs=1e-5)


def options(quads_dir, *more):
    """A batch of four songs of quads, two of them solos, if nothing else is said."""
    return ["--quads_dir", str(quads_dir), *TINY, "--quad_share", "1", "--solo_share", "0.5", *map(str, more)]


def trainer_of(given, output_dir):
    arguments, training = parse_arguments([*given, "--output_dir", str(output_dir)])
    return make_trainer(arguments, training, load_audio(arguments))


def first_losses(trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    model = trainer.model.train()
    features = trainer._features(batch)
    views = trainer._views(model.config.class_tokens, features, batch["transpositions"])
    losses = trainer.losses(trainer._forward(model, views), model, batch, features)
    return losses, trainer.compute_loss(model, batch)


@pytest.mark.parametrize("off", [None, *LOSSES])
def test_a_loss_of_weight_zero_is_left_out_with_its_head(quads_dir, tmp_path, off):
    given = options(quads_dir, "--max_steps", 1, *([f"--{off}_weight", 0] if off else []))
    trainer = trainer_of(given, tmp_path)
    for name, head in LOSSES.items():
        assert head is None or hasattr(trainer.model, head) == (name != off)
    losses, total = first_losses(trainer)
    assert losses.keys() == {logged_as(name) for name in LOSSES if name != off}
    assert float(total) == pytest.approx(sum(weight * float(loss) for weight, loss in losses.values()), rel=1e-5)
    total.backward()
    if off is None:
        assert all(p.grad is not None for p in trainer.model.parameters())


def test_a_killed_run_on_quads_and_recordings_goes_on_to_the_same_end(
    quads_dir, music_folder, tmp_path, monkeypatch, caplog
):
    """Windows of changing length, every loss in the log."""
    given = options(quads_dir, "--audio_dir", music_folder, "--max_steps", 6, "--save_steps", 2)
    given += ["--per_device_train_batch_size", "6", "--quad_share", "0.66", "--shortest_window_seconds", "0.5"]
    main([*given, "--output_dir", str(tmp_path / "whole")])

    def die():
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        after_saving(patch, MT2Trainer, 4, die)
        main([*given, "--output_dir", str(tmp_path / "killed")])
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    other = shutil.copytree(quads_dir, tmp_path / "other")
    (other / QUADS_FILE).write_text(
        (other / QUADS_FILE).read_text(encoding="utf-8").replace("90.0", "91.0"), encoding="utf-8"
    )
    assert main([*given, "--quads_dir", str(other), "--output_dir", str(tmp_path / "killed")]) == 2
    assert re.search("quads_sha256: .* became", caplog.text)
    main([*given, "--output_dir", str(tmp_path / "killed")])
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    logged = [entry for entry in log_of(tmp_path / "whole") if "loss" in entry]
    assert len(logged) == 3
    measured = {"frame_accuracy", "profile_magnitude", "rank_equivariant", "rank_contrastive", "share_windows_skipped"}
    assert all({logged_as(name) for name in LOSSES} | measured <= entry.keys() for entry in logged)
    settings = json.loads((tmp_path / "whole" / SETTINGS_FILE).read_text(encoding="utf-8"))
    assert settings["quad_hours"] == pytest.approx(6 * 4 * 5 / 3600, abs=1e-3)
    heads = {name.split(".")[0] for name in weights_of(tmp_path / "whole")}
    assert heads == {
        "mt2",
        "key_head",
        "projection_head",
        "frame_head",
        "tempo_head",
        "cepstrum_head",
        "spectrum_head",
    }


def test_the_published_recipe_is_three_views_with_their_mel_halves(music_folder, tmp_path):
    given = ["--preset", "paper", "--audio_dir", str(music_folder), *TINY, "--max_steps", "1", "--save_steps", "2"]
    given += ["--contrastive_layer", "0", "--logging_steps", "1"]
    trainer = trainer_of(given, tmp_path)
    seen = []
    trainer.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    (views,) = seen
    a, b, c = views["transposition"].chunk(3)
    assert len(views["input_features"]) == 12 and (views["mel_mask"] == 1).all()
    assert torch.equal(a, b) and (a != c).all() and a.any()
    first, _, again = views["input_features"].chunk(3)
    assert torch.equal(first, again)
    logged = trainer.state.log_history[0]
    assert {name for name in logged if name.startswith("loss_")} == {"loss_cpsd", "loss_nt_xent"}
    assert logged["loss"] == pytest.approx(logged["loss_cpsd"] + logged["loss_nt_xent"], abs=1e-3)
    config = trainer.model.config
    assert (config.chroma_init, config.center_profile, config.contrastive_layer) == (False, False, None)


def test_quads_alone_must_fill_a_batch(quads_dir, tmp_path):
    with pytest.raises(ValueError, match="2 songs of a batch of 4 are recordings"):
        trainer_of(options(quads_dir, "--quad_share", 0.5), tmp_path)
    arguments, training = parse_arguments([*options(quads_dir), "--output_dir", str(tmp_path)])
    arguments.quads_dir = None
    with pytest.raises(ValueError, match="give --quads_dir"):
        make_trainer(arguments, training, None)
