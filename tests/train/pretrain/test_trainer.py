"""The Trainer: both losses in one forward, no shortcut past harmony, collapse is noticed, processes agree."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.modeling_mt2 import MT2ForPreTrainingOutput
from mt2_music.train.data.tracks import find_files, scan
from mt2_music.train.data.windows import NUM_DRAWS, Transpositions, WindowPairs, Windows
from mt2_music.train.pretrain import trainer as trainer_module
from mt2_music.train.pretrain.config import MT2TrainingArguments
from mt2_music.train.pretrain.losses import profile_phase
from mt2_music.train.pretrain.trainer import (
    MIN_PROFILE_MAGNITUDE,
    MIN_SPREAD,
    MT2Trainer,
    RepresentationCollapseError,
)
from mt2_music.train.run_folder import CheckpointError, last_complete_checkpoint
from support import RATE, python, song, tiny_config, tone


class OffsetReader(nn.Module):
    """A shortcut without harmony: it reads the transposition off the distance from mel pitch to CQT pitch.

    Its key logits are one-hot at that distance, so CPSD falls to zero wherever both halves are there to compare. Where
    the mel half is hidden it answers with a fixed key, or that all keys are equally likely.
    """

    def __init__(self, sure_when_blind):
        super().__init__()
        self.config = tiny_config(center_profile=False, profile_gain=1.0)
        self.inner = MT2ForPreTraining(self.config)
        self.key_head = self.inner.key_head
        self.sure_when_blind = sure_when_blind

    def forward(self, input_features, transposition, mel_mask):
        cqt = self.inner.mt2.embeddings._crop(input_features, transposition).mean(1)
        mel_hz = 23.38 * (input_features[:, :, 99:].mean(1).argmax(1) + 1)  # Slaney bands are even below 1 kHz
        distance = (cqt.argmax(1) - 12 * torch.log2(mel_hz / 27.5)).round().long() % 12
        blind = torch.tensor(50.0 * self.sure_when_blind) * nn.functional.one_hot(torch.zeros_like(distance), 12)
        logits = torch.where(mel_mask[:, None] > 0, 50.0 * nn.functional.one_hot(distance, 12), blind)
        return MT2ForPreTrainingOutput(
            key_logits=logits, projection=input_features.mean(1), equivariant_embeds=logits, contrastive_embeds=logits
        )


def make_trainer(model, tmp_path, dataset=None, **changes):
    settings = {
        "max_steps": 10,
        "dataloader_num_workers": 0,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    settings |= {"logging_steps": 1, "warmup_steps": 0, "save_strategy": "no", "dataloader_pin_memory": False}
    return MT2Trainer(
        model=model,
        args=MT2TrainingArguments(output_dir=str(tmp_path), **{**settings, **changes}),
        train_dataset=dataset,
        data_collator=torch.utils.data.default_collate,
        processing_class=MT2FeatureExtractor(),
    )


def batch_of(waveforms, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-8, 8, (len(waveforms), 3), generator=generator)
    augmentation = torch.rand(len(waveforms), 2, NUM_DRAWS, generator=generator)
    draws = torch.ones(len(waveforms))
    return {
        "waveforms": waveforms,
        "transpositions": drawn,
        "augmentation": augmentation,
        "num_draws": draws,
        "song": torch.arange(len(waveforms)),
    }


def cheating_loss(tmp_path, sure_when_blind, **changes):
    """CPSD of the cheat on pure tones at random pitches, where it reads every offset exactly."""
    cheat = OffsetReader(sure_when_blind)
    trainer = make_trainer(cheat, tmp_path, **changes)
    rng = np.random.default_rng(0)
    pitches = rng.choice([234.0, 351.0, 468.0, 585.0, 702.0], 32)
    waveforms = torch.stack([torch.from_numpy(np.stack([tone(pitch)] * 2)) for pitch in pitches])
    trainer.compute_loss(cheat, batch_of(waveforms))
    return float(trainer._sums["loss_cpsd"])


def test_reading_the_offset_does_not_help(tmp_path, monkeypatch):
    """The shortcut is closed: a perfect offset reader is no better than a collapsed model; open, it reaches zero."""
    assert cheating_loss(tmp_path, sure_when_blind=False) == pytest.approx(3.0, abs=1e-3)
    assert cheating_loss(tmp_path, sure_when_blind=True) > 3.0
    assert cheating_loss(tmp_path, sure_when_blind=False, mel_views="all") < 0.2  # as published it is open
    plain = OffsetReader.forward
    monkeypatch.setattr(
        OffsetReader,
        "forward",
        lambda self, mel_mask, **inputs: plain(self, mel_mask=torch.ones_like(mel_mask), **inputs),
    )
    assert cheating_loss(tmp_path, sure_when_blind=False) < 0.2


def test_the_trained_profile_follows_the_cqt_and_not_the_mel(run_dir, extractor):
    """On a briefly trained model and songs it was not trained on: phases on the circle of fifths."""
    model = MT2ForPreTraining.from_pretrained(run_dir).eval()
    clips = [song(100 + index)[2 * RATE : 3 * RATE] for index in range(24)]
    inputs = extractor(clips, sampling_rate=RATE, return_tensors="pt")["input_features"]
    swapped = inputs.clone()
    swapped[:, :, 99:] = inputs.roll(1, 0)[:, :, 99:]

    @torch.no_grad()
    def phase(features, **kwargs):
        return torch.view_as_complex(profile_phase(model(features, **kwargs).key_signature_profile).contiguous())

    def agreement(a, b):  # 1 when b = a, about 0 when unrelated
        return float((b * a.conj()).real.sum() / (a.abs() * b.abs()).sum())

    own, turn = phase(inputs), 2 * torch.pi * 7 / 12
    assert agreement(own, phase(swapped)) > 0.8
    assert agreement(own.roll(1), phase(swapped)) < 0.5
    for semitones in (-5, -2, 1, 4):
        rotation = torch.exp(torch.tensor(1j * turn * semitones))
        transposed = phase(inputs, transposition=semitones)
        assert agreement(own * rotation, transposed) > max(0.6, agreement(own * rotation.conj(), transposed) + 0.2)


def test_one_forward_gives_both_losses_and_gradients_everywhere(tmp_path):
    model = MT2ForPreTraining(tiny_config()).train()
    trainer = make_trainer(model, tmp_path)
    calls = []
    model.mt2.register_forward_pre_hook(lambda module, args, kwargs: calls.append(1), with_kwargs=True)
    trainer.compute_loss(model, batch_of(windows_of(4))).backward()
    assert len(calls) == 1
    assert {"loss_cpsd", "loss_nt_xent", "profile_magnitude", "share_windows_skipped"} <= trainer._sums.keys()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.numel() > 200)


@pytest.mark.parametrize("token", [None, "equivariant", "contrastive"])
def test_pairs_in_a_plain_loop_have_the_loss_of_the_trainer(tmp_path, token):
    torch.manual_seed(0)
    tokens = {"class_tokens": [token]} if token else {}
    model = MT2ForPreTraining(tiny_config(**tokens)).train()
    trainer, batch = make_trainer(model, tmp_path), batch_of(windows_of(4))
    want = trainer.compute_loss(model, batch)
    features = trainer._features(batch)
    pairs = torch.stack([features["a"], features["b"]], dim=1)
    outputs = model(pairs, transposition=batch["transpositions"][:, 1:])
    assert float(outputs.loss) == pytest.approx(float(want), rel=1e-5)
    assert not torch.isclose(model(pairs, transposition=-batch["transpositions"][:, 1:].clamp(-7)).loss, want) or (
        token == "contrastive"
    )
    assert outputs.last_hidden_state.shape == (8, 32, 96)


def windows_of(songs):
    return torch.stack([torch.from_numpy(song(index, 4.0)[: 2 * RATE].reshape(2, RATE)) for index in range(songs)])


def gradients(tmp_path, batches, dropout=0.0, **changes):
    """Losses and gradients of some batches, divided by their number as in gradient accumulation."""
    torch.manual_seed(0)
    config = tiny_config(hidden_dropout_prob=dropout, center_profile=changes.pop("center_profile", True))
    model = MT2ForPreTraining(config).train()
    trainer = make_trainer(model, tmp_path, **changes)
    torch.manual_seed(1)
    for batch in batches:
        (trainer.compute_loss(model, batch) / len(batches)).backward()
    sums = {name: float(value) / len(batches) for name, value in trainer._sums.items()}
    return sums, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def parts_of(batch, count):
    return [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.chunk(count) for v in batch.values()), strict=True)
    ]


def test_a_few_songs_at_a_time_give_the_gradients_of_the_whole_batch(tmp_path, monkeypatch):
    """Exact for both losses; with dropout, the second forward pass draws what the first did."""
    batch = batch_of(windows_of(6))
    losses, piecewise = gradients(tmp_path, [batch], songs_per_forward=2)
    whole_losses, whole = gradients(tmp_path, [batch])
    assert losses == pytest.approx(whole_losses, rel=1e-5)
    assert (piecewise - whole).norm() < 1e-5 * whole.norm()
    _, piecewise = gradients(tmp_path, [batch], dropout=0.1, songs_per_forward=2)
    monkeypatch.setattr(trainer_module, "checkpoint", lambda encode, songs, use_reentrant: encode(songs))
    _, kept = gradients(tmp_path, [batch], dropout=0.1, songs_per_forward=2)
    assert (piecewise - kept).norm() < 1e-5 * kept.norm()


def test_accumulated_gradients_are_exact_for_cpsd_alone_and_uncentred(tmp_path):
    """Centred logits and contrastive negatives look at the whole batch; accumulation sees a part: another gradient."""
    batch = batch_of(windows_of(6))
    cases = {
        "cpsd": {"nt_xent_weight": 0.0, "center_profile": False},
        "centred": {"nt_xent_weight": 0.0},
        "contrastive": {"cpsd_weight": 0.0},
    }
    apart = {}
    for name, settings in cases.items():
        whole = gradients(tmp_path, [batch], **dict(settings))[1]
        parts = gradients(tmp_path, parts_of(batch, 3), **dict(settings))[1]
        apart[name] = float((parts - whole).norm() / whole.norm())
    assert apart["cpsd"] < 1e-5
    assert apart["centred"] > 0.05 and apart["contrastive"] > 0.05


def test_weight_decay_leaves_biases_norms_tokens_and_positions_alone(tmp_path):
    model = MT2ForPreTraining(tiny_config())
    decayed = set(make_trainer(model, tmp_path).get_decay_parameter_names(model))
    assert {"mt2.embeddings.cqt_projection.weight", "key_head.linear.weight", "projection_head.0.weight"} <= decayed
    spared = {name for name, _ in model.named_parameters()} - decayed
    assert {"mt2.embeddings.position_embeddings", "mt2.embeddings.equivariant_token", "mt2.layernorm.weight"} <= spared
    assert all(name.endswith(("bias", "_token", "_embeddings")) or "norm" in name for name in spared)


def test_a_silent_song_in_a_batch_leaves_everything_finite(tmp_path):
    model = MT2ForPreTraining(tiny_config()).train()
    waveforms = torch.zeros(4, 2, RATE)
    waveforms[1:] = torch.from_numpy(np.stack([song(index, 4.0)[: 2 * RATE].reshape(2, RATE) for index in range(3)]))
    loss = make_trainer(model, tmp_path).compute_loss(model, batch_of(waveforms))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def dataset_of(music_folder, steps):
    return WindowPairs(
        scan(find_files(music_folder), 1.0), steps * 4, 4, Windows(1.0, 2.0, RATE), Transpositions(-8, 7), seed=0
    )


def test_collapse_stops_training_with_a_named_error(music_folder, tmp_path):
    collapsed = MT2ForPreTraining(tiny_config())
    with torch.no_grad():
        for layer_norm in (collapsed.mt2.layernorm,):  # every token becomes the same vector
            layer_norm.weight.zero_()
            layer_norm.bias.fill_(0.1)
    for parameter in collapsed.mt2.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(
        RepresentationCollapseError,
        match="rank_equivariant is 0.00; rank_contrastive is 0.00; std_equivariant is 0.000",
    ):
        make_trainer(collapsed, tmp_path / "a", dataset_of(music_folder, 10)).train()
    with pytest.raises(RepresentationCollapseError, match="not finite"):
        broken = MT2ForPreTraining(tiny_config())
        nn.init.constant_(broken.mt2.layernorm.weight, torch.nan)
        make_trainer(broken, tmp_path / "b", dataset_of(music_folder, 10)).train()


def test_a_learning_rate_a_hundred_times_too_high_is_noticed_within_200_steps(music_folder, tmp_path):
    torch.manual_seed(0)
    model = MT2ForPreTraining(tiny_config())
    options = {"max_steps": 200, "learning_rate": 0.1, "logging_steps": 5}
    trainer = make_trainer(model, tmp_path, dataset_of(music_folder, 200), **options)
    with pytest.raises(RepresentationCollapseError, match="collapsed by step"):
        trainer.train()


def test_a_healthy_run_learns_and_logs_what_matters(run_dir):
    entries = json.loads((run_dir / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    logged = [entry for entry in entries if "loss" in entry]
    assert len(logged) == 30
    first, last = (
        {name: np.mean([entry[name] for entry in part]) for name in logged[0]} for part in (logged[:5], logged[-5:])
    )
    assert last["loss_cpsd"] < 2.7  # uniform profiles, which know nothing, have 3
    assert last["loss_nt_xent"] < 0.7 * first["loss_nt_xent"]
    for entry in logged:  # none near what counts as collapse, of which three in a row end a run
        assert min(entry["rank_equivariant"], entry["rank_contrastive"]) > 1
        assert min(entry["std_equivariant"], entry["std_contrastive"]) > MIN_SPREAD
        assert entry["share_windows_skipped"] == 0
    assert last["profile_magnitude"] > 2 * MIN_PROFILE_MAGNITUDE


def test_single_token_models_train_with_their_own_loss(music_folder, tmp_path):
    for token, absent in (("equivariant", "loss_nt_xent"), ("contrastive", "loss_cpsd")):
        model = MT2ForPreTraining(tiny_config(class_tokens=[token]))
        trainer = make_trainer(model, tmp_path / token, dataset_of(music_folder, 3), max_steps=3)
        trainer.train()
        assert all(absent not in entry for entry in trainer.state.log_history)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one_whole(music_folder, tmp_path, monkeypatch):
    trainer = make_trainer(
        MT2ForPreTraining(tiny_config()),
        tmp_path,
        dataset_of(music_folder, 4),
        max_steps=4,
        save_strategy="steps",
        save_steps=1,
    )
    write, calls = trainer._save_optimizer_and_scheduler, []

    def full_disk(folder):
        calls.append(folder)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(folder)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", full_disk)
    with pytest.raises(CheckpointError, match="checkpoint-3 could not be written.*No space left"):
        trainer.train()
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-2"
    assert not (tmp_path / "checkpoint-3").exists()
    assert (tmp_path / "checkpoint-2" / "optimizer.pt").is_file()


def test_save_steps_must_be_a_multiple_of_logging_steps(tmp_path):
    with pytest.raises(ValueError, match="multiple of logging_steps"):
        MT2TrainingArguments(output_dir=str(tmp_path), save_steps=25, logging_steps=10)


@pytest.mark.slow
def test_two_processes_equal_one_with_the_joined_batch(tmp_path):
    """Losses and every gradient; and not when negatives are gathered without gradient."""
    script = __file__.replace("test_trainer.py", "two_processes.py")
    results = {}
    for name, count in (("one", 1), ("two", 2), ("no_gradient", 2)):
        output = tmp_path / f"{name}.pt"
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", "0", "--standalone"]
        python(*launch, script, output, *(["no_gradient"] if name == "no_gradient" else []))
        results[name] = SimpleNamespace(**torch.load(output))
    one, two, wrong = results["one"], results["two"], results["no_gradient"]
    assert {
        f"loss_{name}" for name in ("cpsd", "nt_xent", "solo", "frame", "tempo", "cepstrum", "spectrum")
    } <= one.losses.keys()
    assert two.losses == pytest.approx(one.losses, rel=1e-5)

    assert one.gradients.keys() == two.gradients.keys() == wrong.gradients.keys()
    for name, want in one.gradients.items():
        # Some gradients are zero but for rounding: softmax does not see key biases, centring not the head's bias.
        assert (two.gradients[name] - want).norm() < 1e-5 * want.norm() + 1e-7, name
        if want.norm() > 1e-6:
            assert (wrong.gradients[name] - want).norm() > 0.1 * want.norm(), name
    assert all(torch.allclose(one.buffers[name], two.buffers[name], atol=1e-6) for name in one.buffers)
