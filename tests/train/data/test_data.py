"""Training items: what is read, what is left out and why, and that draws depend on (seed, index) alone."""

import json
import logging
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch

from mt2_music.train.data.tracks import find_files, find_rows, scan
from mt2_music.train.data.windows import Transpositions, WindowPairs, Windows
from support import RATE, song, tone


def pairs(tracks, **changes):
    settings = {"num_items": 40, "batch_size": 4, "windows": Windows(1.0, 2.0, RATE), "seed": 0}
    settings |= {"transpositions": Transpositions(-8, 7, of_a=True)}
    return WindowPairs(tracks, **{**settings, **changes})


def level(item):
    assert item["waveforms"].dtype == torch.int16
    return float((item["waveforms"] / 32768).square().mean(1).min())


def test_finds_nested_audio_and_names_what_it_leaves_out(music_folder, tmp_path, caplog):
    folder = tmp_path / "all"
    (folder / "deeper").mkdir(parents=True)
    for path in music_folder.rglob("*.*"):
        (folder / path.relative_to(music_folder)).write_bytes(path.read_bytes())
    ogg = next(folder.rglob("*.ogg")).read_bytes()
    (folder / "corrupt.ogg").write_bytes(ogg[:200] + bytes(2000))
    (folder / "text.mp3").write_text("not music " * 100, encoding="utf-8")
    soundfile.write(folder / "empty.wav", np.zeros(0), RATE)
    soundfile.write(folder / "short.wav", tone(440, 0.3), RATE)
    (folder / "notes.txt").write_text("a text file", encoding="utf-8")
    tracks = scan(find_files(folder), min_seconds=1.0)
    assert len(tracks) == 12
    with caplog.at_level(logging.INFO):
        tracks.report(tmp_path / "left_out.json")
    reasons = {
        item["name"].rsplit("/")[-1]: item["reason"]
        for item in json.loads((tmp_path / "left_out.json").read_text(encoding="utf-8"))
    }
    assert reasons.keys() == {"corrupt.ogg", "text.mp3", "empty.wav", "short.wav", "notes.txt"}
    assert "0.30 s long" in reasons["short.wav"]
    assert "not an audio file" in reasons["notes.txt"]
    assert "no audio" in reasons["empty.wav"]
    assert all(name in caplog.text for name in reasons)
    assert "5 files left out" in caplog.text


def test_useless_folders_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        scan(find_files(tmp_path / "missing"), 1.0)
    with pytest.raises(ValueError, match="0 audio files"):
        scan(find_files(tmp_path), 1.0)
    soundfile.write(tmp_path / "good.wav", song(0), RATE)
    for index in range(2):
        (tmp_path / f"bad {index}.wav").write_text("no", encoding="utf-8")
    with pytest.raises(ValueError, match="2 unreadable"):
        scan(find_files(tmp_path), 1.0)


def test_long_tracks_come_as_often_as_they_are_long(tmp_path):
    for index in range(40):
        soundfile.write(tmp_path / f"{index:02d}.wav", tone(440, 11.5 if index < 4 else 2.5), RATE)
    drawn = pairs(scan(find_files(tmp_path), 1.0), num_items=96, batch_size=3, minutes_per_draw=0.05)
    orders = [drawn._order(number) for number in range(30)]
    assert drawn.items_per_pass == 51  # of 4 * 4 + 36
    for order in orders:
        assert np.bincount(order).tolist() == [4] * 4 + [1] * 36
        assert all(len(set(batch)) == 3 for batch in order[:51].reshape(17, 3))
    assert len({tuple(order) for order in orders}) == 30
    with pytest.raises(ValueError, match="too often for batches of 5 songs"):
        pairs(drawn.tracks, batch_size=5, minutes_per_draw=0.05)


def test_reads_the_wanted_part_only(tmp_path, monkeypatch):
    audio = song(1, 20.0)
    soundfile.write(tmp_path / "long.wav", audio, RATE, subtype="FLOAT")
    tracks = scan(find_files(tmp_path), 1.0)
    read = []
    original = soundfile.SoundFile.buffer_read_into
    monkeypatch.setattr(
        soundfile.SoundFile,
        "buffer_read_into",
        lambda self, block, kind: read.append(len(block)) or original(self, block, kind),
    )
    got = tracks.read(0, 12.5, RATE, RATE)
    assert np.array_equal(got, audio[int(12.5 * RATE) :][:RATE])
    assert read == [RATE]


def test_items_depend_on_seed_and_index_alone(music_folder):
    tracks = scan(find_files(music_folder), 1.0)
    first, again, other = pairs(tracks), pairs(tracks), pairs(tracks, seed=1)
    order = np.random.default_rng(0).permutation(40)
    items = {int(index): again[int(index)] for index in order}
    for index in range(40):
        assert all(torch.equal(first[index][name], items[index][name]) for name in items[index])
    assert not torch.equal(first[0]["waveforms"], other[0]["waveforms"])
    assert not torch.equal(first[0]["waveforms"], first[12]["waveforms"])  # the next pass draws anew
    assert first[0]["waveforms"].shape == (2, RATE)


def test_no_batch_holds_a_track_twice(music_folder, monkeypatch):
    tracks = scan(find_files(music_folder), 1.0)
    dataset = pairs(tracks, batch_size=5, num_items=60)
    drawn = []
    monkeypatch.setattr(
        dataset, "_draw", lambda track, spare, windows, rng: drawn.append(track) or (np.zeros((2, RATE)), 1)
    )
    [dataset[index] for index in range(60)]
    assert all(len(set(drawn[start : start + 5])) == 5 for start in range(0, 60, 5))
    assert set(drawn) == set(range(12))
    with pytest.raises(ValueError, match="its own negative"):
        pairs(tracks, batch_size=13)


def test_windows_lie_close_and_apart(music_folder):
    dataset = pairs(scan(find_files(music_folder), 1.0))
    rng = np.random.default_rng(0)
    for _ in range(100):
        first, second = dataset.windows.starts(60.0, rng)
        assert 1.0 <= abs(first - second) <= 3.0
        assert 0 <= min(first, second) <= max(first, second) <= 59.0
    assert dataset.windows.starts(1.0, rng) == (0.0, 0.0)


def test_transpositions_are_fair(music_folder):
    dataset = pairs(scan(find_files(music_folder), 1.0), num_items=400)
    dataset._draw = lambda track, spare, windows, rng: (np.zeros((2, 4)), 1)
    drawn = torch.stack([dataset[index]["transpositions"] for index in range(400)])
    assert drawn.min() == -8
    assert drawn.max() == 7
    assert (drawn[:, 0] != drawn[:, 2]).all()
    counts = torch.bincount(drawn.flatten() + 8, minlength=16)
    assert counts.min() > 45  # 75 expected of each
    same = pairs(dataset.tracks, transpositions=Transpositions(-8, 7, of_a=True, of_b=False))
    assert all(item[0] == item[1] for item in (same[index]["transpositions"] for index in range(20)))
    still = pairs(dataset.tracks, transpositions=Transpositions(-8, 7))
    assert all(still[index]["transpositions"][0] == 0 != still[index]["transpositions"][2] for index in range(20))


def test_silence_and_failing_files_are_drawn_again(tmp_path, caplog):
    audio = song(2, 10.0)
    audio[: 8 * RATE] = 0
    for index in range(3):
        soundfile.write(tmp_path / f"mostly silent {index}.wav", audio, RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(10 * RATE), RATE)
    tracks = scan(find_files(tmp_path), 1.0)
    items = [pairs(tracks, batch_size=2)[index] for index in range(40)]
    assert min(level(item) for item in items) > 1e-6
    assert sum(int(item["num_draws"]) for item in items) > 60
    (tmp_path / "mostly silent 0.wav").write_text("gone bad since it was scanned", encoding="utf-8")
    assert min(level(pairs(tracks, batch_size=2)[index]) for index in range(8)) > 1e-6
    assert "mostly silent 0.wav" in caplog.text


def test_datasets_with_an_audio_column(music_folder):
    paths = sorted(str(path) for path in music_folder.rglob("*.*"))
    dataset = datasets.Dataset.from_dict({"music": paths}).cast_column("music", datasets.Audio())
    tracks = scan(find_rows(dataset, "music"), 1.0)
    assert len(tracks) == 12
    from_paths = tracks.read(3, 2.0, RATE, RATE)
    encoded = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    in_memory = datasets.Dataset.from_dict({"music": encoded}).cast_column("music", datasets.Audio(decode=False))
    in_bytes = scan(find_rows(in_memory, "music"), 1.0)
    assert np.array_equal(in_bytes.read(3, 2.0, RATE, RATE), from_paths)
    with pytest.raises(ValueError, match="no column 'audio'"):
        scan(find_rows(dataset), 1.0)
    gaps = datasets.Dataset.from_dict({"music": [None, *encoded], "other": ["x"] * 13})
    gaps = gaps.cast_column("music", datasets.Audio(decode=False)).add_column("second", [paths[0]] * 13)
    with_gaps = scan(find_rows(gaps.cast_column("second", datasets.Audio()), "music"), 1.0)
    assert [(item.name, item.reason) for item in with_gaps.left_out] == [("row 0", "row 0 holds no audio")]
    again = pickle.loads(pickle.dumps(with_gaps))  # as workers that are spawned need it
    assert np.array_equal(again.read(3, 2.0, RATE, RATE), from_paths)
