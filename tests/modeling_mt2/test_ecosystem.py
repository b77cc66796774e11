"""What programs written for any audio model of transformers call: its examples, `Trainer` and PEFT."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer, TrainingArguments

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2Model
from support import RATE, tiny_config, tone


def arguments(folder, **changes):
    settings = {"per_device_train_batch_size": 4, "learning_rate": 0.02, "max_steps": 12, "report_to": "none"}
    return TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, **{**settings, **changes})


def labelled_clips():
    """Low and high tones, of different lengths."""
    return [(tone(220 * 4 ** (number % 2) + 5 * number, 0.5 + 0.25 * (number % 3)), number % 2) for number in range(8)]


def test_the_audio_classification_example_needs_no_change(tmp_path):
    """Frames by `model_input_names[0]` alone, without a mask, and padded by the Trainer's own collator."""
    MT2ForAudioClassification(tiny_config()).save_pretrained(tmp_path / "base")
    MT2FeatureExtractor().save_pretrained(tmp_path / "base")
    names = {"low": 0, "high": 1}
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "base", return_attention_mask=True)
    model = AutoModelForAudioClassification.from_pretrained(
        tmp_path / "base", label2id=names, id2label={0: "low", 1: "high"}, ignore_mismatched_sizes=True
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


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], "all-linear"])
@pytest.mark.parametrize("cls", [MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2Model])
def test_lora_trains_saves_and_merges(cls, modules, tmp_path, extractor):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    cls(tiny_config(num_labels=2)).save_pretrained(tmp_path / "base")
    model = cls.from_pretrained(tmp_path / "base")
    task = peft.TaskType.FEATURE_EXTRACTION if cls is MT2Model else peft.TaskType.SEQ_CLS
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type=task, r=4, target_modules=modules))
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
