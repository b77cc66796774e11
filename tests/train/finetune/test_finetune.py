"""Fine-tuning: learns what can be learned and nothing else, from folders, tables and data sets; says what is wrong."""

import json
import signal
import sys
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2FeatureExtractor, MT2ForAudioClassification, MT2ForAudioFrameClassification, MT2ForPreTraining
from mt2_music.train.data.excerpts import IGNORED, Collator, EpochSampler, Excerpts, Targets
from mt2_music.train.data.label_sources import Example, read_csv
from mt2_music.train.data.labels import load_labelled, split_tracks, tracks_of
from mt2_music.train.data.tracks import Track
from mt2_music.train.finetune.__main__ import main
from mt2_music.train.finetune.run import license_of
from mt2_music.train.finetune.trainer import FineTuner, depth_of, freeze, loss_of, new_classifier
from mt2_music.train.synth.score import Segment
from support import RATE, KilledError, after_saving, python, tiny_config, tone

OPTIONS = ["--use_cpu", "true", "--dataloader_num_workers", "0", "--encoder_learning_rate", "1e-3"]
OPTIONS += ["--per_device_train_batch_size", "8", "--learning_rate", "3e-3", "--patience", "0"]
ADAPTED = ["--lora", "4", "--encoder_learning_rate", "1e-2", "--num_train_epochs", "6"]
SHARES = {"validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A small model as it would be published, untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base") / "mt2-tiny"
    MT2ForPreTraining(tiny_config()).save_pretrained(folder)
    MT2FeatureExtractor().save_pretrained(folder)
    return str(folder)


def write_tone(path: Path, frequency: float, seconds: float = 0.6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(frequency, seconds), RATE)
    return path


def write_table(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def tuned(data, output: Path, base: str, task: str, *options) -> dict:
    arguments = ["--model", base, "--data", str(data), "--task", task, "--output_dir", str(output)]
    assert main([*arguments, *OPTIONS, *map(str, options)]) == 0
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Low and high tones, one folder for each, and a file that is none."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for label, lowest in (("low", 110.0), ("high", 880.0)):
        for index in range(12):
            write_tone(folder / label / f"{index}.wav", lowest * 2 ** rng.uniform(0, 1))
    (folder / "low" / "broken.wav").write_bytes(b"RIFF and nothing else")
    return folder


@pytest.fixture(scope="module")
def single(labelled, base, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("single") / "tuned"
    tuned(labelled, output, base, "single", "--num_train_epochs", 6)
    return output


@pytest.fixture(scope="module")
def adapted(labelled, base, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("adapted") / "tuned"
    tuned(labelled, output, base, "single", *ADAPTED)
    return output


def test_the_licence_is_that_of_the_base(tmp_path):
    assert license_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# A model\n", encoding="utf-8")
    assert license_of(str(tmp_path)) == "cc-by-4.0"


def test_single_labels_from_a_folder_make_a_hub_folder(single, labelled, tmp_path):
    metrics = json.loads((single / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["validation"]["accuracy"] == metrics["test"]["accuracy"] == 1
    assert metrics["recordings"] == {"train": 16, "validation": 4, "test": 4}
    assert [Path(item["name"]).name for item in metrics["left_out"]] == ["broken.wav"]
    config = json.loads((single / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "high", "1": "low"} and config["label2id"] == {"high": 0, "low": 1}
    assert (config["problem_type"], config["pooling"]) == ("single_label_classification", "concat")
    left = {path.name for path in single.iterdir() if not path.name.startswith(".lock")}
    code = {"configuration_mt2.py", "modeling_mt2.py", "feature_extraction_mt2.py"}
    weights = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert left == code | weights | {"README.md", "metrics.json", "confusion.png"}
    assert "$" not in (single / "README.md").read_text(encoding="utf-8")
    assert "states none" in (single / "README.md").read_text(encoding="utf-8")  # the base of this test has no card
    program = """
import sys
sys.modules["mt2_music"] = None
import soundfile
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
classify = pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)
model = AutoModelForAudioClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
extractor = AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)
for label in ("low", "high"):
    file = f"{sys.argv[2]}/{label}/0.wav"
    assert classify(soundfile.read(file)[0])[0]["label"] == label
    logits = model(**extractor(file, return_tensors="pt")).logits
    assert model.config.id2label[int(logits.argmax())] == label
"""
    python("-c", program, single, labelled, cwd=tmp_path)


def test_a_finished_run_is_left_alone_and_another_refused(single, labelled, base, caplog):
    before = (single / "model.safetensors").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        tuned(labelled, single, base, "single", "--num_train_epochs", 6)
    assert "is finished" in caplog.text and (single / "model.safetensors").stat().st_mtime_ns == before
    assert main(["--model", base, "--data", str(labelled), "--output_dir", str(single), *OPTIONS]) == 2
    assert "holds a model that was tuned otherwise" in caplog.text


def test_shuffled_labels_are_not_learned(tmp_path, base):
    rng = np.random.default_rng(1)
    rows = []
    for index in range(48):
        write_tone(tmp_path / f"{index}.wav", 110 * 2 ** rng.uniform(0, 3), 0.3)
        split = ("train", "validation", "test", "test")[index % 4]
        rows.append(f"{index}.wav,{('low', 'high')[rng.integers(2)]},{split}")
    table = write_table(tmp_path / "labels.csv", "file,label,split", rows)
    metrics = tuned(table, tmp_path / "out", base, "single", "--num_train_epochs", 6)
    assert metrics["recordings"]["test"] == 24 and metrics["test"]["accuracy"] < 0.8


def test_several_labels_from_a_table(tmp_path, base):
    rows = []
    for index in range(24):
        parts = {"low": index % 2, "high": index // 2 % 2}
        audio = parts["low"] * tone(220, 0.5, amplitude=0.3) + parts["high"] * tone(1760, 0.5, amplitude=0.3)
        soundfile.write(tmp_path / f"{index}.wav", audio + 1e-3 * tone(500, 0.5), RATE)
        rows.append(f"{index}.wav,{'|'.join(name for name, there in parts.items() if there)}")
    table = write_table(tmp_path / "labels.csv", "file,labels", rows)
    options = ["--num_train_epochs", 10, "--class_weights", "balanced"]
    metrics = tuned(table, tmp_path / "out", base, "multi", *options)
    assert metrics["test"]["map"] > 0.95 and metrics["labels"] == ["high", "low"]
    model = MT2ForAudioClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.problem_type == "multi_label_classification"
    inputs = MT2FeatureExtractor()(tone(1760, 0.5, amplitude=0.3), sampling_rate=RATE, return_tensors="pt")
    high, low = model(**inputs).logits[0]
    assert high > 0 > low


def test_numbers_from_a_table_come_back_in_their_own_units(tmp_path, base):
    rng = np.random.default_rng(2)
    rows = []
    for index in range(32):
        octave = rng.uniform(0, 3)
        write_tone(tmp_path / f"{index}.wav", 110 * 2**octave, 0.5)
        rows.append(f"{index}.wav,a tone,{500 + 100 * octave:.3f},{-octave:.3f}")
    table = write_table(tmp_path / "labels.csv", "file,remark,height,depth", rows)
    metrics = tuned(table, tmp_path / "out", base, "regression", "--num_train_epochs", 20)
    assert metrics["labels"] == ["height", "depth"] and metrics["test"]["r2"] > 0.7
    model = MT2ForAudioClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.id2label == {0: "height", 1: "depth"} and model.config.problem_type == "regression"
    inputs = MT2FeatureExtractor()(tone(110 * 2**1.5, 0.5), sampling_rate=RATE, return_tensors="pt")
    assert model(**inputs).logits[0].tolist() == pytest.approx([650, -1.5], rel=0.15)


def test_frames_from_a_table_of_segments(tmp_path, base):
    rows = []
    for index in range(12):
        first, second = (("low", 220), ("high", 1760))[:: 1 if index % 2 else -1]
        audio = np.concatenate([tone(first[1], 1.0), tone(second[1], 1.0), tone(5000, 0.5)])
        soundfile.write(tmp_path / f"{index}.wav", audio, RATE)
        rows += [f"{index}.wav,1.0,2.0,{second[0]}", f"{index}.wav,0,1.0,{first[0]}"]
    table = write_table(tmp_path / "labels.csv", "file,start,end,label", rows)
    metrics = tuned(table, tmp_path / "out", base, "frames", "--num_train_epochs", 10, "--seconds", 1)
    assert metrics["test"]["accuracy"] > 0.9
    model = MT2ForAudioFrameClassification.from_pretrained(tmp_path / "out").eval()
    logits = model(**MT2FeatureExtractor()(tmp_path / "0.wav", return_tensors="pt")).logits[0]
    assert [model.config.id2label[int(logits[frame].argmax())] for frame in (10, 50)] == ["high", "low"]


def test_a_data_set_with_class_labels(tmp_path, base):
    files = [write_tone(tmp_path / f"{index}.wav", (220, 1760)[index % 2], 0.4) for index in range(12)]
    rows = {"sound": [{"bytes": file.read_bytes(), "path": None} for file in files], "pitch": [0, 1] * 6}
    columns = ["--audio_column", "sound", "--label_column", "pitch"]
    whole = datasets.Dataset.from_dict(rows).cast_column("sound", datasets.Audio())
    whole = whole.cast_column("pitch", datasets.ClassLabel(names=["low", "high"]))  # not the alphabet's order
    parts = {name: whole.select(range(start, start + 4)) for name, start in (("train", 0), ("valid", 4), ("test", 8))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    found = load_labelled(str(tmp_path / "saved"), "single", SHARES, "sound", "pitch")
    assert found.names == ("low", "high") and {
        name: len(some) for name, some in found.splits.items()
    } == dict.fromkeys(("train", "validation", "test"), 4)
    metrics = tuned(tmp_path / "saved", tmp_path / "out", base, "single", *columns, "--num_train_epochs", 1)
    assert metrics["labels"] == ["low", "high"]


def die():
    raise KilledError


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("whole", "options", "act", "end"),
    [("single", [], die, KilledError), ("adapted", ADAPTED, press_ctrl_c, SystemExit)],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    whole, options, act, end, labelled, base, tmp_path, monkeypatch, request
):
    arguments = ["--model", base, "--data", str(labelled), "--output_dir", str(tmp_path / "out"), *OPTIONS]
    arguments += ["--num_train_epochs", "6", *options]
    with monkeypatch.context() as patch, pytest.raises(end):
        after_saving(patch, FineTuner, 6, act)  # two steps in an epoch
        main(arguments)
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert main(arguments) == 0
    folders = (tmp_path / "out", request.getfixturevalue(whole))
    got, want = (MT2ForAudioClassification.from_pretrained(folder) for folder in folders)
    for name, weights in want.state_dict().items():
        assert torch.allclose(got.state_dict()[name], weights, rtol=0, atol=1e-6), name


@pytest.mark.parametrize(
    ("what", "still"), [("none", set()), ("layers:0", {0}), ("layers:1", {0, 1}), ("encoder", {0, 1, 2, 3})]
)
def test_frozen_depths(base, what, still):
    model = new_classifier(base, "single", ["high", "low"])
    freeze(model, what)
    frozen = {depth_of(name, 2) for name, weights in model.named_parameters() if not weights.requires_grad}
    assert frozen == still and not frozen & {
        depth_of(name, 2) for name, weights in model.named_parameters() if weights.requires_grad
    }


def test_a_run_trains_what_it_was_told_on_everything_anew_in_every_epoch(base, labelled, tmp_path, monkeypatch):
    rates, weights, numbers = {}, [], []
    create, draw = FineTuner.create_optimizer, Excerpts._excerpt

    def note(self, model=None):
        optimizer = create(self, model)
        depths = {id(parameter): depth_of(name, 2) for name, parameter in self.model.named_parameters()}
        for group in optimizer.param_groups:
            rates.update({depths[id(parameter)]: group["lr"] for parameter in group["params"]})
        weights.append(self.loss.keywords["weights"].tolist())
        return optimizer

    def note_number(self, number):
        if self.seed is not None:
            numbers.append(number)
        return draw(self, number)

    monkeypatch.setattr(FineTuner, "create_optimizer", note)
    monkeypatch.setattr(Excerpts, "_excerpt", note_number)
    options = ["--num_train_epochs", 2, "--freeze", "layers:0", "--layer_decay", 0.5, "--class_weights", "balanced"]
    tuned(labelled, tmp_path / "out", base, "single", *options)
    assert rates == pytest.approx({1: 5e-4, 2: 1e-3, 3: 1e-3, 4: 3e-3}) and weights == [[1, 1]]
    assert sorted(numbers) == list(range(32))
    before = new_classifier(base, "single", ["high", "low"]).mt2.state_dict()
    after = MT2ForAudioClassification.from_pretrained(tmp_path / "out").mt2.state_dict()
    moved = {name.split(".")[0] for name, weights in before.items() if not torch.equal(after[name], weights)}
    assert moved == {"layers", "layernorm"}


def changes_of(base, folder) -> dict[str, torch.Tensor]:
    """What tuning added to the encoder, by weight; weights that it left alone are not in it."""
    before = new_classifier(base, "single", ["high", "low"]).mt2.state_dict()
    after = MT2ForAudioClassification.from_pretrained(folder).mt2.state_dict()
    assert after.keys() == before.keys()
    return {name: after[name] - before[name] for name in before if not torch.equal(after[name], before[name])}


def test_adapters_change_linear_layers_by_their_rank_and_are_merged(adapted, single, base):
    metrics = json.loads((adapted / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["validation"]["accuracy"] == 1 and metrics["test"]["accuracy"] >= 0.75
    assert {path.name for path in adapted.iterdir()} == {path.name for path in single.iterdir()}
    linear = {f"attention.{side}_proj" for side in "qkvo"} | {"mlp.fc1", "mlp.fc2"}
    changes = changes_of(base, adapted)
    assert set(changes) == {f"layers.{layer}.{name}.weight" for layer in (0, 1) for name in linear}
    for name, change in changes.items():
        strengths = torch.linalg.svdvals(change.double())
        assert strengths[3] > 1e-3 * strengths[0] and strengths[4] < 1e-4 * strengths[0], name
    whole = changes_of(base, single)["layers.0.mlp.fc1.weight"]
    assert torch.linalg.matrix_rank(whole.double(), rtol=1e-4) > 4  # full fine-tuning is not of that rank


def test_frozen_layers_have_no_adapters(base, labelled, tmp_path, monkeypatch, caplog):
    tuned(labelled, tmp_path / "out", base, "single", "--num_train_epochs", 1, "--lora", 2, "--freeze", "layers:1")
    assert {name.split(".")[1] for name in changes_of(base, tmp_path / "out")} == {"1"}
    arguments = ["--model", base, "--data", str(labelled), "--output_dir", str(tmp_path / "no"), "--lora", "2"]
    assert main([*arguments, "--freeze", "encoder", *OPTIONS]) == 2
    assert "freeze leaves no layer of the encoder" in caplog.text
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main([*arguments, *OPTIONS]) == 2
    assert "run `pip install peft`" in caplog.text and not (tmp_path / "no").exists()


def test_a_run_without_gain_ends_early(base, labelled, tmp_path):
    still = ["--learning_rate", 0, "--encoder_learning_rate", 0]
    metrics = tuned(labelled, tmp_path / "out", base, "single", *still, "--patience", 1, "--num_train_epochs", 5)
    assert (metrics["steps"], metrics["best_step"]) == (4, 2)  # two steps in an epoch


def test_class_weights():
    names = ("a", "b", "c")
    assert Targets("single", names, []).weights(["a", "a", "a", "b"]).tolist() == pytest.approx([4 / 6, 4 / 2, 1])
    assert Targets("multi", names, []).weights([("a",), ("a", "b"), ("a",), ()]).tolist() == pytest.approx(
        [1 / 3, 3, 1]
    )
    frames = [(Segment(0, 3, "a"),), (Segment(1, 2, "b"),)]
    assert Targets("frames", names, []).weights(frames).tolist() == pytest.approx([4 / 6, 4 / 2, 1])
    logits, labels = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    loss = loss_of("single", logits, labels, weights=torch.tensor([1.0, 3.0]))
    each = -logits.log_softmax(-1)[[0, 1], [0, 1]]
    assert loss.item() == pytest.approx(((each[0] + 3 * each[1]) / 4).item())


def test_frames_without_a_label_are_not_trained_on():
    targets = Targets("frames", ("a", "b"), [])
    found = targets.of_frames([Segment(0.1, 0.3, "b"), Segment(0.5, 0.6, "a")], torch.arange(8) / 10)
    assert found.tolist() == [IGNORED, 1, 1, IGNORED, IGNORED, 0, IGNORED, IGNORED]
    logits = torch.randn(1, 8, 2, requires_grad=True)
    loss_of("frames", logits, found[None]).backward()
    assert logits.grad[0].abs().sum(1).ne(0).tolist() == [label != IGNORED for label in found]
    assert loss_of("frames", logits, torch.full((1, 8), IGNORED)).item() == 0


def tracks(rows) -> list[Track]:
    """Recordings of (name, label, split, group)."""
    examples = [Example(name, str, label, split, group) for name, label, split, group in rows]
    return [Track(example.name, example, RATE, RATE) for example in examples]


def names_of(splits) -> dict[str, set[str]]:
    return {name: {track.name for track in some} for name, some in splits.items()}


def test_drawn_splits_are_stratified_and_the_same_in_any_order():
    rows = [
        (f"{label}{index}", label, "", "")
        for label, count in (("a", 20), ("b", 10), ("c", 1))
        for index in range(count)
    ]
    splits = split_tracks(tracks(rows), "single", SHARES)
    counts = {name: [sum(t.source.label == label for t in some) for label in "abc"] for name, some in splits.items()}
    assert counts == {"train": [12, 6, 1], "validation": [4, 2, 0], "test": [4, 2, 0]}
    assert names_of(split_tracks(tracks(rows[::-1]), "single", SHARES)) == names_of(splits)
    assert not names_of(split_tracks(tracks(rows), "single", {**SHARES, "test": 0.0}))["test"]


def test_groups_are_on_one_side():
    rows = [(f"{index}", "ab"[index % 2], "", f"artist {index % 10}") for index in range(60)]
    splits = split_tracks(tracks(rows), "single", SHARES)
    groups = {name: {track.source.group for track in some} for name, some in splits.items()}
    assert {name: len(some) for name, some in groups.items()} == {"train": 6, "validation": 2, "test": 2}
    assert len(set.union(*groups.values())) == 10
    given = [("1", "a", "train", "x"), ("2", "b", "train", "y"), ("3", "a", "validation", "x")]
    with pytest.raises(ValueError, match="group 'x' is in splits train and validation"):
        split_tracks(tracks(given), "single", SHARES)


def test_validation_is_drawn_from_train_where_only_it_is_missing():
    rows = [(f"{index}", "ab"[index % 2], "test" if index < 4 else "train", "") for index in range(24)]
    splits = names_of(split_tracks(tracks(rows), "single", SHARES))
    assert splits["test"] == {"0", "1", "2", "3"} and len(splits["validation"]) == 4 and len(splits["train"]) == 16


def test_every_epoch_holds_every_recording_once_and_like_lengths_together():
    sampler = EpochSampler(np.arange(70) % 7, batch_size=4, seed=1)
    first = list(sampler)
    sampler.set_epoch(2)
    third = list(sampler)
    assert sorted(first) == list(range(70)) and sorted(third) == list(range(140, 210))
    assert [number - 140 for number in third] != first
    spans = [np.ptp(np.array(first[start : start + 4]) % 7) for start in range(0, 68, 4)]
    assert np.mean(spans) < 1.5  # 4 of 7 drawn blindly span 4 on average


def test_excerpts_follow_from_seed_and_number(labelled):
    found = load_labelled(str(labelled), "single", SHARES).splits["train"]
    excerpts, again = (Excerpts(found, 0.25, RATE, seed=3, gain_db=6) for _ in range(2))
    assert np.array_equal(excerpts[1]["waveform"], again[1]["waveform"]) and len(excerpts[1]["waveform"]) == RATE // 4
    levels = [np.abs(excerpts[1 + epoch * len(found)]["waveform"]).max() / 0.5 for epoch in range(8)]
    assert len(set(levels)) == 8 and 0.5 < min(levels) < 1 < max(levels) < 2
    middle = Excerpts(found, 0.25, RATE)[1]
    assert middle["start"] == pytest.approx(0.175) and np.abs(middle["waveform"]).max() == pytest.approx(0.5, rel=0.01)


def test_transposed_excerpts_sound_higher_and_keep_their_segments(tmp_path):
    audio = np.concatenate([tone(440, 1.0), tone(880, 1.0)])
    soundfile.write(tmp_path / "a.wav", audio, RATE)
    segments = (Segment(0, 1, "low"), Segment(1, 2, "high"))
    example = Example("a.wav", lambda: tmp_path / "a.wav", segments)
    excerpts = Excerpts(tracks_of([Track("a.wav", example, len(audio), RATE)]), 2.0, RATE, 0, transpose_semitones=3)
    extractor = MT2FeatureExtractor()
    collate = Collator(extractor, Targets("frames", ("low", "high"), []))
    speeds = []
    for epoch in range(6):
        item = excerpts[epoch]
        speeds.append(item["speed"])
        bins = extractor(item["waveform"], sampling_rate=RATE, return_tensors="pt")["input_features"][0, :, :99]
        change = int((bins.shape[0] - 1) / 2)  # played faster or slower, the middle stays the middle
        assert int(bins[change // 2].argmax()) == round(48 + 12 * np.log2(item["speed"]))  # A4 is 48 above A0
        labels = collate([item])["labels"][0]
        assert set(labels[: change - 1].tolist()) == {0} and set(labels[change + 2 : -1].tolist()) == {1}
    assert min(speeds) < 0.97 and max(speeds) > 1.03 and 2 ** (-3 / 12) < min(speeds) and max(speeds) < 2 ** (3 / 12)


def test_a_recording_that_breaks_in_the_middle_is_replaced_in_training(tmp_path, caplog):
    good = write_tone(tmp_path / "good.wav", 440, 0.5)
    files = [good, tmp_path / "gone.wav", good]
    examples = [Example(str(file), partial(str, file), "ab"[index % 2]) for index, file in enumerate(files)]
    found = tracks_of([Track(example.name, example, RATE // 2, RATE) for example in examples])
    assert Excerpts(found, 0.2, RATE, seed=0)[1]["label"] == "a"
    assert "another recording takes the place of one: no such file" in caplog.text
    with pytest.raises(FileNotFoundError):
        Excerpts(found, 0.2, RATE)[1]


GOOD = ["a.wav,x,train", "b.wav,y,train", "a2.wav,x,validation", "b2.wav,y,validation"]


@pytest.mark.parametrize(
    ("task", "header", "rows", "message"),
    [
        ("single", "file,name", ["a.wav,x"], "labels.csv has no column 'label', only file, name"),
        ("single", "file,label", ["a.wav,x", "b.wav,"], "labels.csv, line 3: the label is empty"),
        ("single", "file,label,split", ["a.wav,x,trian"], "line 2: split 'trian' is none of"),
        ("single", "file,label", ["a.wav,x", "a.wav,y"], "line 3: a.wav is there twice"),
        ("single", "file,label,split", [*GOOD, "c.wav,z,validation"], "label 'z' of c.wav is in the validation split"),
        ("single", "file,label,split", [*GOOD, "c.wav,x,"], "c.wav is in no split, while others are"),
        ("single", "file,label", ["a.wav,x", "b.wav,x", "c.wav,x", "a2.wav,x"], "there is nothing to tell apart"),
        ("single", "file,label,split", [*GOOD, *(f"no{i}.wav,x,train" for i in range(5))], "4 usable, 5 unreadable"),
        ("regression", "file,label", ["a.wav,x"], "has no column of numbers, only file, label"),
        ("regression", "file,bpm", ["a.wav,100", "b.wav,fast"], "line 3: 'fast' is not a number"),
        ("regression", "file,bpm", ["a.wav,1", "b.wav,nan"], "line 3: 'nan' is not a number"),
        ("frames", "file,start,end,label", ["a.wav,1,0.5,x"], "line 2: a segment must start at 0 or later and end"),
        (
            "frames",
            "file,start,end,label,split",
            ["a.wav,0,0.1,x,train", "a.wav,0.1,0.2,y,train", "b.wav,7,9,x,validation"],
            "the validation split cannot be scored: no labelled segment lies in the excerpts",
        ),
        (
            "regression",
            "file,bpm,split",
            ["a.wav,1,train", "b.wav,2,train", "c.wav,3,validation", "a2.wav,3,validation"],
            "the validation split cannot be scored: references are all equal",
        ),
        (
            "frames",
            "file,start,end,label",
            ["a.wav,0,2,x", "a.wav,1,3,y"],
            "line 3: the segment 'y' from 1 s begins before 'x' ends at 2 s",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named(task, header, rows, message, base, tmp_path, caplog):
    for name in ("a", "b", "c", "a2", "b2"):
        write_tone(tmp_path / f"{name}.wav", 440, 0.2)
    table = write_table(tmp_path / "labels.csv", header, rows)
    output = tmp_path / "out"
    assert main(["--model", base, "--data", str(table), "--task", task, "--output_dir", str(output), *OPTIONS]) == 2
    assert message in caplog.records[-1].message and "\n" not in caplog.records[-1].message
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere.csv"], "no such file: nowhere.csv"),
        (["--task", "frames"], "can only hold single labels"),
        (["--task", "both"], "task must be one of single, multi, regression, frames, got 'both'"),
        (["--freeze", "layers:3"], "freeze must be none, encoder or layers:N with N up to 2, got 'layers:3'"),
        (["--lora", "-1"], "patience and lora must not be negative"),
        (["--pooling", "sum"], "pooling 'sum'"),
        (["--class_weights", "squared"], "class_weights must be none or balanced"),
        (["--test_share", "0.9"], "test_share from 0 to what is left"),
        (["--no_such_thing", "1"], "--no_such_thing"),
        (["--model", "LACKING"], "lacks 1 weights of MT2Model, such as layernorm.weight"),
    ],
)
def test_what_is_wrong_with_the_rest_is_named(options, message, base, labelled, tmp_path, caplog):
    model = MT2ForPreTraining.from_pretrained(base)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "mt2.layernorm.weight"}
    model.save_pretrained(tmp_path / "lacking", state_dict=weights)
    MT2FeatureExtractor().save_pretrained(tmp_path / "lacking")
    given = {"--model": base, "--data": str(labelled), "--output_dir": str(tmp_path / "out")}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    arguments = [str(tmp_path / "lacking") if word == "LACKING" else word for pair in given.items() for word in pair]
    assert main([*arguments, *OPTIONS]) == 2
    assert message in caplog.records[-1].message
    assert not (tmp_path / "out").exists()


def test_the_folder_of_another_run_is_refused(base, labelled, tmp_path, caplog):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine", encoding="utf-8")
    arguments = ["--model", base, "--data", str(labelled), "--output_dir", str(tmp_path / "out"), *OPTIONS]
    assert main(arguments) == 2
    assert "holds thesis.txt and no run of fine-tuning" in caplog.text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    (tmp_path / "out" / "thesis.txt").rename(tmp_path / "out" / "pretrain_settings.json")
    (tmp_path / "out" / "pretrain_settings.json").write_text('{"seed": 1}', encoding="utf-8")
    assert main(arguments) == 2
    assert "holds a run with other settings" in caplog.text


def test_a_table_may_be_of_any_spelling(tmp_path):
    write_table(tmp_path / "labels.csv", "\ufefffile,labels,group", ["a.wav, rock | pop ,x", "b.wav,,y"])
    examples, _ = read_csv(tmp_path / "labels.csv", "multi")
    assert [(example.label, example.group) for example in examples] == [(("pop", "rock"), "x"), ((), "y")]
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "other.csv", "multi")
    (tmp_path / "latin.csv").write_bytes("file,labels\na.wav,schön".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.csv is malformed after line"):
        read_csv(tmp_path / "latin.csv", "multi")
