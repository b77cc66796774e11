"""What a song is made of: its key, keys over time, chords, beats and tempo, from one model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import (
    WINDOWS_PER_CHUNK,
    MT2ForMusicAnalysis,
    MT2PreTrainedModel,
    frame_levels,
    sounding_frames,
)
from mt2_music.music import KEY_LABELS, NO_CHORD, SEVENTH_LABELS, TRIAD_LABELS, triad_of
from mt2_music.options import DEFAULT_TRANSPOSITIONS

from .decode import find_bars, find_beats, likeliest_sequence, runs
from .embed import MIN_CENTS, tuned_features, window_batches
from .keys import KeyEstimate, classify_key
from .rows import Rows
from .timeline import Beats, ChordSegment, KeySegment, Timeline
from .tonality import cqt_magnitudes, sum_octaves

TEMPI = tuple(float(tempo) for tempo in np.geomspace(40, 215, 36))  # beats per minute, 5 % apart
# What the head says of every frame, and in which order.
GROUPS: dict[str, tuple[str, ...]] = {
    "chord": TRIAD_LABELS,
    "seventh": SEVENTH_LABELS,
    "key": KEY_LABELS,
    "tempo": tuple(f"{tempo:.1f}" for tempo in TEMPI),
    "beat": ("", "down"),
}
# Chords with their sevenths, by the triad in them, as places among the labels.
SEVENTHS_OF = {
    triad: [place for place, label in enumerate(SEVENTH_LABELS) if triad_of(label) == triad] for triad in TRIAD_LABELS
}
FRAME_LABELS = tuple(f"{group} {label}".strip() for group, labels in GROUPS.items() for label in labels)

# Logs of how likely a change to one other chord or key is, from frame to frame; chosen on validation pieces, see
# benchmarks/songs/decoders.md.
CHORD_CHANGE, KEY_CHANGE = -8.0, -100.0
PITCHLESS = ("silent", "no pitch")  # reasons why a song has no key that leave it no chord either
FRAMES_PER_CHROMA = 8  # a quarter of a second
MIN_SILENCE = 0.5  # seconds without sound that end a key
# Mean probability of its beats below which a song has none, and one without pitch: of 44 validation pieces none lies
# below the first, and noise of eight colours below the second.
MIN_BEAT, MIN_BEAT_OF_NOISE = 0.2, 0.4


@dataclass(frozen=True)
class SongAnalysis:
    """What a song is made of; times are in seconds.

    Args:
        key: of the song as a whole; its `key` is None where it has none, and `reason` says why.
        keys: over time.
        chords: over time; "N" where there is none.
        beats: with their places in the bars.
        seconds: duration of the song.
        chroma: how strong each pitch class is, C first, in stretches of equal length, (stretches, 12); each has sum 1,
            or 0 in silence.
    """

    key: KeyEstimate
    keys: Timeline[KeySegment]
    chords: Timeline[ChordSegment]
    beats: Beats
    seconds: float
    chroma: np.ndarray = field(repr=False)

    @property
    def tempo(self) -> float | None:
        """Beats per minute; None without beats."""
        return self.beats.tempo

    @property
    def metre(self) -> int | None:
        """Beats in most bars; None without a whole bar."""
        return self.beats.metre

    @property
    def tuning_cents(self) -> float:
        """How far the song is tuned above A = 440 Hz, in cents, from -50 to 50."""
        return self.key.tuning_cents

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers, text and lists, as `mt2 analyze` writes it to .json files."""
        key = {"key": self.key.key, "reason": self.key.reason, "confidence": round(self.key.confidence, 4)}
        return {
            "seconds": round(self.seconds, 3),
            **key,
            "tuning_cents": round(self.tuning_cents, 1),
            "tempo": None if self.tempo is None else round(self.tempo, 2),
            "metre": self.metre,
            "keys": [_rounded(one, {"key": one.key}) for one in self.keys],
            "chords": [_rounded(one, {"chord": one.label, "seventh": one.seventh}) for one in self.chords],
            "beats": [
                {"time": round(float(time), 3), "position": int(place)}
                for time, place in zip(self.beats.times, self.beats.positions, strict=True)
            ],
        }

    def to_jams(self) -> Any:
        """Return the analysis as JAMS, the format of annotations of Humphrey et al. 2014.

        Raises:
            ImportError: the package jams is not installed.
        """
        import jams

        file = jams.JAMS()
        file.file_metadata.duration = self.seconds
        spans: list[tuple[str, Iterable[tuple[float, float, Any, float | None]]]] = [
            ("key_mode", [(k.start, k.end - k.start, _jams_key(k.key), k.confidence) for k in self.keys]),
            ("chord", [(c.start, c.end - c.start, c.seventh, c.confidence) for c in self.chords]),
            ("beat", [(t, 0.0, int(p), None) for t, p in zip(self.beats.times, self.beats.positions, strict=True)]),
            ("tempo", [] if self.tempo is None else [(0.0, self.seconds, self.tempo, 1.0)]),
        ]
        for namespace, rows in spans:
            annotation = jams.Annotation(namespace=namespace, time=0, duration=self.seconds)
            annotation.annotation_metadata.annotation_tools = "mt2-music"
            for time, duration, value, confidence in rows:
                annotation.append(time=time, duration=duration, value=value, confidence=confidence)
            file.annotations.append(annotation)
        return file


def _rounded(segment: Any, values: dict[str, Any]) -> dict[str, Any]:
    times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
    return {**times, **values, "confidence": round(segment.confidence, 4)}


def _jams_key(key: str | None) -> str:
    return NO_CHORD if key is None else key.replace(" ", ":")


@dataclass(frozen=True)
class _Frames:
    """Log probabilities of all frames by group, (T, C) each, which of them hold sound, and the song's chroma."""

    groups: dict[str, np.ndarray]
    sounding: np.ndarray
    rate: float
    chroma: np.ndarray

    @property
    def seconds(self) -> float:
        # The last frame is centred on the song's end, or just before.
        return max(1, len(self.sounding) - 1) / self.rate


def check_analyses(model: MT2PreTrainedModel) -> None:
    """Refuse a model that says nothing of chords and beats.

    Raises:
        ValueError: it has no such head.
    """
    if not isinstance(model, MT2ForMusicAnalysis) or tuple(model.config.frame_labels) != FRAME_LABELS:
        raise ValueError("this model finds no chords and beats: choose one that does, such as mt2-small-analysis")


def analyse_song(
    model: MT2ForMusicAnalysis, extractor: MT2FeatureExtractor, audio: Any, sampling_rate: int | None = None
) -> SongAnalysis:
    """Find the key, keys over time, chords and beats of one song of any length, in bounded memory.

    Args:
        model: that `mt2_music.train.analysis` has made, in evaluation mode.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path.
        sampling_rate: of samples, in hertz; files know theirs.

    Raises:
        ValueError: the model has other outputs, or the audio cannot be used.
        FileNotFoundError: a path that does not exist.
    """
    check_analyses(model)
    if hasattr(audio, "read"):
        audio = audio.read()  # it is decoded twice
    key = classify_key(model, extractor, audio, sampling_rate, DEFAULT_TRANSPOSITIONS)
    pieces, cents = tuned_features(extractor, audio, sampling_rate, model.device)
    frames = _read_frames(model, extractor, pieces)
    # A song that is tuned too high was read more slowly, and its frames last less long than they seem to.
    speed = 2 ** (-cents / 1200) if abs(cents) >= MIN_CENTS else 1.0
    seconds = frames.seconds * speed
    pitched = key.reason not in PITCHLESS
    return SongAnalysis(
        key=key,
        keys=_keys(frames, speed) if key.reason is None else Timeline([KeySegment(0.0, seconds, None, 0.0)]),
        chords=_chords(frames, speed) if pitched else Timeline([ChordSegment(0.0, seconds, NO_CHORD, NO_CHORD, 1.0)]),
        beats=_beats(frames, speed, MIN_BEAT if pitched else MIN_BEAT_OF_NOISE),
        seconds=seconds,
        chroma=frames.chroma,
    )


@torch.no_grad()
def _read_frames(model: MT2ForMusicAnalysis, extractor: MT2FeatureExtractor, pieces: Iterable[Tensor]) -> _Frames:
    config = model.config
    levels, logits, chroma = Rows(), Rows(torch.float16), Rows()

    def tokens() -> Iterator[Tensor]:
        for features, mask in window_batches(pieces, config.max_frames, config.max_frames, WINDOWS_PER_CHUNK // 4):
            levels.add(frame_levels(features, config)[mask])
            chroma.add(_mean_chroma(features[mask], extractor))
            yield model.mt2(features, attention_mask=mask).last_hidden_state[mask]

    for part in _classified(model, tokens()):
        logits.add(torch.cat([_log_probabilities(group) for group in split_groups(part.float()).values()], 1))
    return _Frames(
        {name: values.float().numpy() for name, values in split_groups(logits.values).items()},
        sounding_frames(levels.values[None], config)[0].numpy(),
        config.frame_rate,
        chroma.values.numpy(),
    )


def _classified(model: MT2ForMusicAnalysis, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Classify frame tokens that come in pieces (T, D) as if they came at once, in bounded memory."""
    reach = model.analysis_head.reach
    kept: Tensor | None = None
    done = 0  # frames of `kept` that were classified
    for piece in pieces:
        kept = piece if kept is None else torch.cat([kept, piece])
        ready = len(kept) - reach
        if ready > done:
            yield model.analysis_head(kept[None])[0, done:ready]
            passed = max(0, ready - reach)
            kept, done = kept[passed:], ready - passed
    if kept is not None:
        yield model.analysis_head(kept[None])[0, done:]


def _mean_chroma(features: Tensor, extractor: MT2FeatureExtractor) -> Tensor:
    """Return the chroma of every eight frames, (T, feature_size) to (T / 8, 12); each has sum 1, or 0 in silence."""
    magnitudes = cqt_magnitudes(features[:, : extractor.num_cqt_bins].float(), extractor)
    padding = -len(magnitudes) % FRAMES_PER_CHROMA
    padded = torch.nn.functional.pad(magnitudes, (0, 0, 0, padding)).unflatten(0, (-1, FRAMES_PER_CHROMA))
    chroma = sum_octaves(padded.mean(1), extractor)
    return chroma / chroma.sum(1, keepdim=True).clamp(min=1e-9)


def split_groups(logits: Tensor) -> dict[str, Tensor]:
    """Split what the head says of frames, (..., C), into its groups, by their names in `GROUPS`."""
    sizes = [len(labels) for labels in GROUPS.values()]
    return dict(zip(GROUPS, logits.split(sizes, -1), strict=True))


def _log_probabilities(logits: Tensor) -> Tensor:
    if logits.shape[1] == len(GROUPS["beat"]):  # these two do not exclude each other
        return torch.nn.functional.logsigmoid(logits)
    return logits.log_softmax(1)


def _chords(frames: _Frames, speed: float) -> Timeline[ChordSegment]:
    scores = frames.groups["chord"].copy()
    none = TRIAD_LABELS.index(NO_CHORD)
    scores[~frames.sounding] = np.where(np.arange(len(TRIAD_LABELS)) == none, 0.0, -20.0)
    segments = []
    for first, last in runs(classes := likeliest_sequence(scores, CHORD_CHANGE)):
        label = TRIAD_LABELS[classes[first]]
        mean = frames.groups["seventh"][first:last].mean(0)
        seventh = SEVENTH_LABELS[max(SEVENTHS_OF[label], key=lambda place: mean[place])]
        sure = float(np.exp(scores[first:last, classes[first]]).mean())
        start, end = _times(frames, speed, first, last)
        segments.append(ChordSegment(start, end, label, seventh, sure))
    return Timeline(segments)


def _keys(frames: _Frames, speed: float) -> Timeline[KeySegment]:
    scores = frames.groups["key"]
    classes = likeliest_sequence(scores, KEY_CHANGE)
    for first, last in runs(frames.sounding):
        if not frames.sounding[first] and last - first > MIN_SILENCE * frames.rate:
            classes[first:last] = -1
    segments = []
    for first, last in runs(classes):
        place = int(classes[first])
        sure = 0.0 if place < 0 else float(np.exp(scores[first:last, place]).mean())
        start, end = _times(frames, speed, first, last)
        segments.append(KeySegment(start, end, None if place < 0 else KEY_LABELS[place], sure))
    return Timeline(segments)


def _times(frames: _Frames, speed: float, first: int, last: int) -> tuple[float, float]:
    """Return start and end of a run: half-way between the centres of frames, and the song's own ends."""
    start = max(0.0, first - 0.5) / frames.rate * speed
    is_last = last == len(frames.sounding)
    return start, frames.seconds * speed if is_last else (last - 0.5) / frames.rate * speed


def _beats(frames: _Frames, speed: float, min_beat: float = MIN_BEAT) -> Beats:
    probabilities = np.exp(frames.groups["beat"])
    probabilities[~frames.sounding] = 0.0
    times = find_beats(probabilities[:, 0], frames.rate, np.array(TEMPI), frames.groups["tempo"])
    nearest = np.clip((times * frames.rate).round().astype(int), 0, len(probabilities) - 1)
    sure = probabilities[nearest, 0]
    if not len(times) or sure.mean() < min_beat:
        return Beats(np.zeros(0), np.zeros(0, int), np.zeros(0))
    positions = find_bars(probabilities[:, 1], times, frames.rate)
    return Beats(times * speed, positions, sure)
