"""Between steps: a run that is asked to stop can go on exactly, and what is heard online is what the package hears."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.keys import estimate_key
from mt2_music.music import signature
from mt2_music.train.pretrain import callbacks
from mt2_music.train.pretrain.callbacks import OnlineProbe
from mt2_music.train.publish.calibrate import calibrate_key
from mt2_music.train.run_folder import last_complete_checkpoint
from mt2_music.train.synth import find_soundfont
from support import TINY, python


def test_asked_to_stop_it_saves_and_goes_on_to_the_same_end(music_folder, run_dir, tmp_path):
    arguments = ["--audio_dir", music_folder, "--output_dir", tmp_path, *TINY, "--max_steps", 60, "--save_steps", 60]
    command = [sys.executable, "-u", "-m", "mt2_music.train.pretrain", *map(str, arguments)]
    with (tmp_path / "messages").open("w+") as messages:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, text=True)
        for line in process.stdout:
            if "loss_cpsd" in line:  # the first log entry: it trains, and has most of its steps before it
                process.send_signal(signal.SIGTERM)
                break
        process.communicate()
        messages.seek(0)
        said = messages.read()
    assert process.returncode == 0, said
    assert "start again to go on" in said
    checkpoint = last_complete_checkpoint(tmp_path)
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 0 < step < 60 and step % 2 == 0
    assert not (tmp_path / "model.safetensors").exists()
    python(*command[1:])
    got, want = load_file(tmp_path / "model.safetensors"), load_file(run_dir / "model.safetensors")
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")
def test_the_online_probe_hears_what_the_package_hears(small_corpus, run_dir, monkeypatch):
    monkeypatch.setattr(callbacks, "NEIGHBOURS", 1)
    extractor = MT2FeatureExtractor()
    probe = OnlineProbe(small_corpus, extractor, 10)
    assert all(row["split"] == "validation" for row in probe.rows)
    model = MT2ForPreTraining.from_pretrained(run_dir).train()
    state, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    scores = probe.measure(model)
    assert model.training and model.config.key_calibration is None
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model.eval()
    calibrate_key(model, extractor)
    heard = [estimate_key(model, extractor, small_corpus / row["file"]).signature for row in probe.rows]
    right = np.mean([a == signature(row["key"]) for a, row in zip(heard, probe.rows, strict=True)])
    assert scores["probe_key"] == pytest.approx(right, abs=1e-4)
    assert scores["probe_key_fifth"] >= scores["probe_key"]
    assert scores["probe_instruments"] >= 0
    monkeypatch.setattr(callbacks, "NEIGHBOURS", 99)
    with pytest.raises(ValueError, match="too few to probe"):
        OnlineProbe(small_corpus, extractor, 10)


@pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")
def test_the_online_probe_changes_no_training(small_corpus, music_folder, tmp_path):
    options = ["--audio_dir", music_folder, *TINY, "--max_steps", 6, "--save_steps", 6]
    program = (
        "import mt2_music.train.pretrain.callbacks as c, mt2_music.train.pretrain as p; c.NEIGHBOURS = 1; p.main()"
    )
    python("-m", "mt2_music.train.pretrain", *options, "--output_dir", tmp_path / "without")
    probing = ["--probe_corpus", small_corpus, "--probe_steps", 2]
    output = python("-c", program, *options, *probing, "--output_dir", tmp_path / "with")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("without", "with")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    log = (tmp_path / "with" / "trainer_state.json").read_text()
    assert log.count('"probe_key"') == 3 == output.stderr.count("probe_key'")
