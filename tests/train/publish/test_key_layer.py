"""A layer of 24 keys on a published model: the probe's own logits, in a folder that keeps all it had."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2Config, MT2FeatureExtractor, MT2ForAudioClassification, MT2ForPreTraining
from mt2_music.cli import main as mt2
from mt2_music.loading import load_model
from mt2_music.music import KEY_LABELS
from mt2_music.song.keys import KeyEstimate, classify_key
from mt2_music.train.card.__main__ import main as card
from mt2_music.train.key.__main__ import main
from mt2_music.train.probing.encoders import MT2Encoder
from mt2_music.train.probing.report.comparison import claim, compare, comparison_table
from mt2_music.train.probing.run.__main__ import main as measure
from mt2_music.train.publish import key_layer
from mt2_music.train.publish.figures import mistakes
from mt2_music.train.publish.key_layer import fit_keys, with_keys
from mt2_music.train.synth import find_soundfont
from support import RATE, python, song, tiny_config

needs_corpus = pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")


@pytest.fixture(scope="module", autouse=True)
def few_plain_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_layer, "NUM_PLAIN_PIECES", 6)
        yield


@pytest.fixture(scope="module")
def keyed(published, small_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed")
    options = ["--corpus", str(small_corpus), "--cache_dir", str(folder / "cache"), "--half"]
    assert main([str(published), str(folder / "mt2-test-key"), *options]) == 0
    return folder / "mt2-test-key"


@needs_corpus
def test_the_layer_gives_the_logits_of_the_probe(published, small_corpus, tmp_path):
    model, extractor = load_model(MT2ForPreTraining, published), MT2FeatureExtractor.from_pretrained(published)
    pooling, probe = fit_keys(model, extractor, small_corpus, tmp_path)
    classifier = with_keys(model, pooling, probe)
    audio = song(60, 6.0)
    embedding = MT2Encoder(model, extractor, "name").embed(audio).vectors[probe.readout]
    with torch.no_grad():
        wanted = probe.layer((torch.from_numpy(embedding)[None] - probe.mean) / probe.deviation)
        got = classifier(**extractor(audio, sampling_rate=RATE, return_tensors="pt")).logits
    assert torch.allclose(got, wanted, atol=1e-4)
    assert wanted.std() > 0.01


@needs_corpus
def test_the_folder_keeps_all_it_had_and_loads_without_the_package(published, keyed, tmp_path, capsys):
    soundfile.write(tmp_path / "song.wav", song(61), RATE)
    program = """
import sys
sys.modules["mt2_music"] = None
import soundfile
from transformers import AutoModelForPreTraining, pipeline
name_keys = pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)
assert len(name_keys(soundfile.read(sys.argv[2])[0], top_k=24)) == 24
model, report = AutoModelForPreTraining.from_pretrained(sys.argv[1], trust_remote_code=True, output_loading_info=True)
assert not report["missing_keys"] and not report["mismatched_keys"], report
"""
    python("-c", program, keyed, tmp_path / "song.wav", cwd=tmp_path)
    whole = load_model(MT2ForPreTraining, keyed).state_dict()
    assert all(
        torch.equal(whole[name], tensor.half().float())
        for name, tensor in load_model(MT2ForPreTraining, published).state_dict().items()
    )
    assert MT2Config.from_pretrained(keyed).dtype == torch.float32  # half on the disk only
    facts = json.loads((keyed / "training.json").read_text(encoding="utf-8"))
    assert facts["base"] == published.name and facts["settings"]["seed"] == 42
    capsys.readouterr()
    assert mt2(["key", str(tmp_path / "song.wav"), "--model", str(keyed), "--json", "--always"]) == 0
    estimate = json.loads(capsys.readouterr().out)[0]
    assert estimate["key"] in KEY_LABELS and sum(estimate["profile"]) == pytest.approx(1, abs=1e-4)
    assert main([str(published), str(keyed), "--corpus", "nowhere"]) == 2  # it is there already


def test_the_signature_is_that_of_the_two_likeliest_keys_together(extractor):
    names = dict(enumerate(KEY_LABELS))
    model = MT2ForAudioClassification(tiny_config(id2label=names, label2id={n: i for i, n in names.items()})).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        # D major 0.4; C major and A minor 0.3 each: their signature is likelier than that of D major alone.
        for name, share in {"D major": 0.4, "C major": 0.25, "A minor": 0.35}.items():
            model.classifier.bias[KEY_LABELS.index(name)] = float(np.log(share)) + 30
    estimate = classify_key(model, extractor, song(1, 2.0), RATE, always=True)
    assert (estimate.signature, estimate.key) == (0, "A minor")
    assert estimate.confidence == pytest.approx(0.35, abs=1e-3) and estimate.profile[0] == pytest.approx(0.6, abs=1e-3)
    averaged = classify_key(model, extractor, song(1, 2.0), RATE, transpositions=1, always=True)
    wanted = sum(np.roll(estimate.profile, -shift) for shift in (-1, 0, 1)) / 3  # it says the same of every pitch
    assert np.allclose(averaged.profile, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="transpositions must be from 0 to 7"):
        classify_key(model, extractor, song(1, 2.0), RATE, transpositions=8)
    other = MT2ForAudioClassification(tiny_config(num_labels=24)).eval()
    with pytest.raises(ValueError, match="names no keys"):
        classify_key(other, extractor, song(1, 2.0), RATE)


def scored(**readouts: tuple[float | None, float]) -> dict:
    """Results of a model on corpus-key: for each readout the validation and the test score."""
    found = {}
    for name, (validation, test) in readouts.items():
        found[name] = {"test": {"mirex": {"mean": test, "std": None}}}
        if validation is not None:
            found[name]["validation"] = {"mirex": {"mean": validation, "std": None}}
    return {"tasks": {"corpus-key": {"main": "mirex", "readouts": found, "sizes": {"test": 100}}}}


def test_validation_chooses_the_readout_and_the_table_says_what_does_better():
    models = {
        "mine": scored(mean=(0.4, 0.9), frames=(0.7, 0.6)),
        "mine-equivariant": scored(frames=(0.1, 0.65), mean=(0.9, 0.2)),
        "chroma": scored(statistics=(0.5, 0.7)),
        "mfcc": scored(statistics=(0.9, 0.1)),
    }
    (row,) = compare("mine", models)
    assert (row.own.readout, row.own.mean) == ("frames", 0.6)  # not the one that is best on test
    assert (row.baseline.model, row.other.mean) == ("chroma", 0.65)  # what is best on test
    table = comparison_table("mine", [row])
    assert "| 60.0 | frames | 70.0 chroma ▲ | 65.0 mine-equivariant, frames ▲ |" in table
    assert claim("mine", [row]) == (
        "`mine` scores higher than every baseline on 0 of 1 task. An ablation (the same model with a part left out) "
        "or another model measured beside it is as good or better on 1 of 1 task (key of a piece)."
    )
    (row,) = compare("mine", {name: models[name] for name in ("mine", "mfcc")})
    assert "| **60.0** | frames | 10.0 mfcc |" in comparison_table("mine", [row])
    assert claim("mine", [row]) == "`mine` scores higher than every baseline on 1 of 1 task (key of a piece)."
    both = [row, replace(row, task="corpus-tempo", baseline=replace(row.own, mean=0.9))]
    assert claim("mine", both) == (
        "`mine` scores higher than every baseline on 1 of 2 tasks (key of a piece); on the other (tempo), a baseline "
        "is as good or better."
    )
    named = {"mine": scored(frames=(0.9, 0.5), **{"its own keys": (None, 0.6), "zero-shot": (None, 0.9)})}
    assert compare("mine", named)[0].own.readout == "its own keys"
    assert compare("another", models) == []


def test_mistakes_are_counted_around_the_circle():
    rows = [{"piece": key, "key": key} for key in ("C major", "A minor", "G major", "E major")]
    estimates = [KeyEstimate(s, np.eye(12)[s], c) for s, c in ((0, 0.9), (7, 0.5), (6, 0.8), (4, 1.0))]
    found = mistakes(rows, estimates)
    assert (found["pieces"], found["wrong"], found["fifth"]) == (4, 2, 1)
    assert [example["piece"] for example in found["examples"]] == ["G major", "A minor"]


@needs_corpus
def test_the_card_says_what_was_measured(published, keyed, small_corpus, music_folder, tmp_path):
    published = shutil.copytree(published, tmp_path / published.name)
    results = tmp_path / "results.json"
    options = ["--tasks", "corpus-key", "--seeds", "0", "--cache_dir", tmp_path / "cache", "--layers", "1"]
    options += ["--data", f"corpus={small_corpus}", "--out", results]
    measure(list(map(str, ["--model", published, keyed, "chroma", *options])))
    more = ["--corpus", str(small_corpus), "--songs", str(music_folder), "--layers", str(results)]
    assert card([str(published), "--results", str(results), *more]) == 0
    scores = json.loads(results.read_text(encoding="utf-8"))["models"]
    text, table = ((published / name).read_text(encoding="utf-8") for name in ("README.md", "results.md"))
    for name in (published.name, "chroma"):
        model = next(model for model in scores.values() if model["name"] == name)
        for readout, score in model["tasks"]["corpus-key"]["readouts"].items():
            if "@" not in readout:
                assert f"| {name} | {readout} | {100 * score['test']['mirex']['mean']:.1f} |" in table
    assert " chroma" in text and "scores higher than every baseline on" in text
    assert "model-index" in text and "$" not in text and "test pieces in one key" in text
    pictures = {path.name for path in (published / "figures").glob("*.png")}
    assert pictures == {"bars.png", "layers.png", "keys.png", "map.png", "self-similarity.png"}
    assert all(f"](figures/{name})" in text for name in pictures)
    assert "its own keys" in scores[str(keyed)]["tasks"]["corpus-key"]["readouts"]
    before = text
    assert card([str(published), "--results", str(tmp_path / "missing.json")]) == 2
    assert card([str(music_folder)]) == 2
    assert card([str(published), str(published), "--corpus", str(small_corpus)]) == 2  # of one model
    assert (published / "README.md").read_text(encoding="utf-8") == before
