"""Pictures: what they show is right, and the command draws them or says why not."""

import numpy as np
import pytest
import soundfile
import torch

from mt2_music import MT2ForPreTraining
from mt2_music.loading import load_model
from mt2_music.train.plots import pictures as plots
from mt2_music.train.plots.__main__ import main
from mt2_music.train.plots.pictures import class_attention, self_similarity
from support import RATE, song, tiny_config


def test_self_similarity_finds_what_is_repeated():
    generator = torch.Generator().manual_seed(0)
    verse, chorus = torch.randn(2, 40, 64, generator=generator)
    similarity = self_similarity(torch.cat([verse, chorus, verse]))
    assert np.allclose(np.diag(similarity), 1, atol=1e-5)
    assert np.diag(similarity, 80).min() > 0.9  # the verse comes again after 80 frames
    assert abs(np.diag(similarity, 40)).max() < 0.6


def test_long_songs_are_averaged_down(monkeypatch):
    monkeypatch.setattr(plots, "MAX_FRAMES_SHOWN", 10)
    frames = torch.eye(5).repeat_interleave(5, 0)[:23]  # five sounds of five frames, the last of three
    assert self_similarity(frames).shape == (8, 8)


def test_attention_is_that_of_the_class_tokens():
    model = MT2ForPreTraining(tiny_config()).eval()
    features = torch.rand(50, model.config.input_size)
    attention = class_attention(model, features)
    assert attention.shape == (2, 2, model.config.max_frames)
    with torch.no_grad():
        layers = model.mt2(features[None, : model.config.max_frames], output_attentions=True).attentions
    assert np.allclose(attention[1, 0], layers[0][0].mean(0)[1, 2:].numpy(), atol=1e-6)
    assert (attention.sum(2) < 1).all()


def test_the_command_draws_a_run_and_songs(run_dir, published, tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", song(1), RATE)
    with caplog.at_level("INFO"):
        assert (
            main(
                [
                    str(tmp_path / "a.wav"),
                    "--model",
                    str(published),
                    "--run",
                    str(run_dir),
                    "--output_dir",
                    str(tmp_path / "out"),
                ]
            )
            == 0
        )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{run_dir.name} training.png", "a self-similarity.png", "a attention.png", "a profile.png"}
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert load_model(MT2ForPreTraining, published).config.key_calibration is not None
    assert main(["--run", str(tmp_path), "--output_dir", str(tmp_path)]) == 2
    assert "no trainer_state.json" in caplog.text
    assert main([str(tmp_path / "b.wav"), "--model", str(published)]) == 2
    assert "no such file" in caplog.text
    with pytest.raises(SystemExit):
        main(["song.ogg"])
