"""The keys of a song over time, with a model that was taught the 24 keys."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import MT2ForAudioClassification
from mt2_music.music import KEY_LABELS, camelot, open_key
from mt2_music.options import DEFAULT_TRANSPOSITIONS

from .embed import MIN_CENTS, tuned_features
from .keys import answer_song, check_names_keys, key_probabilities, read_key

HOP_SECONDS = 1.0
# Log of how likely a change to one other key is, against none, from window to window. Validation pieces of the corpus
# that modulate are in the right key for 71 % of the time at -12, 72 % at -24 and 68 % at -42; those in one key for 62,
# 81 and 91 %.
CHANGE = -24.0
MIN_SOUNDING = 0.1  # share of a window; with less, it has no key


@dataclass(frozen=True)
class KeySegment:
    """A stretch of a song in one key.

    Args:
        start, end: seconds.
        key: such as "A minor"; None where the song is silent or has no key.
        confidence: mean probability of the key over the windows of the segment; 0 without a key.
    """

    start: float
    end: float
    key: str | None
    confidence: float

    @property
    def camelot(self) -> str | None:
        """The key in Camelot notation, such as "8A" for A minor; None where there is none."""
        return self.key and camelot(self.key)

    @property
    def open_key(self) -> str | None:
        """The key in Open Key notation, such as "1m" for A minor; None where there is none."""
        return self.key and open_key(self.key)


def song_keys(
    model: MT2ForAudioClassification,
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    transpositions: int = DEFAULT_TRANSPOSITIONS,
    change: float = CHANGE,
) -> list[KeySegment]:
    """Find the keys of a song over time: the likeliest sequence of keys in which a change is unlikely.

    Args:
        model: that `mt2_music.train.key` has made, in evaluation mode.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path.
        sampling_rate: of samples, in hertz; files know theirs.
        transpositions: semitones up and down to average over.
        change: log of how likely a change to one other key is against none, from one second to the next.

    Returns:
        Segments that follow one another, from 0 to the end of the song; a song without a key is one segment.

    Raises:
        ValueError: the model has other labels or no room for so many transpositions, or the audio cannot be used.
        FileNotFoundError: a path that does not exist.

    Source: a hidden Markov model of keys decoded by Viterbi's algorithm, as in Noland & Sandler 2006.
    """
    check_names_keys(model)
    pieces, cents = tuned_features(extractor, audio, sampling_rate, model.device)
    hop = round(HOP_SECONDS * extractor.frame_rate)
    song = answer_song(model, pieces, transpositions, extractor, hop)
    num_windows = song.answers.shape[1]
    starts = song.hop_seconds * np.arange(num_windows)
    probabilities = np.stack(
        [
            key_probabilities(model, dict(zip(song.shifts, of_window, strict=True))).flatten().numpy()
            for of_window in song.answers.unbind(1)
        ]
    )
    speed = 2 ** (cents / 1200) if abs(cents) >= MIN_CENTS else 1.0
    lengths = song.window_frames / extractor.frame_rate
    end = float(starts[-1] + lengths[-1]) * speed
    read = partial(read_key, model)
    tonality = song.tonality(read, read(song.means()).profile)
    if tonality is None or tonality.reason is not None:
        return [KeySegment(0.0, end, None, 0.0)]
    states = _likeliest_sequence(np.log(probabilities + 1e-6), change)
    states[song.shares < MIN_SOUNDING] = -1
    return _segments(states, probabilities, (starts + lengths / 2) * speed, end)


def _likeliest_sequence(scores: np.ndarray, change: float) -> np.ndarray:
    """Viterbi's algorithm where every change is alike: (windows, states) log probabilities to (windows,) states."""
    best = scores[0].copy()
    origin = np.zeros(scores.shape, int)
    for step in range(1, len(scores)):
        other = int(best.argmax())
        stays = best >= best[other] + change
        origin[step] = np.where(stays, np.arange(scores.shape[1]), other)
        best = np.where(stays, best, best[other] + change) + scores[step]
    states = np.zeros(len(scores), int)
    states[-1] = best.argmax()
    for step in range(len(scores) - 1, 0, -1):
        states[step - 1] = origin[step, states[step]]
    return states


def _segments(states: np.ndarray, probabilities: np.ndarray, centres: np.ndarray, end: float) -> list[KeySegment]:
    """Join windows of one state; borders lie half-way between the centres of windows."""
    firsts = [0, *(np.flatnonzero(np.diff(states)) + 1)]
    borders = [0.0, *(float(centres[first - 1] + centres[first]) / 2 for first in firsts[1:]), end]
    segments = []
    for place, (first, last) in enumerate(zip(firsts, [*firsts[1:], len(states)], strict=True)):
        state = int(states[first])
        sure = 0.0 if state < 0 else float(probabilities[first:last, state].mean())
        key = None if state < 0 else KEY_LABELS[state]
        segments.append(KeySegment(borders[place], borders[place + 1], key, sure))
    return segments
