"""Streams: every track once a pass, parts for processes and workers, exact resumption, clear refusals."""

import datasets
import numpy as np
import pytest
import soundfile
import torch

from mt2_music.audio.datasets import open_audio_cell
from mt2_music.train.data.streaming import StreamedPairs
from mt2_music.train.data.windows import Transpositions, Windows
from mt2_music.train.pretrain.__main__ import main
from mt2_music.train.pretrain.trainer import MT2Trainer
from support import RATE, TINY, KilledError, after_saving, log_of, same_weights, tone

HERTZ = [220 + 40 * index for index in range(12)]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A data set on disk in four shards, of tones that tell the tracks apart; one of them cannot be read."""
    # After every pass over Parquet, datasets waits five seconds for threads of pyarrow.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.01, raising=False)
    for index, hertz in enumerate(HERTZ):
        soundfile.write(tmp_path / f"{index:02d}.wav", tone(hertz, 5.0), RATE)
    (tmp_path / "05.wav").write_text("no audio", encoding="utf-8")
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(4):
        rows = [str(tmp_path / f"{index:02d}.wav") for index in range(3 * shard, 3 * shard + 3)]
        audio = [{"bytes": open(path, "rb").read(), "path": path} for path in rows]
        datasets.Dataset.from_dict({"audio": audio}).to_parquet(folder / f"part-{shard}.parquet")
    return folder


def stream_of(corpus):
    return datasets.load_dataset(str(corpus), split="train", streaming=True)


def pairs(corpus, **changes):
    settings = {"batch_size": 2, "windows": Windows(1.0, 2.0, RATE), "transpositions": Transpositions(-8, 7)}
    return StreamedPairs(stream_of(corpus), "audio", **{**settings, "seed": 0, **changes})


def hertz_of(item):
    spectrum = np.abs(np.fft.rfft(item["waveforms"].numpy().astype(float), axis=1))
    assert spectrum[0].argmax() == spectrum[1].argmax()
    return int(spectrum[0].argmax())


def tones_of(dataset, count, **loader):
    batches = iter(torch.utils.data.DataLoader(dataset, batch_size=None, **loader))
    return [hertz_of(next(batches)) for _ in range(count)]


def test_a_pass_holds_every_track_once_and_what_is_left_of_it_is_dropped(corpus, caplog):
    drawn = tones_of(pairs(corpus), 30)
    readable = {hertz for index, hertz in enumerate(HERTZ) if index != 5}
    for one_pass in (drawn[:10], drawn[10:20], drawn[20:]):
        assert len(set(one_pass)) == 10 and set(one_pass) <= readable
    assert drawn[:10] != drawn[10:20]
    assert "05.wav: audio bytes is text" in caplog.text
    assert tones_of(pairs(corpus), 30) == drawn
    assert tones_of(pairs(corpus, seed=1), 30) != drawn


def test_processes_and_workers_read_parts_of_their_own(corpus):
    both = [tones_of(pairs(corpus, rank=rank, world_size=2), 4) for rank in (0, 1)]
    assert len(set(both[0] + both[1])) == 8
    workers = tones_of(pairs(corpus), 8, num_workers=2)
    assert len(set(workers)) == 8


def test_a_killed_run_on_a_stream_goes_on_to_the_same_end(corpus, tmp_path, monkeypatch):
    options = ["--dataset", str(corpus), "--streaming", "true", *TINY, "--save_steps", "4", "--max_steps", "12"]
    main([*options, "--output_dir", str(tmp_path / "whole")])

    def die():
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        after_saving(patch, MT2Trainer, 8, die)
        main([*options, "--output_dir", str(tmp_path / "killed")])
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    main([*options, "--output_dir", str(tmp_path / "killed")])
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_what_cannot_be_streamed_is_refused(corpus, tmp_path, caplog):
    with pytest.raises(ValueError, match="no column 'music'"):
        StreamedPairs(stream_of(corpus), "music", 2, Windows(1.0, 2.0, RATE), Transpositions(-8, 7), 0)
    with pytest.raises(ValueError, match="gave 11 usable tracks of 12 .* a batch needs 12"):
        next(iter(pairs(corpus, batch_size=12)))
    assert main(["--preset", "paper", "--audio_dir", "a", "--streaming", "true", "--output_dir", str(tmp_path)]) == 2
    assert "--streaming needs --dataset" in caplog.text


def test_an_address_is_read_like_a_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440), RATE)
    file = open_audio_cell({"bytes": None, "path": f"file://{tmp_path}/a.wav"}, "a")
    assert len(soundfile.read(file)[0]) == RATE
