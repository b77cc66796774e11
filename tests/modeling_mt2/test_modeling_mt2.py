"""The model: shapes, masks, any length, initialisation, saving, and the heads' losses."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainingArguments

from mt2_music import (
    MT2Config,
    MT2FeatureExtractor,
    MT2ForAudioClassification,
    MT2ForAudioFrameClassification,
    MT2ForPreTraining,
    MT2Model,
)
from support import RATE, song, tiny_config

# What pre-training and the published models add to the plain model.
EXTRAS = {"contrastive_layer": 1, "contrastive_deviation": True, "projection_layers": 3}
EXTRAS |= {"frame_projection_size": 8, "num_tempo_classes": 8, "num_cepstral_coefficients": 5, "num_spectrum_bins": 84}
ALL_CLASSES = [MT2Model, MT2ForPreTraining, MT2ForAudioClassification, MT2ForAudioFrameClassification]


def make(cls=MT2Model, seed=0, **changes):
    torch.manual_seed(seed)
    return cls(tiny_config(**changes)).eval()


def features(batch=2, frames=20, seed=0):
    return torch.rand(batch, frames, 227, generator=torch.Generator().manual_seed(seed))


def test_default_model_has_5_3_million_parameters_in_its_layers():
    model = MT2Model(MT2Config())
    assert sum(p.numel() for p in model.layers.parameters()) == 5_338_368  # 12 ViT-Tiny blocks, facts of the paper
    assert sum(p.numel() for p in model.parameters()) < 5_450_000


def test_outputs_have_names_and_shapes():
    outputs = make()(features(3, 20), output_hidden_states=True, output_attentions=True)
    assert outputs.last_hidden_state.shape == (3, 20, 96)
    for name in ("pooler_output", "equivariant_embeds", "contrastive_embeds"):
        assert outputs[name].shape == (3, 96)
    assert torch.allclose(outputs.pooler_output, (outputs.equivariant_embeds + outputs.contrastive_embeds) / 2)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(3, 22, 96)] * 3
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(3, 3, 22, 22)] * 2
    assert torch.allclose(outputs.attentions[0].sum(-1), torch.ones(3, 3, 22))


@pytest.mark.parametrize("token", ["equivariant", "contrastive"])
def test_one_class_token_by_config(token):
    outputs = make(MT2ForPreTraining, class_tokens=[token])(features())
    assert torch.equal(outputs.pooler_output, outputs[f"{token}_embeds"])
    assert (outputs.equivariant_embeds is None) == (outputs.key_signature_profile is None) == (token == "contrastive")
    assert (outputs.contrastive_embeds is None) == (outputs.projection is None) == (token == "equivariant")


def test_clips_alone_together_and_reversed_agree(extractor):
    """Twenty clips from 0.1 to 60 s: the mask reaches attention, pooling, class-token means and windows."""
    model = make(max_frames=126)
    clips = [song(index, 61)[: round(seconds * RATE)] for index, seconds in enumerate(np.geomspace(0.1, 60, 20))]
    with torch.no_grad():
        alone = [model(**extractor(clip, sampling_rate=RATE, return_tensors="pt")) for clip in clips]
        for order in (range(20), range(19, -1, -1)):
            batch = extractor([clips[i] for i in order], sampling_rate=RATE, return_tensors="pt")
            together = model(**batch)
            unmasked = model(batch["input_features"])  # zeros behind a clip are silent
            batch["input_features"][batch["attention_mask"] == 0] = 1.0
            loud = model(batch["input_features"])
            assert (unmasked.pooler_output - together.pooler_output).abs().max() < 1e-5
            for row, index in enumerate(order):
                num_frames = alone[index].last_hidden_state.shape[1]
                for name in ("pooler_output", "equivariant_embeds", "contrastive_embeds"):
                    assert (together[name][row] - alone[index][name][0]).abs().max() < 1e-5
                frames = together.last_hidden_state[row, :num_frames]
                assert (frames - alone[index].last_hidden_state[0]).abs().max() < 1e-5
    assert (loud.pooler_output[-1] - alone[0].pooler_output[0]).abs().max() > 1e-3  # the mask matters


def test_long_input_is_the_weighted_mean_of_its_windows():
    model, inputs = make(), features(1, 80)
    with torch.no_grad():
        whole = model(inputs, output_hidden_states=True, output_attentions=True)
        parts = [model(part) for part in inputs.split(32, dim=1)]
    mean = sum(part.pooler_output * part.last_hidden_state.shape[1] for part in parts) / 80
    assert torch.allclose(whole.pooler_output, mean, atol=1e-5)
    assert torch.allclose(whole.last_hidden_state, torch.cat([p.last_hidden_state for p in parts], 1), atol=1e-5)
    assert whole.hidden_states[1].shape == (1, 82, 96)
    assert whole.attentions[0].shape == (3, 3, 34, 34)


def test_optional_heads_have_names_and_shapes():
    outputs = make(MT2ForPreTraining, **EXTRAS)(features(3, 20))
    assert outputs.frame_projection.shape == (3, 20, 8)
    assert outputs.tempo_logits.shape == (3, 8)
    assert outputs.cepstrum.shape == (3, 10) and outputs.spectrum.shape == (3, 84)
    plain = make(MT2ForPreTraining)(features(3, 20))
    assert all(
        getattr(plain, name) is None for name in ("frame_projection", "tempo_logits", "cepstrum", "spectrum", "loss")
    )


@torch.no_grad()
def test_the_contrastive_token_of_an_earlier_layer():
    """It is that layer's output with a norm of its own; all else stays as it was."""
    model, plain = make(contrastive_layer=1), make()
    plain.load_state_dict(model.state_dict(), strict=False)
    model.contrastive_layernorm.bias.fill_(0.5)
    outputs, others = (one(features(), output_hidden_states=True) for one in (model, plain))
    assert torch.equal(outputs.contrastive_embeds, model.contrastive_layernorm(outputs.hidden_states[1][:, 1]))
    assert not torch.allclose(outputs.contrastive_embeds, others.contrastive_embeds, atol=0.1)
    for name in ("equivariant_embeds", "last_hidden_state"):
        assert torch.equal(outputs[name], others[name])


@torch.no_grad()
def test_extras_know_neither_padding_nor_other_clips():
    """Of one window and of several; what lies in the padding is not even silence."""
    model = make(**EXTRAS)
    for length, size in ((7, 20), (40, 75)):
        inputs, mask = features(3, size), torch.ones(3, size)
        inputs[1, length:] *= 100
        mask[1, length:] = 0
        together, alone = model(inputs, mask), model(inputs[1:2, :length])
        for name in ("equivariant_embeds", "contrastive_embeds"):
            assert (together[name][1] - alone[name][0]).abs().max() < 1e-5
        assert (together.contrastive_embeds[1] - model(inputs).contrastive_embeds[1]).abs().max() > 1e-3


def test_deviation_tells_windows_of_one_mean_apart_and_takes_stillness():
    model = make(contrastive_deviation=True, mel_level=None)
    moving = features(1, 20)
    token = model.embeddings(moving, None, None, None)[:, 1]
    reversed_in_time = model.embeddings(moving.flip(1), None, None, None)[:, 1]
    assert torch.allclose(token, reversed_in_time, atol=1e-6)
    with torch.no_grad():
        start = model.embeddings
        branch = start.activation(start.mel_projection(start.mel_norm(moving[..., 99:])))
        deviation = start.deviation_projection(branch.std(1, correction=0))
        plain = start.contrastive_token + branch.mean(1) + start.position_embeddings[:, 1]
    assert torch.allclose(token, plain + deviation, atol=1e-4)
    still = moving[:, :1].expand(-1, 20, -1)
    model(still).contrastive_embeds.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_plain_loop_over_pairs_lowers_the_loss():
    torch.manual_seed(0)
    model = make(MT2ForPreTraining).train()
    pairs = features(6, 20)[:, None] + 0.1 * torch.rand(6, 2, 20, 227)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = model(pairs).loss  # transpositions are drawn anew every time
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    with pytest.raises(ValueError, match="neither attention_mask nor mel_mask"):
        model(pairs, torch.ones(6, 20))
    with pytest.raises(ValueError, match="between -8 and 7"):
        model(pairs, transposition=9)


def test_eager_and_sdpa_agree_with_and_without_mask():
    model = make()
    mask = torch.ones(2, 20)
    mask[1, 7:] = 0
    for attention_mask in (None, mask):
        model.set_attn_implementation("sdpa")
        sdpa = model(features(), attention_mask)
        model.set_attn_implementation("eager")
        eager = model(features(), attention_mask)
        assert torch.allclose(sdpa.pooler_output, eager.pooler_output, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = make(MT2ForPreTraining).train()
        if checkpointing:
            # The older name warns in new releases; the oldest supported one has no other.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model(features(2, 70)).projection.square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_untrained_profile_is_a_chroma_that_follows_transposition(extractor):
    """Chroma birth; and the sign: music pitched up by c semitones moves the profile up by c."""
    inputs = extractor(song(0), sampling_rate=RATE, return_tensors="pt")["input_features"][:, :32]

    def following(sign, **changes):
        model = make(MT2ForPreTraining, **changes)
        with torch.no_grad():
            logits = [model(inputs, transposition=c).key_logits[0] for c in range(8)]
        return np.mean([np.corrcoef(logits[0].roll(sign * c), logits[c])[0, 1] for c in range(1, 8)])

    assert following(+1) > 0.9
    assert following(-1) < 0.5
    assert following(+1, chroma_init=False) < 0.5


def test_transposition_equals_shifted_bins_and_is_bounded():
    model, inputs = make(), features()
    shifted = inputs.clone()
    shifted[:, :, 2:99] = inputs[:, :, :97]
    with torch.no_grad():
        assert torch.equal(model(inputs, transposition=2).pooler_output, model(shifted).pooler_output)
        mixed = model(inputs, transposition=torch.tensor([2, 0])).pooler_output
        assert torch.allclose(mixed[1], model(inputs).pooler_output[1], atol=1e-6)
    for outside in (8, -9):
        with pytest.raises(ValueError, match="between -8 and 7"):
            model(inputs, transposition=outside)


def test_mel_mask_hides_the_mel_half():
    model, inputs = make(), features()
    other = inputs.clone()
    other[:, :, 99:] = features(seed=1)[:, :, 99:]
    hidden = torch.zeros(2)
    assert torch.equal(model(inputs, mel_mask=hidden).pooler_output, model(other, mel_mask=hidden).pooler_output)
    assert not torch.allclose(model(inputs).pooler_output, model(other).pooler_output)


@pytest.mark.parametrize(
    ("inputs", "mask", "message"),
    [
        (torch.zeros(2, 20, 226), None, "227"),
        (torch.zeros(20, 227), None, "227"),
        (torch.zeros(2, 0, 227), None, "frames"),
        (torch.zeros(2, 20, 227), torch.ones(2, 19), "attention_mask"),
    ],
)
def test_wrong_shapes_are_refused(inputs, mask, message):
    with pytest.raises(ValueError, match=message):
        make()(inputs, mask)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="atention_mask"):
        make()(features(), atention_mask=torch.ones(2, 20))


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize("num_frames", [20, 75])
def test_inputs_of_text_may_be_named_and_not_given(cls, num_frames):
    model, inputs = make(cls), features(2, num_frames)
    with torch.no_grad():
        want = model(inputs)[0]
        assert torch.equal(model(input_features=inputs, input_ids=None, inputs_embeds=None)[0], want)
    for name in ("input_ids", "inputs_embeds"):
        with pytest.raises(TypeError, match=f"as input_features, and no {name}"):
            model(inputs, **{name: torch.zeros(2, 20)})


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_parts_are_frozen_by_the_names_of_transformers(cls):
    model = make(cls)
    model.freeze_feature_encoder()
    encoder = model.base_model
    frozen = {name for name, weights in encoder.named_parameters() if not weights.requires_grad}
    assert frozen == {name for name, _ in encoder.named_parameters() if name.startswith("embeddings.")}
    assert model.get_input_embeddings() is encoder.embeddings.cqt_projection
    model.freeze_base_model()
    heads = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert heads == {name for name, _ in model.named_parameters() if not name.startswith("mt2.") and cls != MT2Model}


def test_half_precision_stays_close():
    model, inputs = make(), features()
    want = model(inputs).pooler_output
    got = make().to(torch.bfloat16)(inputs).pooler_output
    assert got.dtype == torch.bfloat16
    assert nn.functional.cosine_similarity(got.float(), want).min() > 0.999


@pytest.mark.parametrize("changes", [{}, EXTRAS], ids=["plain", "extras"])
@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_every_tensor_survives_saving(cls, changes, tmp_path):
    model = make(cls, **changes)
    for tensor in model.state_dict().values():
        tensor.add_(torch.rand_like(tensor))  # nothing may come back merely because it was initialised so
    model.save_pretrained(tmp_path)
    _poison_allocator()
    again = cls.from_pretrained(tmp_path)
    want, got = _tensors(model), _tensors(again)
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert torch.equal(model(features())[0], again(features())[0])


def test_a_missing_tensor_is_initialised_and_leaves_the_others(tmp_path):
    model = make(MT2ForPreTraining, seed=1)
    for tensor in model.state_dict().values():
        tensor.add_(1.0)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    fresh = dict(_tensors(make(MT2ForPreTraining, seed=2)))
    for dropped in saved:
        save_file({k: v for k, v in saved.items() if k != dropped}, tmp_path / "model.safetensors", {"format": "pt"})
        _poison_allocator()
        got = _tensors(MT2ForPreTraining.from_pretrained(tmp_path))
        assert all(torch.equal(got[name], saved[name]) for name in saved if name != dropped), dropped
        value, start = got[dropped], fresh[dropped]
        # Same constants; where the start is random, the same spread.
        assert torch.isfinite(value).all(), dropped
        assert abs(value.mean() - start.mean()) < 0.02, dropped
        assert abs(value.std(correction=0) - start.std(correction=0)) < 0.25 * start.std(correction=0) + 1e-6, dropped


def _tensors(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _poison_allocator():
    """Leave memory full of NaN, so that what is never written shows."""
    blocks = [torch.full((size,), torch.nan) for size in (12, 96, 128, 9216, 12288, 40000) for _ in range(20)]
    del blocks


@pytest.mark.parametrize("changes", [{}, EXTRAS], ids=["plain", "extras"])
def test_a_pretrained_checkpoint_starts_every_head(tmp_path, changes):
    pretrained = make(MT2ForPreTraining, **changes)
    pretrained.save_pretrained(tmp_path)
    base = MT2Model.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), pretrained.mt2.parameters(), strict=True))
    head, info = MT2ForAudioClassification.from_pretrained(tmp_path, num_labels=5, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert torch.equal(head.mt2.layers[0].mlp.fc1.weight, pretrained.mt2.layers[0].mlp.fc1.weight)


@pytest.mark.parametrize("pooling", ["equivariant", "contrastive", "mean", "frames", "concat"])
def test_classification_reads_what_pooling_names(pooling):
    model = make(MT2ForAudioClassification, pooling=pooling, num_labels=3)
    mask = torch.ones(2, 20)
    mask[1, 5:] = 0
    encoded = model.mt2(features(), mask)
    short = encoded.last_hidden_state[1, :5].mean(0)
    e, c = encoded.equivariant_embeds[1], encoded.contrastive_embeds[1]
    want = {"equivariant": e, "contrastive": c, "mean": (e + c) / 2, "frames": short, "concat": torch.cat([e, c])}
    assert torch.allclose(model(features(), mask).logits[1], model.classifier(want[pooling]), atol=1e-6)


def test_classification_losses():
    inputs = features(4)
    single = make(MT2ForAudioClassification, num_labels=3)
    labels = torch.tensor([0, 2, 1, 0])
    outputs = single(inputs, labels=labels)
    assert torch.allclose(outputs.loss, nn.functional.cross_entropy(outputs.logits, labels))
    multi = make(MT2ForAudioClassification, num_labels=3)
    targets = torch.tensor([[1.0, 0, 1]] * 4)
    outputs = multi(inputs, labels=targets)
    assert torch.allclose(outputs.loss, nn.functional.binary_cross_entropy_with_logits(outputs.logits, targets))
    assert multi.config.problem_type == "multi_label_classification"
    regression = make(MT2ForAudioClassification, num_labels=2, problem_type="regression")
    outputs = regression(inputs, labels=torch.ones(4, 2))
    assert torch.allclose(outputs.loss, (outputs.logits - 1).square().mean())


def test_frame_classification_losses_see_no_padding():
    model = make(MT2ForAudioFrameClassification, num_labels=4)
    mask = torch.ones(2, 20)
    mask[1, 5:] = 0
    labels = torch.randint(4, (2, 20), generator=torch.Generator().manual_seed(0))
    labels[0, 3] = -100
    loss = model(features(), mask, labels=labels).loss
    changed = labels.clone()
    changed[1, 5:] = (labels[1, 5:] + 1) % 4
    assert torch.equal(loss, model(features(), mask, labels=changed).loss)
    changed[1, 4] = (labels[1, 4] + 1) % 4
    assert not torch.equal(loss, model(features(), mask, labels=changed).loss)
    several = model(features(), mask, labels=torch.zeros(2, 20, 4)).loss
    assert torch.allclose(several, nn.functional.softplus(model(features(), mask).logits[mask.bool()]).mean())


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_without_any_label_has_a_loss_of_zero(masked):
    mask = torch.zeros(2, 20) if masked else None
    frames = make(MT2ForAudioFrameClassification, num_labels=3)
    nothing = torch.full((2, 20), 1 if masked else -100)
    losses = [frames(features(), mask, nothing).loss]
    if masked:
        losses.append(frames(features(), mask, torch.ones(2, 20, 3)).loss)
    clips = make(MT2ForAudioClassification, num_labels=3)
    losses.append(clips(features(), mask, torch.full((2,), -100)).loss)
    for loss in losses:
        assert loss.item() == 0
        loss.backward()
    for model in (frames, clips):
        assert all(torch.isfinite(weights.grad).all() for weights in model.parameters() if weights.grad is not None)
        assert model.classifier.weight.grad is not None


def test_gradient_accumulation_equals_the_joined_batch(tmp_path):
    """Several labels: transformers would skip the division by the steps for a model that takes loss arguments."""
    rows = [{"input_features": features(1, seed=i)[0], "labels": torch.tensor([1.0, i % 2])} for i in range(4)]
    norms = []
    for batch_size in (4, 2):
        settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": 4 // batch_size}
        settings |= {"max_steps": 1, "logging_steps": 1, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}
        trainer = Trainer(
            model=make(MT2ForAudioClassification, num_labels=2),
            args=TrainingArguments(str(tmp_path), dataloader_pin_memory=False, **settings),
            train_dataset=rows,
        )
        trainer.train()
        norms.append(float(trainer.state.log_history[0]["grad_norm"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_windows_without_any_valid_frame_are_defined():
    for frames in (20, 80):
        outputs = make()(features(2, frames), torch.zeros(2, frames))
        assert torch.isfinite(outputs.pooler_output).all()


def test_long_input_takes_transposition_and_mel_mask_per_clip():
    model, inputs = make(), features(2, 80)
    arguments = {"transposition": torch.tensor([2, -3]), "mel_mask": torch.tensor([1, 0])}
    both = model(inputs, **arguments).pooler_output
    each = [model(inputs[i : i + 1], **{k: v[i : i + 1] for k, v in arguments.items()}).pooler_output for i in (0, 1)]
    assert torch.allclose(both, torch.cat(each), atol=1e-5)


def test_long_input_keeps_only_the_states_that_are_asked_for():
    """Memory grows with the frames of a song, not with frames times layers."""
    model, inputs = make(num_hidden_layers=6), features(1, 320)
    options = {"output_attentions": False, "output_hidden_states": False}
    assert len(model._encode_windows(inputs, None, None, None, **options)[0]) == 1


def test_half_precision_counts_more_frames_than_it_can_hold():
    """Over 65,504 frames, 35 minutes, a sum of ones is infinite in float16."""
    with torch.no_grad():
        outputs = make(num_hidden_layers=1).half()(features(1, 70_000).half())
    assert outputs.pooler_output.float().norm() > 1


def test_the_encoder_compiles_in_one_graph():
    model, inputs = make(num_hidden_layers=1), features(2, 20)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for arguments in ({}, {"transposition": torch.tensor([1, 2])}, {"attention_mask": torch.ones(2, 20)}):
            assert torch.allclose(compiled(inputs, **arguments)[0], model(inputs, **arguments)[0], atol=1e-5)
        long = features(2, 80)
        assert torch.allclose(compiled(long)[0], model(long)[0], atol=1e-5)


def test_config_and_extractor_fit_and_paper_is_the_published_architecture(tmp_path):
    config, extractor = MT2Config(), MT2FeatureExtractor()
    assert config.input_size == extractor.feature_size
    assert (config.sampling_rate, config.hop_length) == (extractor.sampling_rate, extractor.hop_length)
    assert extractor.num_frames(4 * RATE) == config.max_frames
    paper = MT2Config.paper()
    assert not paper.chroma_init
    assert not paper.center_profile
    assert (paper.hidden_size, paper.num_hidden_layers, paper.num_attention_heads) == (192, 12, 3)
    MT2Config(class_tokens=["contrastive"], key_calibration=3.25, pooling="contrastive").save_pretrained(tmp_path)
    again = MT2Config.from_pretrained(tmp_path)
    assert (again.class_tokens, again.key_calibration, again.pooling) == (["contrastive"], 3.25, "contrastive")
    assert "AutoModelForPreTraining" in json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["auto_map"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden_size": 100}, "num_attention_heads 3"),
        ({"hidden_size": "96"}, "hidden_size must be a whole number"),
        ({"hidden_size": 48}, "chroma_init"),
        ({"num_cqt_bins": 80}, "bins_per_octave"),
        ({"class_tokens": ["contrastive", "equivariant"]}, "class_tokens"),
        ({"class_tokens": []}, "class_tokens"),
        ({"pooling": "max"}, "pooling"),
        ({"class_tokens": ["equivariant"], "pooling": "contrastive"}, "pooling"),
        ({"bins_per_octave": 24, "num_cqt_bins": 96}, "bins_per_octave must be 12"),
        ({"key_calibration": 99}, "key_calibration"),
        ({"contrastive_layer": 13}, "contrastive_layer must be None or from 1 to 12"),
        ({"frame_projection_size": -1}, "frame_projection_size must not be negative"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        MT2Config(**setting)


def test_a_misspelt_setting_is_named(monkeypatch):
    from mt2_music import configuration_mt2

    said = []
    monkeypatch.setattr(configuration_mt2.logger, "warning", lambda text, *values: said.append(text % values))
    MT2Config(hiden_size=96, id2label={0: "a"}, something_of_my_own=1)
    assert len(said) == 1 and "'hiden_size'" in said[0] and "did you mean 'hidden_size'?" in said[0]
    others = {"hidden_dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
    others |= {"num_layers": "num_hidden_layers", "num_heads": "num_attention_heads", "size_hidden": "hidden_size"}
    for name, meant in others.items():
        said.clear()
        MT2Config(**{name: 0})
        assert len(said) == 1 and f"did you mean '{meant}'?" in said[0]
