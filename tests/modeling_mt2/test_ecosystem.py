"""What programs written for any audio model of transformers call: its examples, `Trainer` and PEFT."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
)

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2Model
from mt2_music.loading import ARCHITECTURES
from support import RATE, tiny_config, tone


def arguments(folder, **changes):
    settings = {"per_device_train_batch_size": 4, "learning_rate": 0.02, "max_steps": 12, "report_to": "none"}
    return TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **{**settings, **changes})


def labelled_clips():
    """Low and high tones, of different lengths."""
    return [(tone(220 * 4 ** (number % 2) + 5 * number, 0.5 + 0.25 * (number % 3)), number % 2) for number in range(8)]


def test_the_audio_classification_example_needs_no_change(tmp_path):
    """Frames by `model_input_names[0]` alone, without a mask, and padded by the Trainer's own collator.

    What it does, for where the example itself, which test_example.py runs, cannot be had.
    """
    MT2ForAudioClassification(tiny_config()).save_pretrained(tmp_path / "base")
    MT2FeatureExtractor().save_pretrained(tmp_path / "base")
    places = {"cache_dir": None, "revision": "main", "token": None, "trust_remote_code": True}
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "base", return_attention_mask=True, **places)
    names = {"label2id": {"low": "0", "high": "1"}, "id2label": {"0": "low", "1": "high"}, "num_labels": 2}
    config = AutoConfig.from_pretrained(tmp_path / "base", finetuning_task="audio-classification", **names, **places)
    model = AutoModelForAudioClassification.from_pretrained(
        tmp_path / "base", from_tf=False, config=config, ignore_mismatched_sizes=False, **places
    )
    model.freeze_feature_encoder()
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    clips, labels = zip(*labelled_clips(), strict=True)
    name = extractor.model_input_names[0]
    values = extractor(list(clips), sampling_rate=RATE, max_length=RATE // 2 + 4000, truncation=True)[name]
    assert sorted({len(one) for one in values}) == [16, 24]  # none is padded, and the longest are cut
    rows = [{name: one, "labels": label} for one, label in zip(values, labels, strict=True)]
    trainer = Trainer(model, arguments(tmp_path / "run"), train_dataset=rows, processing_class=extractor)
    batch = next(iter(trainer.get_train_dataloader()))
    assert sorted(set(batch["attention_mask"].sum(1).tolist())) == [16, 24] and batch[name].shape[1] == 24
    trainer.train()
    changed = {name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])}
    assert changed and not any(name.startswith("mt2.embeddings.") for name in changed)
    predicted = trainer.predict(rows).predictions.argmax(-1)
    assert np.mean(predicted == labels) == 1
    trainer.save_model()
    trainer.create_model_card(tasks="audio-classification", dataset="tones")
    saved = AutoModelForAudioClassification.from_pretrained(tmp_path / "run", trust_remote_code=True).eval()
    assert (saved.config.id2label, saved.config.label2id) == ({0: "low", 1: "high"}, {"low": 0, "high": 1})
    inputs = extractor(list(clips), sampling_rate=RATE, return_tensors="pt")
    assert np.array_equal(saved(**inputs).logits.argmax(-1), labels)


@pytest.mark.parametrize("cls", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_what_is_frozen_is_what_the_name_says(cls):
    def still(model):
        return {name.removeprefix("mt2.") for name, weights in model.named_parameters() if not weights.requires_grad}

    model = cls(tiny_config(frame_labels=("a", "b")))
    names = {name for name, _ in model.base_model.named_parameters()}
    assert model.get_input_embeddings() is model.base_model.embeddings.cqt_projection
    assert model.get_output_embeddings() is None
    model.freeze_feature_encoder()
    assert still(model) == {name for name in names if name.startswith("embeddings.")} != set()
    model.freeze_base_model()
    assert still(model) == names


@pytest.mark.parametrize("task", [None, "FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS"])
@pytest.mark.parametrize("cls", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_model_takes_every_task_type_of_lora(cls, task, extractor):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = cls(tiny_config(num_labels=2, frame_labels=("a", "b"))).eval()
    batch = extractor([tone(220, 0.5), tone(880, 0.7)], sampling_rate=RATE, return_tensors="pt")
    want = model(**batch)[0].detach()
    # Not zeros, as at the start of training, so that adapters do something.
    config = peft.LoraConfig(task_type=task, r=2, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).eval()
    with adapted.disable_adapter(), torch.no_grad():
        assert torch.equal(adapted(**batch)[0], want)
    got = adapted(**batch)[0]
    assert not torch.allclose(got, want, atol=1e-3)
    got.square().mean().backward()
    moved = {name for name, weights in adapted.named_parameters() if weights.grad is not None}
    lora = {name for name, _ in adapted.named_parameters() if ".lora_" in name}
    heads = {name for name, _ in adapted.named_parameters() if ".modules_to_save." in name}
    assert len(lora) == 8 and lora <= moved <= lora | heads
    assert bool(heads) == (task in ("SEQ_CLS", "TOKEN_CLS") and hasattr(model, "classifier"))
    with torch.no_grad():
        assert torch.allclose(adapted.merge_and_unload()(**batch)[0], got, atol=1e-5)


def test_labels_that_a_model_has_no_loss_for_are_refused(extractor):
    batch = extractor(tone(220, 0.5), sampling_rate=RATE, return_tensors="pt")
    with pytest.raises(TypeError, match="takes spectrogram frames, as input_features, and no labels"):
        MT2Model(tiny_config())(**batch, labels=torch.tensor([0]))


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], "all-linear"])
@pytest.mark.parametrize("cls", [MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2Model])
def test_lora_trains_saves_and_merges(cls, modules, tmp_path, extractor):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    cls(tiny_config(num_labels=2)).save_pretrained(tmp_path / "base")
    model = cls.from_pretrained(tmp_path / "base")
    task, whole = {MT2Model: ("FEATURE_EXTRACTION", None), MT2ForAudioClassification: ("SEQ_CLS", None)}.get(
        cls,
        ("TOKEN_CLS", ["classifier"]),  # without which peft takes "all-linear" for a classifier's layers, too
    )
    config = peft.LoraConfig(task_type=task, r=4, target_modules=modules, modules_to_save=whole)
    adapted = peft.get_peft_model(model, config)
    clips, labels = zip(*labelled_clips(), strict=True)
    batch = extractor(list(clips), sampling_rate=RATE, return_tensors="pt")
    if cls is MT2Model:
        optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], 0.01)
        losses = []
        for _ in range(5):
            loss = adapted(**batch).pooler_output.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
    else:
        truth = torch.tensor(labels)
        if cls is MT2ForAudioFrameClassification:
            truth = truth[:, None].expand(batch["attention_mask"].shape).clone()
        rows = [{name: value[row] for name, value in {**batch, "labels": truth}.items()} for row in range(len(labels))]
        settings = arguments(tmp_path / "run", label_names=["labels"], gradient_checkpointing=True)
        Trainer(adapted, settings, train_dataset=rows).train()
    with torch.no_grad():
        adapted.eval()
        want = adapted(**batch)[0]
        assert not torch.allclose(cls.from_pretrained(tmp_path / "base").eval()(**batch)[0], want, atol=1e-4)
        adapted.save_pretrained(tmp_path / "adapter")
        again = peft.PeftModel.from_pretrained(cls.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
        assert torch.allclose(again(**batch)[0], want, atol=1e-6)
        again.merge_and_unload().save_pretrained(tmp_path / "merged")
        merged = cls.from_pretrained(tmp_path / "merged").eval()
        assert torch.allclose(merged(**batch)[0], want, atol=1e-5)
    with pytest.raises(TypeError, match="input_features"):
        adapted(input_ids=batch["input_features"], input_features=batch["input_features"])
