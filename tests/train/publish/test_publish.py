"""The Hub folder: complete, loads in a process that has no package, and equals what the package loads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining, MT2Model
from mt2_music.train.card.__main__ import main as card
from mt2_music.train.publish.__main__ import main
from mt2_music.train.publish.calibrate import calibrate_key
from mt2_music.train.publish.facts import SENTENCE_FILES, training_facts
from mt2_music.train.publish.folder import publish
from mt2_music.train.run_folder import SETTINGS_FILE
from mt2_music.train.synth import find_soundfont
from support import RATE, pitch_fork, python, song, tiny_config

WITHOUT_PACKAGE = """
import sys
sys.modules["mt2_music"] = None  # importing it fails, as if it were not installed
import numpy as np, torch
from transformers import (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification,
                          AutoModelForAudioFrameClassification, AutoModelForPreTraining, pipeline)
folder, audio, output = sys.argv[1:]
audio = np.load(audio)
trust = {"trust_remote_code": True}
extractor = AutoFeatureExtractor.from_pretrained(folder, **trust)
model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **trust)
assert not any(info.values()), info
assert AutoConfig.from_pretrained(folder, **trust).model_type == "mt2"
inputs = extractor(audio, sampling_rate=16000, return_tensors="pt")
with torch.no_grad():
    embeds = model.eval()(**inputs).pooler_output
    profile = AutoModelForPreTraining.from_pretrained(folder, **trust).eval()(**inputs).key_signature_profile
torch.manual_seed(0)
classifier = AutoModelForAudioClassification.from_pretrained(folder, num_labels=3, **trust)
AutoModelForAudioFrameClassification.from_pretrained(folder, num_labels=25, **trust)
scores = pipeline("audio-classification", model=classifier, feature_extractor=extractor)(audio)
assert len(scores) == 3 and abs(sum(score["score"] for score in scores) - 1) < 1e-5
classifier.save_pretrained(output + ".tuned")
extractor.save_pretrained(output + ".tuned")
again = pipeline("audio-classification", model=output + ".tuned", **trust)(audio)
assert again == scores, (again, scores)
torch.save({"embeds": embeds, "profile": profile}, output)
"""


def test_a_process_without_the_package_loads_every_class(published, tmp_path):
    audio = song(50)
    np.save(tmp_path / "audio.npy", audio)
    env = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    python("-c", WITHOUT_PACKAGE, published, tmp_path / "audio.npy", tmp_path / "out.pt", cwd=elsewhere, env=env)
    got = torch.load(tmp_path / "out.pt")
    from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

    model = AutoModel.from_pretrained(published).eval()
    assert type(model) is MT2Model  # our own class, and no flag was needed
    extractor = AutoFeatureExtractor.from_pretrained(published)
    inputs = extractor(audio, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).pooler_output, got["embeds"])
        profile = AutoModelForPreTraining.from_pretrained(published).eval()(**inputs).key_signature_profile
    assert torch.equal(profile, got["profile"])


def test_the_folder_is_complete(published, run_dir):
    names = {path.name for path in published.iterdir()}
    code = {"configuration_mt2.py", "modeling_mt2.py", "feature_extraction_mt2.py", "sentence_transformer_mt2.py"}
    rest = {"README.md", "LICENSE", "config.json", "preprocessor_config.json", "model.safetensors", "training.json"}
    sentences = {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
    assert names == code | sentences | rest
    for name, content in SENTENCE_FILES.items():
        assert json.loads((published / name).read_text(encoding="utf-8")) == content
    assert "Apache License" in (published / "LICENSE").read_text(encoding="utf-8")
    assert len(json.loads((published / "config.json").read_text(encoding="utf-8"))["auto_map"]) == 6
    assert (published / "model.safetensors").stat().st_mode & 0o777 == 0o644
    card = (published / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "transformers" and metadata["license"] == "apache-2.0"
    assert metadata["pipeline_tag"] == "feature-extraction"
    steps = json.loads((run_dir / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    assert f"{steps} steps of 4 songs" in card
    assert "$" not in card
    for line in ("| code | ", "| weights | ", "| training data | "):
        assert line in card


def test_hours_count_the_batches_whose_gradients_are_accumulated(tmp_path):
    state = {"global_step": 30, "train_batch_size": 8, "logging_steps": 10}
    state["log_history"] = [{"step": step, "songs_per_second": 2.0, "loss": 1.0} for step in (10, 20, 30)]
    (tmp_path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    settings = {"songs_per_step": 16, "gradient_accumulation_steps": 3}  # 8 songs on each of 2 processes, 3 times
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
    facts = training_facts(tmp_path)
    assert facts["hours"] == round(30 * 16 * 3 / 2.0 / 3600, 2)
    assert facts["songs_per_process"] == 8 * 3


def test_a_card_says_where_weights_started_and_what_the_note_says(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    settings = json.loads((run / SETTINGS_FILE).read_text(encoding="utf-8"))
    settings |= {
        "init_from": "/home/me/runs/first",
        "num_tracks": 1,
        "hours": 1.0,
        "quad_share": 0.5,
        "quad_hours": 2.5,
    }
    (run / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "note.md").write_text("Trained in **two** stages.\n", encoding="utf-8")
    options = ["--note", str(tmp_path / "note.md"), "--hardware", "two cores"]
    assert main([str(run), str(tmp_path / "model"), *options]) == 0
    facts = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    assert facts["note"] == "Trained in **two** stages."
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    training = card[card.index("## Training") : card.index("## Limits")]
    said = ("- started from the weights of `first`", "- 1 track, 1 hour of audio", facts["note"])
    said += ("50 % of the songs of a step, drawn from 2.5 hours", "minutes on two cores")
    assert all(line in training for line in said), training
    assert "/home/me" not in card


def test_a_folder_is_pushed_under_its_own_name_alone(published, tmp_path, monkeypatch, caplog):
    pushed = []
    monkeypatch.setattr("mt2_music.train.card.__main__.push", lambda folder, name: pushed.append(name))
    folder = shutil.copytree(published, tmp_path / "mt2-test")
    assert card([str(folder), "--push", "me/other"]) == 2 and not pushed
    assert "holds mt2-test: push it as USER/mt2-test" in caplog.text
    assert card([str(folder), str(folder), "--push", "me/mt2-test"]) == 2 and not pushed
    assert "It runs in the folder" in (folder / "README.md").read_text(encoding="utf-8")
    assert card([str(folder), "--push", "me/mt2-test"]) == 0 and pushed == ["me/mt2-test"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert 'from_pretrained("me/mt2-test"' in text and "It runs in the folder" not in text


def test_publishing_refuses_what_it_must_not_replace(run_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious", encoding="utf-8")
    (tmp_path / "mine" / "config.json").write_text("{}", encoding="utf-8")
    assert main([str(run_dir), str(tmp_path / "mine"), "--replace"]) == 2
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"thesis.txt", "config.json"}
    before = sorted(path.name for path in run_dir.iterdir())
    assert main([str(run_dir), str(run_dir), "--replace"]) == 2
    assert sorted(path.name for path in run_dir.iterdir()) == before
    assert main([str(run_dir), str(tmp_path / "card")]) == 0
    (tmp_path / "card" / "README.md").write_text("a card written by hand", encoding="utf-8")
    assert main([str(run_dir), str(tmp_path / "card")]) == 2
    assert (tmp_path / "card" / "README.md").read_text(encoding="utf-8") == "a card written by hand"
    assert main([str(run_dir), str(tmp_path / "card"), "--replace"]) == 0
    assert "# card" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        publish(tmp_path / "mine", tmp_path / "new", "mit", "")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_calibration_finds_the_rotation(extractor, request):
    """A model whose head is rotated by hand must be calibrated by as much more."""
    torch.manual_seed(0)
    model = MT2ForPreTraining(tiny_config(profile_gain=1.0)).eval()
    first = calibrate_key(model, extractor)
    with torch.no_grad():
        model.key_head.linear.weight.copy_(model.key_head.linear.weight.roll(5, 0))
    assert calibrate_key(model, extractor) == pytest.approx((first + 7 * 5) % 12, abs=1e-3)
    if find_soundfont() is not None:  # the same of the composed pieces of a corpus
        small_corpus = request.getfixturevalue("small_corpus")
        turned = calibrate_key(model, extractor, small_corpus)
        with torch.no_grad():
            model.key_head.linear.weight.copy_(model.key_head.linear.weight.roll(-5, 0))
        assert turned == pytest.approx((calibrate_key(model, extractor, small_corpus) + 7 * 5) % 12, abs=1e-3)
        with pytest.raises(FileNotFoundError, match="no corpus"):
            calibrate_key(model, extractor, Path("nowhere"))
    linear = MT2FeatureExtractor(cqt_power=1.0)
    fork = linear(pitch_fork(0), sampling_rate=RATE, return_tensors="np")["input_features"][0, :, :99]
    chroma = np.array([fork[:, (pitch_class - 9) % 12 :: 12].mean() for pitch_class in range(12)])
    scales = [sum(chroma[(tonic + step) % 12] for step in (0, 2, 4, 5, 7, 9, 11)) for tonic in range(12)]
    assert np.argmax(scales) == 0  # the fork stands in C major


def test_import_needs_only_the_core_packages(tmp_path):
    """Without torchaudio, torchcodec, librosa, datasets or accelerate."""
    soundfile.write(tmp_path / "a.flac", song(0, 4.0), RATE)
    blocked = [
        "torchaudio",
        "torchcodec",
        "librosa",
        "datasets",
        "accelerate",
        "evaluate",
        "matplotlib",
        "tinysoundfont",
    ]
    script = f"""
import sys
blocked = {blocked}
sys.modules.update(dict.fromkeys(blocked))  # None: importing them fails, as if they were not installed
import mt2_music, mt2_music.cli
from mt2_music.song.embed import embed_audio
model = mt2_music.MT2Model(mt2_music.MT2Config(num_hidden_layers=1)).eval()
print(embed_audio(model, mt2_music.MT2FeatureExtractor(), {str(tmp_path / "a.flac")!r}).mean.shape)
"""
    assert "(192,)" in python("-c", script, cwd=tmp_path).stdout


def test_a_broken_torchaudio_is_named_and_does_no_harm(tmp_path):
    broken = tmp_path / "torchaudio"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        'raise OSError("libtorch_cuda.so: cannot open shared object file")', encoding="utf-8"
    )
    (tmp_path / "torchaudio-2.0.dist-info").mkdir()
    (tmp_path / "torchaudio-2.0.dist-info" / "METADATA").write_text(
        "Name: torchaudio\nVersion: 2.0\n", encoding="utf-8"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    code = "{}from transformers import SequenceFeatureExtractor, Trainer, pipeline"
    broken, hidden = (
        subprocess.run([sys.executable, "-c", code.format(first)], env=env, capture_output=True, text=True)
        for first in ("", "import mt2_music; ")
    )
    assert broken.returncode != 0
    assert hidden.returncode == 0, hidden.stderr
    assert "the installed torchaudio does not load" in hidden.stderr
    assert "pip uninstall torchaudio" in hidden.stderr


def test_hub_files_import_nothing_that_users_may_lack():
    import ast

    import mt2_music

    folder = Path(mt2_music.__file__).parent
    files = [folder / "configuration_mt2.py", folder / "modeling_mt2.py"]
    files.append(Path(sys.modules["mt2_music.feature_extraction.feature_extraction_mt2"].__file__))
    allowed = set(sys.stdlib_module_names) | {"numpy", "torch", "transformers"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in allowed, (file, node.module)
            elif isinstance(node, ast.ImportFrom):
                assert (node.level, node.module) == (1, "configuration_mt2"), (file, node.module)
