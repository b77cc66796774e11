"""Songs to keys and key signatures, with a published model."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mt2_music.configuration_mt2 import MT2Config
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.modeling_mt2 import WINDOWS_PER_CHUNK, MT2ForAudioClassification, MT2ForPreTraining, MT2PreTrainedModel
from mt2_music.music import KEY_LABELS, SIGNATURES, camelot, open_key
from mt2_music.options import DEFAULT_TRANSPOSITIONS

from .embed import WindowWeights, tuned_features, window_batches
from .rows import Rows
from .silence import WithoutSilence
from .tonality import PitchStatistics, Tonality

STRETCH_SECONDS = 10.0  # as long as the sounds that the weights of `Tonality` were chosen on
# A song that soon changes its key has one in most of its shorter stretches, if it is long enough for several.
SHORT_STRETCH_SECONDS, MIN_SHORT_STRETCHES = 8.0, 3


@dataclass(frozen=True)
class KeyEstimate:
    """Key signature of a song and, where the model can tell, its key.

    Args:
        signature: pitch class of the major key with that signature, C = 0; None if the song has no key.
        profile: probability of each signature, (12,), index = that pitch class; sums to 1. Of a song without a key it
            means nothing.
        confidence: probability of the key, or of the signature where no key is named; 0 if the song has no key.
        key: such as "A minor"; None from a model that does not tell major from minor, and if the song has no key.
        reason: why there is none: "silent", "no pitch", "one pitch only" or "no tonal centre"; None if there is one.
        tuning_cents: how far the song is tuned above A = 440 Hz, in cents, from -50 to 50.
        tonality: what tells whether the song has a key; None of a silent one.
    """

    signature: int | None
    profile: np.ndarray = field(repr=False)
    confidence: float
    key: str | None = None
    reason: str | None = None
    tuning_cents: float = 0.0
    tonality: Tonality | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The key, or both keys with the signature, such as "C major / A minor", or "no key"."""
        return self.key or ("no key" if self.signature is None else SIGNATURES[self.signature])

    @property
    def camelot(self) -> str | None:
        """The key in Camelot notation, such as "8A" for A minor; None where no key is named."""
        return self.key and camelot(self.key)

    @property
    def open_key(self) -> str | None:
        """The key in Open Key notation, such as "1m" for A minor; None where no key is named."""
        return self.key and open_key(self.key)


def mean_profile(model: MT2ForPreTraining, input_features: Tensor, transpositions: int = 0) -> Tensor:
    """Average the key signature profiles of a song's windows, weighted with their frames that hold sound.

    Args:
        model: with an equivariant token, in evaluation mode.
        input_features: frames of one song, (T, input_size).
        transpositions: also pitch the song up and down by up to so many semitones, turn these profiles back by as
            much, and average them all; takes 2 * transpositions + 1 times as long.

    Returns:
        (12,) float32 on the CPU, in the model's own rotation.

    Raises:
        ValueError: more transpositions than the model has room for.
    """
    song = answer_song(model, [input_features.to(model.device)], transpositions)
    return _turned_back(song.means())


def _turned_back(profiles: dict[int, Tensor]) -> Tensor:
    """Turn profiles of transposed music back, and average them."""
    return torch.stack([profile.roll(-shift) for shift, profile in profiles.items()]).mean(0)


class KeyReading(NamedTuple):
    """What a model says of a song, or of a stretch of it."""

    profile: np.ndarray
    signature: int
    confidence: float
    key: str | None


@dataclass(frozen=True)
class SongAnswers:
    """What a model answers for the windows of a song, and what tells whether the song has a key.

    The windows are of the song without its long silences, if `answer_song` cut them.

    Args:
        shifts: transpositions.
        answers: profiles or logits, (shifts, windows, values).
        weights: of the windows, (windows,).
        sounding: share of the song that is not silent.
        hop_seconds: from the start of one window to that of the next.
        pitches: of all windows.
    """

    shifts: Sequence[int]
    answers: Tensor
    weights: Tensor
    sounding: float
    hop_seconds: float
    pitches: PitchStatistics | None

    def means(self, stretch: slice = slice(None)) -> dict[int, Tensor]:
        """Average over windows, of the song or of a stretch that sounds: by transposition, (values,)."""
        weights = self.weights[stretch] / self.weights[stretch].sum()
        return dict(zip(self.shifts, (self.answers[:, stretch] * weights[:, None]).sum(1), strict=True))

    def tonality(self, read: Callable[[dict[int, Tensor]], KeyReading], profile: np.ndarray) -> Tonality | None:
        """Measure the song as a whole, and stretches of it: one that modulates has a key in each, and none as a whole.

        Returns:
            The clearest: that of the whole, or of the median stretch, long or short. None of a silent song.
        """
        if not self.sounding:
            return None
        assert self.pitches is not None
        found = [self.pitches.tonality(self.weights, profile)]
        for seconds, least in ((STRETCH_SECONDS, 1), (SHORT_STRETCH_SECONDS, MIN_SHORT_STRETCHES)):
            stretches = self._of_stretches(read, seconds)
            if len(stretches) >= least:
                stretches.sort(key=lambda tonality: tonality.log_odds)
                found.append(stretches[(len(stretches) - 1) // 2])
        return max(found, key=lambda tonality: tonality.log_odds)

    def _of_stretches(self, read: Callable[[dict[int, Tensor]], KeyReading], seconds: float) -> list[Tonality]:
        """Measure stretches of a length, those that hold half as much sound as if the song sounded all the time."""
        assert self.pitches is not None
        length = math.ceil(seconds / self.hop_seconds)
        found = []
        for start in range(0, len(self.weights), length):
            stretch = slice(start, start + length)
            if self.weights[stretch].sum() * len(self.weights) >= 0.5 * length:
                found.append(self.pitches.tonality(self.weights, read(self.means(stretch)).profile, stretch))
        return found

    def estimate(self, read: Callable[[dict[int, Tensor]], KeyReading], cents: float, always: bool) -> KeyEstimate:
        """Make the estimate: the key that the model names, unless the song has none and none is asked for then."""
        reading = read(self.means())
        tonality = self.tonality(read, reading.profile)
        reason = "silent" if tonality is None else tonality.reason
        if reason is not None and not always:
            return KeyEstimate(None, reading.profile, 0.0, None, reason, cents, tonality)
        profile, signature, confidence, key = reading
        return KeyEstimate(signature, profile, confidence, key, reason, cents, tonality)


@torch.no_grad()
def answer_song(
    model: MT2ForPreTraining | MT2ForAudioClassification,
    pieces: Iterable[Tensor],
    transpositions: int,
    extractor: MT2FeatureExtractor | None = None,
) -> SongAnswers:
    """Return what a model answers for the windows of a song, in every transposition.

    Windows are encoded as the frames come, all transpositions of some at once: a song is decoded and turned into
    frames once, and what is kept of it are the answers. Long silences are left out before windows are cut: a window
    that holds one note and the silence around it says little of a key.

    Args:
        model: in evaluation mode.
        pieces: frames of the song that follow one another, each (frames, input_size), on the model's device.
        transpositions: semitones up and down.
        extractor: that made the frames; None leaves the statistics of pitches out.

    Returns:
        Profiles, or logits, float32 on the CPU.

    Raises:
        ValueError: more transpositions than the model has room for.
    """
    room = model.config.num_transposition_bins // 2
    if not 0 <= transpositions <= room:
        raise ValueError(f"transpositions must be from 0 to {room}, got {transpositions}")
    shifts = range(-transpositions, transpositions + 1)
    length = model.config.max_frames
    answers, loudness = Rows(), WindowWeights(model.config)
    pitches = None if extractor is None else PitchStatistics(extractor, model.config)
    sound = WithoutSilence(pieces, model.config)
    for windows, mask in window_batches(sound, length, length, max(1, WINDOWS_PER_CHUNK // len(shifts))):
        crops = torch.tensor(shifts, device=windows.device).repeat_interleave(len(windows))
        batch = _answers(model, windows.repeat(len(shifts), 1, 1), mask.repeat(len(shifts), 1), crops)
        answers.add(batch.unflatten(0, (len(shifts), len(windows))).transpose(0, 1))
        loudness.add(windows, mask)
        if pitches is not None:
            pitches.add(windows, mask)
    weights, sounding = loudness.weights()
    seconds = length / model.config.frame_rate
    values = answers.values.transpose(0, 1)
    return SongAnswers(shifts, values, weights, sounding * sound.share, seconds, pitches)


def _answers(
    model: MT2ForPreTraining | MT2ForAudioClassification, windows: Tensor, mask: Tensor, transposition: Tensor
) -> Tensor:
    if isinstance(model, MT2ForAudioClassification):
        # The layer is linear: the mean of the logits of windows is what it makes of their mean, the song's embedding.
        # Of a model that also says something of frames, without that.
        name_keys = partial(MT2ForAudioClassification.forward, model)
        return name_keys(windows, attention_mask=mask, transposition=transposition).logits
    token = model.mt2(windows, attention_mask=mask, transposition=transposition).equivariant_embeds
    return model.key_head.profile(model.key_head(token))


def estimate_key(
    model: MT2ForPreTraining,
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    transpositions: int = 0,
    always: bool = False,
) -> KeyEstimate:
    """Estimate the key signature of one song, without any training on keys.

    Args:
        model: calibrated pre-training model, in evaluation mode.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path.
        sampling_rate: of samples, in hertz; files know theirs.
        transpositions: as for `mean_profile`: steadier, and slower.
        always: name the likeliest key of a song that has none, too.

    Raises:
        ValueError: the model has no equivariant token or no calibration, or the audio cannot be used.
        FileNotFoundError: a path that does not exist.
    """
    calibration = key_calibration(model)
    pieces, cents = tuned_features(extractor, audio, sampling_rate, model.device)
    song = answer_song(model, pieces, transpositions, extractor)

    def read(profiles: dict[int, Tensor]) -> KeyReading:
        profile = rotate_to_c(_turned_back(profiles), calibration).numpy()
        return KeyReading(profile, int(profile.argmax()), float(profile.max()), None)

    return song.estimate(read, cents, always)


def classify_key(
    model: MT2ForAudioClassification,
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    transpositions: int = 0,
    always: bool = False,
) -> KeyEstimate:
    """Name the key of one song, major or minor, with a model that was taught the 24 keys.

    The signature is the one whose two keys are likeliest together, the key the likelier of these two.

    Args:
        model: that `mt2_music.train.key` has made, in evaluation mode.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path.
        sampling_rate: of samples, in hertz; files know theirs.
        transpositions: also pitch the song up and down by up to so many semitones, transpose the probabilities back,
            and average them all; takes 2 * transpositions + 1 times as long.

    Raises:
        ValueError: the model has other labels or no room for so many transpositions, or the audio cannot be used.
        FileNotFoundError: a path that does not exist.
    """
    check_names_keys(model)
    pieces, cents = tuned_features(extractor, audio, sampling_rate, model.device)
    read = partial(read_key, model)
    return answer_song(model, pieces, transpositions, extractor).estimate(read, cents, always)


def key_probabilities(model: MT2ForAudioClassification, logits: dict[int, Tensor]) -> Tensor:
    """Turn logits of transposed music back: the mean probabilities of major and minor keys by pitch class, (2, 12).

    Raises:
        ValueError: the model has other labels.
    """
    if not knows_keys(model.config):
        raise ValueError(f"this model does not name keys but {list(model.config.label2id or ())[:3]}, ...")
    numbers: Any = model.config.label2id
    places = [numbers[label] for label in KEY_LABELS]  # major keys by pitch class, then minor ones
    turned = [values.softmax(-1)[places].unflatten(0, (2, 12)).roll(-shift, 1) for shift, values in logits.items()]
    return torch.stack(turned).mean(0)


def read_key(model: MT2ForAudioClassification, logits: dict[int, Tensor]) -> KeyReading:
    """Name the likelier key of the likeliest signature; as `key_probabilities`, whose errors it raises."""
    probabilities = key_probabilities(model, logits)
    major, minor = probabilities[0], probabilities[1].roll(3)  # by signature: A minor has that of C major
    profile = (major + minor).numpy()
    best = int(profile.argmax())
    place = best if major[best] >= minor[best] else 12 + (best + 9) % 12
    return KeyReading(profile, best, float(max(major[best], minor[best])), KEY_LABELS[place])


def knows_keys(config: MT2Config) -> bool:
    """Tell whether the labels of a model are the 24 keys, as `KEY_LABELS` spells them."""
    return set(config.label2id or ()) == set(KEY_LABELS)


def rotate_to_c(profile: Tensor, calibration: float) -> Tensor:
    """Turn a model's profile so that index i is the major key on pitch class i, C = 0.

    The loss leaves the rotation around the circle of fifths open, and not only by whole steps: a profile that always
    lies between two keys satisfies it nearly as well. So the rotation is a real number, and a bin between two places
    is shared between them in proportion.

    Args:
        profile: (12,), as `MT2ForPreTraining` gives it.
        calibration: steps of a fifth from its index 0 to C major, from 0 to below 12.

    Returns:
        (12,), with the same sum and no negative values.
    """
    fifths = 7 * torch.arange(12) % 12  # index of each place on the circle, and, as 7 * 7 = 48 + 1, also the inverse
    whole = int(calibration)
    part = calibration - whole
    by_fifths = profile[fifths]
    turned = (1 - part) * by_fifths.roll(-whole) + part * by_fifths.roll(-whole - 1)
    return turned[fifths]


def key_calibration(model: MT2ForPreTraining) -> float:
    """Return how many fifths lie between profile index 0 and C major.

    Raises:
        ValueError: the model has no equivariant token, or was never calibrated.
    """
    if "equivariant" not in model.config.class_tokens:
        raise ValueError("this model has no equivariant token and knows no keys")
    if model.config.key_calibration is None:
        raise ValueError(
            "this model has no key_calibration: publish it with `python -m mt2_music.train.publish`, which finds "
            "where on its profile C major lies"
        )
    return model.config.key_calibration


def song_key(
    model: MT2PreTrainedModel,
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    transpositions: int | None = None,
    always: bool = False,
) -> KeyEstimate:
    """Name the key of one song with what the model has: its layer of 24 keys, or its key signature profile.

    Args, Raises: as of `classify_key` and `estimate_key`; transpositions are `DEFAULT_TRANSPOSITIONS` if not given, or
        as many as the model has room for.
    """
    check_names_keys(model)
    if transpositions is None:
        transpositions = min(DEFAULT_TRANSPOSITIONS, model.config.num_transposition_bins // 2)
    if isinstance(model, MT2ForAudioClassification):
        return classify_key(model, extractor, audio, sampling_rate, transpositions, always)
    assert isinstance(model, MT2ForPreTraining)
    return estimate_key(model, extractor, audio, sampling_rate, transpositions, always)


def check_names_keys(model: MT2PreTrainedModel) -> None:
    """Refuse a model that has neither a layer of 24 keys nor a calibrated key signature profile.

    Raises:
        ValueError: it has neither.
    """
    if isinstance(model, MT2ForPreTraining):
        key_calibration(model)
    elif not (isinstance(model, MT2ForAudioClassification) and knows_keys(model.config)):
        labels = list(model.config.label2id or ())[:3]
        raise ValueError(f"this model names no keys; its labels are {', '.join(map(str, labels))}, ...")
