"""Prepared archives: the same audio as decoding gives, whole shards only, and errors that name the trouble."""

import json
import os
import signal
import subprocess
import sys
import time

import datasets
import numpy as np
import pytest
import soundfile

from mt2_music.feature_extraction.decoding import read_audio, read_blocks
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.train.data import prepared as module
from mt2_music.train.data.prepared import PreparedTracks, prepare
from mt2_music.train.data.tracks import find_files, scan
from mt2_music.train.prepare.__main__ import main
from mt2_music.train.pretrain.__main__ import main as pretrain
from support import RATE, TINY, song, tone


@pytest.fixture
def archive(music_folder, tmp_path):
    output = tmp_path / "prepared"
    main(["--audio_dir", str(music_folder), "--output_dir", str(output)])
    return output


@pytest.mark.parametrize("rate", [RATE, 22050, 44100, 8000])
def test_blocks_join_to_the_whole_file(tmp_path, rate):
    """Decoded and resampled block by block or at once: the same, also where blocks meet."""
    soundfile.write(
        tmp_path / "a.wav", np.stack([tone(440, 3.3, rate), tone(200, 3.3, rate)], 1), rate, subtype="FLOAT"
    )
    joined = np.concatenate(list(read_blocks(tmp_path / "a.wav", RATE, block_seconds=0.37)))
    audio, _ = read_audio(tmp_path / "a.wav")
    whole = resample(audio, rate, RATE)
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max() < 1e-5


def test_windows_are_those_of_the_files(music_folder, archive):
    decoded, prepared = scan(find_files(music_folder), 1.0), PreparedTracks(archive, 1.0)
    assert [track.name for track in decoded.tracks] == [track.name for track in prepared.tracks]
    assert prepared.hours == pytest.approx(decoded.hours, rel=1e-3)
    for index in range(len(prepared)):
        pairs = [tracks.read(index, 1.3, RATE, RATE) for tracks in (decoded, prepared)]
        # Not at once for other rates: a window resampled alone lacks what lies beside it.
        assert np.abs(pairs[0] - pairs[1])[200:-200].max() < (1e-4 if decoded[index].sampling_rate == RATE else 0.02)
    ending = prepared.read(0, prepared[0].seconds - 2.0, 4 * RATE, RATE)
    assert ending[: 2 * RATE].any() and not ending[2 * RATE :].any()
    with pytest.raises(ValueError, match="16000 Hz, not at 22050"):
        prepared.read(0, 0.0, 100, 22050)


def test_the_shards_open_as_a_data_set(archive, tmp_path):
    files = sorted(str(path) for path in archive.glob("*.arrow"))
    opened = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(opened) == 12
    assert np.array(opened[0]["samples"]).dtype.kind == "i"


def test_bad_files_are_left_out_by_name(tmp_path, capsys, caplog):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    soundfile.write(sounds / "good.wav", song(0), RATE)
    soundfile.write(sounds / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(sounds / "empty.wav", np.zeros(0), RATE)
    (sounds / "torn.ogg").write_bytes(b"OggS and nothing")
    (sounds / "notes.txt").write_text("text", encoding="utf-8")
    with caplog.at_level("INFO"):
        main(["--audio_dir", str(sounds), "--output_dir", str(tmp_path / "out")])
    for name in ("nan.wav", "empty.wav", "torn.ogg", "notes.txt"):
        assert name in caplog.text
    assert "1 tracks" in caplog.text and "4 files left out" in caplog.text
    assert {item.name.rsplit("/")[-1] for item in PreparedTracks(tmp_path / "out", 1.0).left_out} >= {
        "nan.wav",
        "torn.ogg",
    }
    (sounds / "good.wav").unlink()
    with pytest.raises(SystemExit):
        main(["--audio_dir", str(sounds), "--output_dir", str(tmp_path / "none")])
    assert "could be decoded" in capsys.readouterr().err


def test_a_killed_run_goes_on(tmp_path):
    """Shards that were done are not touched again, and the rest is as in one go."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    audio = np.tile(song(0, 4.0), 8)
    for index in range(150):
        soundfile.write(sounds / f"{index:03d}.flac", audio[index * 100 :], RATE)
    command = [
        sys.executable,
        "-m",
        "mt2_music.train.prepare",
        "--audio_dir",
        sounds,
        "--output_dir",
        tmp_path / "out",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "1"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((tmp_path / "out").glob("*.arrow")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "out" / "shard-00004.1.part").write_bytes(b"half a shard")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.arrow")}
    assert 0 < len(done) < 5
    with pytest.raises(ValueError, match="not finished"):
        PreparedTracks(tmp_path / "out", 1.0)
    prepare(find_files(sounds), tmp_path / "out")
    prepare(find_files(sounds), tmp_path / "again")
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    for name in [f"shard-{shard:05d}.arrow" for shard in range(5)]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert not list((tmp_path / "out").glob("*.part"))


def test_broken_and_foreign_shards_are_refused_by_name(archive, music_folder, tmp_path):
    shard = archive / "shard-00000.arrow"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="shard-00000.arrow is broken"):
        PreparedTracks(archive, 1.0)
    shard.write_bytes(whole)
    with pytest.raises(ValueError, match="no track .* lasts 99"):
        PreparedTracks(archive, 99)
    with pytest.raises(FileNotFoundError, match="nothing was prepared"):
        PreparedTracks(music_folder, 1.0)
    with pytest.raises(ValueError, match="other sounds"):
        prepare(find_files(music_folder / "deeper"), archive)


def test_a_full_disk_leaves_no_half_shard(music_folder, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.pyarrow.ipc, "new_stream", full)
    with pytest.raises(OSError, match="No space left"):
        module._write_shard(tmp_path, str, 0, find_files(music_folder).found[:2])
    assert not list(tmp_path.iterdir())


def test_training_draws_from_a_prepared_folder(archive, tmp_path):
    steps = ["--max_steps", "2", "--save_steps", "2", "--dataloader_num_workers", "1"]
    pretrain(["--prepared_dir", str(archive), "--output_dir", str(tmp_path / "run"), *TINY, *steps])
    settings = json.loads((tmp_path / "run" / "pretrain_settings.json").read_text(encoding="utf-8"))
    assert settings["num_tracks"] == 12
