"""Items of quads: which windows they are, in which order, and that processes share out the same music."""

import json

import numpy as np
import pytest
import torch

from mt2_music.train.data.prepared import SETTINGS_FILE as PREPARED_FILE
from mt2_music.train.data.prepared import PreparedTracks, write_shard
from mt2_music.train.data.quads import FIRST_SONG, QUADS_FILE, Quads, QuadsAndSongs
from mt2_music.train.data.windows import Transpositions, WindowPairs, Windows
from support import RATE, write_quads

LENGTH = 2 * RATE
SOLOS = [False, True, False, False, True, True, False, False]
STEPS = 6


def told(code):
    """Samples that tell their track and place: half the place at even places, and minus a number of the track."""
    samples = np.full(LENGTH, -5000 - code, np.int16)
    samples[::2] = np.arange(LENGTH // 2)
    return samples


def read(window):
    """Track and place that a window of such samples tells."""
    values = window.numpy().astype(int)
    code = -5000 - values.min()
    start = 2 * values[0] if values[0] >= 0 else 2 * values[1] - 1
    assert np.array_equal(values, told(code)[start : start + len(values)])
    return code, start


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Eight quads, three of them solos, and twelve recordings; all samples tell where they are from."""
    quads, songs = tmp_path_factory.mktemp("quads"), tmp_path_factory.mktemp("songs")
    write_quads(quads, SOLOS, lambda quad, score, orchestration: told(4 * quad + 2 * score + orchestration))
    write_shard(songs, 0, ((f"song {index}", told(1000 + index)) for index in range(12)), [])
    (songs / PREPARED_FILE).write_text('{"shards": 1}', encoding="utf-8")
    return quads, songs


def items(folders, processes=1, each=12, of_quads=8, of_solos=2, seed=0, seconds=0.5, shortest=0.0):
    """A data set of `each` songs in a step of a process, so many of them of quads, as pre-training makes it."""
    windows = Windows(seconds, 0.5, RATE, shortest)
    drawing = {"windows": windows, "transpositions": Transpositions(-8, 7), "seed": seed}
    recordings = (each - of_quads) * processes
    songs = WindowPairs(PreparedTracks(folders[1], seconds), STEPS * recordings, recordings, **drawing)
    return QuadsAndSongs(Quads(folders[0]), songs, each, of_quads, of_solos, processes, STEPS, **drawing)


def batches(dataset):
    """The items of all steps and processes, [step][process][place]."""
    drawn = iter(dataset[index] for index in range(len(dataset)))
    return [[[next(drawn) for _ in range(dataset.batch_size)] for _ in range(dataset.processes)] for _ in range(STEPS)]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_windows_are_the_instants_scores_and_orchestrations_that_they_are_said_to_be(folders):
    owners = set()
    for (batch,) in batches(items(folders)):
        for place, item in enumerate(batch[:8]):
            (a, at_a), (b, at_b), (y, at_y) = (read(window) for window in item["waveforms"])
            quad, score, orchestration = a // 4, a // 2 % 2, a % 2
            assert (b, at_y) == (a, at_a)  # B is the same recording, and Y the same instant
            assert y == a ^ 1  # of the same score by the other orchestration
            assert at_a != at_b
            assert SOLOS[quad] == (place < 2)  # single instruments come first
            assert score == place % 2
            assert item["song"] == FIRST_SONG + 2 * quad + score
            # Other music by the orchestration of Y is the other song of the quad, its neighbour in the batch.
            assert item["sound"] == item["song"] ^ 1 == batch[place ^ 1]["song"]
            assert read(batch[place ^ 1]["waveforms"][0])[0] == y ^ 2
            assert item["tempo"] == (90.0 + quad if score == 0 else 0.0 if SOLOS[quad] else 180.0 + quad)
            assert item["augmentation"].shape[0] == 3
            owners.add((SOLOS[quad], orchestration))
        for item in batch[8:]:
            (a, _), (b, _) = (read(window) for window in item["waveforms"][:2])
            assert a == b >= 1000
            assert not item["waveforms"][2].any() and item["tempo"] == 0
            assert item["sound"] == item["song"] < FIRST_SONG
        assert len({int(item["song"]) for item in batch}) == 12
        assert all(item["transpositions"][0] == 0 for item in batch)
    assert owners == {(solo, orchestration) for solo in (False, True) for orchestration in (0, 1)}


def test_no_step_holds_a_quad_twice_where_passes_meet(folders):
    """Five quads of several instruments, three in a step: a quad that came twice would be its own negative."""
    for (batch,) in batches(items(folders)):
        assert len({read(item["waveforms"][0])[0] // 4 for item in batch[:8]}) == 4


@pytest.mark.parametrize("of_solos", [0, 2])
def test_two_processes_share_out_the_music_of_one(folders, of_solos):
    whole = batches(items(folders, 1, 12, of_quads=8, of_solos=2 * of_solos))
    parts = batches(items(folders, 2, 6, of_quads=4, of_solos=of_solos))
    for (one,), processes in zip(whole, parts, strict=True):
        of_song = {int(item["song"]): item for process in processes for item in process}
        assert len(of_song) == 12
        assert all(equal(item, of_song[int(item["song"])]) for item in one)


def test_items_follow_from_seed_and_number_alone(folders):
    first, again, other = (items(folders, seed=seed, shortest=0.1) for seed in (0, 0, 1))
    backwards = {index: again[index] for index in reversed(range(len(again)))}
    assert all(equal(first[index], backwards[index]) for index in range(len(first)))
    assert not any(torch.equal(first[index]["augmentation"], other[index]["augmentation"]) for index in range(12))


def test_windows_of_a_step_have_one_length_that_changes_from_step_to_step(folders):
    lengths = []
    for processes in batches(items(folders, 2, 6, of_quads=4, shortest=0.1)):
        (length,) = {item["waveforms"].shape[-1] for batch in processes for item in batch}
        assert 0.1 * RATE - 1 <= length <= 0.5 * RATE
        lengths.append(length)
    assert len(set(lengths)) > 2
    windows = Windows(4.0, 1.0, RATE, 0.5)
    drawn = np.array([windows.of_step(step, 0).seconds for step in range(2000)])
    assert (drawn == 4.0).mean() == pytest.approx(0.5, abs=0.05)
    octaves = np.log2(drawn[drawn < 4.0] / 0.5)
    assert np.histogram(octaves, 3, (0, 3))[0] / len(octaves) == pytest.approx(np.full(3, 1 / 3), abs=0.06)


def test_too_little_music_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="needs 4 quads of single instruments, and there are 3"):
        items(folders, of_solos=8)
    with pytest.raises(ValueError, match="needs 8 quads of several instruments, and there are 5"):
        items(folders, 2, 12, of_quads=10)
    with pytest.raises(ValueError, match="windows of 2 s do not fit into quads of 2 s"):
        items(folders, seconds=2.0)
    with pytest.raises(FileNotFoundError, match=f"{QUADS_FILE} is missing; render them again to finish"):
        Quads(folders[1])
    write_quads(tmp_path, SOLOS[:2], lambda *_: told(0))
    (tmp_path / PREPARED_FILE).write_text(json.dumps({"shards": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match="not finished, 1 of 2 shards are missing"):
        Quads(tmp_path)
    with pytest.raises(IndexError, match="item 72 of 72"):
        items(folders)[72]
