"""Sequences from probabilities: the best of all there are, and beats where they are."""

import numpy as np
import pytest

from mt2_music.song import decode
from mt2_music.song.decode import find_bars, find_beats, likeliest_sequence, runs

RATE = 31.25
TEMPI = np.geomspace(40, 215, 36)


def test_the_sequence_is_the_best_of_all():
    """Against every sequence there is, of four frames and three classes."""
    rng = np.random.default_rng(1)
    for change in (-0.1, -1.0, -5.0):
        scores = rng.standard_normal((4, 3))
        every = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), -1).reshape(-1, 4)
        totals = scores[np.arange(4), every].sum(1) + change * (np.diff(every, axis=1) != 0).sum(1)
        found = likeliest_sequence(scores, change)
        assert scores[np.arange(4), found].sum() + change * (np.diff(found) != 0).sum() == pytest.approx(totals.max())


def test_runs_cover_all_frames():
    assert runs(np.array([2, 2, 0, 0, 0, 1])) == [(0, 2), (2, 5), (5, 6)]
    assert runs(np.array([7])) == [(0, 1)]


def activations(times: np.ndarray, seconds: float, peak: float = 0.8, floor: float = 0.02) -> np.ndarray:
    """Return what a good head says: a peak of a frame's width at every time."""
    frames = np.arange(round(seconds * RATE)) / RATE
    distances = abs(frames[:, None] - times[None]).min(1) * RATE
    return np.maximum(floor, peak * np.exp(-0.5 * distances**2))


def flat(num_frames: int) -> np.ndarray:
    return np.full((num_frames, len(TEMPI)), -np.log(len(TEMPI)))


@pytest.mark.parametrize("tempo", [52, 88, 120, 171])
def test_beats_are_where_they_are(tempo):
    wanted = np.arange(0.3, 30, 60 / tempo)
    probabilities = activations(wanted, 30.0)
    found = find_beats(probabilities, RATE, TEMPI, flat(len(probabilities)))
    assert len(found) == len(wanted)
    assert abs(found - wanted).max() < 0.02


def test_a_tempo_that_changes_is_followed_and_a_missing_beat_is_filled_in():
    wanted = np.cumsum(np.geomspace(0.7, 0.5, 40))
    probabilities = activations(np.delete(wanted, 20), wanted[-1] + 0.5)
    probabilities[round(wanted[20] * RATE)] = 0.1
    found = find_beats(probabilities, RATE, TEMPI, flat(len(probabilities)))
    assert len(found) == len(wanted)
    assert abs(found - wanted).max() < 0.07


def test_the_tempo_decides_what_beats_alone_leave_open():
    """Peaks every 0.3 s, every second one lower: 100 or 200 beats per minute, as the tempo says."""
    strong = np.arange(0.3, 30, 0.6)
    probabilities = np.maximum(activations(strong, 30.0), activations(strong + 0.3, 30.0, peak=0.5))
    for tempo in (100, 200):
        scores = -2.0 * abs(np.log2(TEMPI / tempo)) * np.ones((len(probabilities), 1)) * 12
        found = find_beats(probabilities, RATE, TEMPI, scores)
        assert 60 / np.median(np.diff(found)) == pytest.approx(tempo, rel=0.03)


class EveryWay:
    """All ways to place beats on few frames, and their scores, written out."""

    def __init__(self, beat, none, intervals, tempo, change):
        self.beat, self.none, self.intervals, self.tempo, self.change = beat, none, intervals, tempo, change

    def score(self, beats, following):
        """Score beats; `following` holds the interval before the first one, and the one behind every beat."""
        total = self.none[: beats[0]].sum() - np.log(self.intervals[following[0]])
        for place, frame in enumerate(beats):
            interval = following[place + 1]
            total += self.beat[frame] + self.change[following[place], interval]
            total += self.tempo[frame // decode.FRAMES_PER_FRAME, interval]
            last = beats[place + 1] if place + 1 < len(beats) else len(self.beat)
            total += self.none[frame + 1 : last].sum()
        return total

    def best(self):
        found = (-np.inf, [])
        every = range(len(self.intervals))
        ways = [([first], [start]) for start in every for first in range(self.intervals[start])]
        while ways:
            beats, following = ways.pop()
            for interval in every:
                after = beats[-1] + self.intervals[interval]
                if after >= len(self.beat):
                    found = max(found, (self.score(beats, [*following, interval]), beats))
                else:
                    ways.append(([*beats, after], [*following, interval]))
        return found[1]


def test_beats_are_the_best_sequence_of_all(monkeypatch):
    rng = np.random.default_rng(3)
    intervals = np.array([3, 4, 5])
    monkeypatch.setattr(decode, "BEAT_FRAMES", 0.0)
    monkeypatch.setattr(decode, "TEMPO_CHANGE", 4.0)
    change = -4.0 * abs(intervals[None] / intervals[:, None] - 1)
    change -= np.log(np.exp(change).sum(1, keepdims=True))
    for _ in range(5):
        beat, none = np.log(rng.uniform(0.05, 0.9, (2, 14)))
        tempo = rng.standard_normal((14, 3)) * 0.3
        wanted = EveryWay(beat, none, intervals, tempo, change).best()
        assert decode._likeliest_beats(beat, none, intervals, (tempo, np.eye(3))) == wanted


@pytest.mark.parametrize("metre", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("first", [1, 2])
def test_bars_begin_at_downbeats(metre, first):
    times = np.arange(0.2, 30, 0.5)
    wanted = (np.arange(len(times)) + first - 1) % metre + 1
    probabilities = activations(times[wanted == 1], 30.5, peak=0.6, floor=0.1)
    assert (find_bars(probabilities, times, RATE) == wanted).all()


def test_nothing_has_no_beats():
    assert not len(find_beats(np.zeros(2), RATE, TEMPI, flat(2)))
    assert not len(find_bars(np.zeros(5), np.zeros(0), RATE))
