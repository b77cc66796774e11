"""Callbacks: a stopped run resumes exactly, and the online probe estimates the keys that the package estimates."""

import re
import signal

import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2FeatureExtractor, MT2ForPreTraining
from mt2_music.music import signature
from mt2_music.song.keys import estimate_key
from mt2_music.train.pretrain import callbacks
from mt2_music.train.pretrain.__main__ import main
from mt2_music.train.pretrain.callbacks import OnlineProbe
from mt2_music.train.pretrain.trainer import MT2Trainer
from mt2_music.train.publish.calibrate import calibrate_key
from mt2_music.train.run_folder import last_complete_checkpoint
from mt2_music.train.synth import find_soundfont
from support import RATE, TINY, same_weights, song, tiny_config


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_goes_on_to_the_same_end(
    number, music_folder, run_dir, tmp_path, monkeypatch, capsys
):
    arguments = ["--audio_dir", str(music_folder), "--output_dir", str(tmp_path), *TINY]
    arguments += ["--max_steps", "60", "--save_steps", "60"]
    before, log = signal.getsignal(number), MT2Trainer.log

    def log_and_ask(self, logs, *more):
        log(self, logs, *more)
        if self.state.global_step == 2:  # the first log entry: it trains, and has most of its steps before it
            assert signal.getsignal(number) != before  # or the tests would end here
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(MT2Trainer, "log", log_and_ask)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    assert ended.value.code == 128 + number
    assert re.search(r"stopped; step \d+ of 60 is in .*the same command goes on", capsys.readouterr().err)
    assert signal.getsignal(number) == before
    checkpoint = last_complete_checkpoint(tmp_path)
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 0 < step < 60 and step % 2 == 0
    assert not (tmp_path / "model.safetensors").exists()
    main(arguments)
    assert same_weights(tmp_path, run_dir)


@pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")
def test_the_online_probe_estimates_what_the_package_estimates(small_corpus, run_dir, monkeypatch):
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
    estimates = [estimate_key(model, extractor, small_corpus / row["file"]).signature for row in probe.rows]
    right = np.mean([a == signature(row["key"]) for a, row in zip(estimates, probe.rows, strict=True)])
    assert scores["probe_key"] == pytest.approx(right, abs=1e-4)
    assert scores["probe_key_fifth"] >= scores["probe_key"]
    assert scores["probe_instruments"] >= 0
    monkeypatch.setattr(callbacks, "NEIGHBOURS", 99)
    with pytest.raises(ValueError, match="too few to probe"):
        OnlineProbe(small_corpus, extractor, 10)


@pytest.mark.parametrize(
    ("instruments", "expected"),
    [
        ([[]] * 8, None),  # of no piece one is known
        ([[str(number)] for number in range(8)], None),  # none is shared
        ([["piano"]] * 8, 1.0),
    ],
)
def test_the_online_probe_of_pieces_that_share_no_instrument(instruments, expected, tmp_path, monkeypatch, recwarn):
    rows = []
    for number, some in enumerate(instruments):
        rows.append({"split": "validation", "key": "C major", "file": f"{number}.wav", "instruments": some})
        soundfile.write(tmp_path / f"{number}.wav", song(number, 1.5), RATE)
    monkeypatch.setattr(callbacks, "read_rows", lambda folder: rows)
    monkeypatch.setattr(callbacks, "key_of", lambda row: row["key"])
    model = MT2ForPreTraining(tiny_config(class_tokens=["contrastive"]))
    scores = OnlineProbe(tmp_path, MT2FeatureExtractor(), 10).measure(model)
    assert scores == ({} if expected is None else {"probe_instruments": expected})
    rows.clear()
    with pytest.raises(ValueError, match="has only 0 validation pieces"):
        OnlineProbe(tmp_path, MT2FeatureExtractor(), 10)
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


@pytest.mark.skipif(find_soundfont() is None, reason="no tinysoundfont or no SoundFont here")
def test_the_online_probe_changes_no_training(small_corpus, music_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "NEIGHBOURS", 1)
    options = ["--audio_dir", str(music_folder), *TINY, "--max_steps", "6", "--save_steps", "6"]
    main([*options, "--output_dir", str(tmp_path / "without")])
    with caplog.at_level("INFO"):
        probing = ["--probe_corpus", str(small_corpus), "--probe_steps", "2"]
        main([*options, *probing, "--output_dir", str(tmp_path / "with")])
    assert same_weights(tmp_path / "without", tmp_path / "with")
    log = (tmp_path / "with" / "trainer_state.json").read_text(encoding="utf-8")
    assert log.count('"probe_key"') == 3 == caplog.text.count("probe_key'")
