"""Waveform to MT2's input: one constant-Q and one mel spectrogram frame every `hop_length` samples.

Frame t is centred on sample `hop_length * t` and sees its own analysis windows, with zeros beyond the edges, and
nothing else: no per-clip maximum, mean or reflection. So a clip alone, in a padded batch, or inside a longer song
gives the same frames. The front end of the published weights, which depends on all four seconds around a frame, is
there for these weights alone: `front_end="published"`.

Shapes: B clips, N samples, T frames, K constant-Q bins, M mel bands, W windows of PUBLISHED_FRAMES.
"""

import importlib
import io
import os
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

MAX_CHANNELS = 64  # more are no channels, and fewer samples are no clip
MIN_SHARE_LEFT = 0.25  # of the power that channels without anything in common leave in their mean; below, they cancel
HUM_SECONDS = 1 / 300  # means over so many are taken off before that is asked: little is left of what is below 100 Hz
RATES = (100, 1_000_000)  # hertz; at others nothing was ever recorded that one can hear
MAX_PATH_BYTES = 4096  # longer is no path, and shorter no sound file that is worth a word
FRAMES_PER_CHUNK = 8192  # bounds the memory of the front end at about 150 MB whatever the length
FRAMES_PER_CHUNK_ON_GPU = 65536  # there small chunks cost more than their arithmetic

FRONT_ENDS = ("local", "published")
PUBLISHED_FRAMES = 126  # of 64,000 samples, which are computed together
PUBLISHED_CQT_RANGE, PUBLISHED_MEL_RANGE = 80.0, 100.0  # dB below the maximum of a window

_IMPORTED_IN = os.getpid()

# What transformers itself stores in preprocessor_config.json beside our own settings.
_LIBRARY_SETTINGS = {"feature_extractor_type", "auto_map", "processor_class", "return_attention_mask", "padding_side"}


def _require(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{purpose} needs the package {package}: run `pip install {package}`") from error


def read_file(file: Any) -> tuple[np.ndarray, int]:
    """Decode a sound file with libsndfile.

    Args:
        file: path, or binary file object, of wav, flac, ogg or mp3 audio.

    Returns:
        Mono float32 samples of shape (samples,), and their sampling rate in hertz.

    Raises:
        ValueError: it cannot be read, or breaks off; the message names it.
        FileNotFoundError: there is no such file.
        ImportError: soundfile is not installed.
    """
    soundfile = _require("soundfile", "reading sound files")
    if isinstance(file, str | os.PathLike):
        if not os.path.exists(file):
            raise FileNotFoundError(f"no such file: {os.fspath(file)}")
        if not os.path.isfile(file):
            raise ValueError(f"{os.fspath(file)} is not a file")
        with open(file, "rb") as opened:  # given a path, libsndfile looks at its neighbours too
            return read_file(opened)
    name = getattr(file, "name", "audio bytes")
    try:
        with soundfile.SoundFile(file) as sound:
            samples = sound.read(dtype="float32", always_2d=True)
            if len(samples) < sound.frames:
                raise ValueError(f"{name} breaks off: {len(samples)} of {sound.frames} samples are there")
            return mix_down(samples, sound.samplerate), sound.samplerate
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless, such as .raw
        raise ValueError(f"cannot read {name} as audio: {error}") from error


class AudioWarning(UserWarning):
    """Something about a sound that is used all the same, for people to know."""


CACHED_SAMPLES = 1 << 14  # of every channel, that are compared at a time: so many stay in the cache of a processor
CANCELLED = "the channels cancel each other, as when one is inverted: the loudest one is used"


def mix_down(samples: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Mix the channels of decoded samples, (samples, channels), to one: (samples,).

    That is their mean. Where the music nearly cancels in it, because a channel is inverted, it is the loudest channel,
    and a warning says so: see `power_left`.
    """
    if samples.shape[1] > 1 and len(samples):
        share, loudest = power_left(samples, sampling_rate)
        if share < MIN_SHARE_LEFT:
            warnings.warn(CANCELLED, AudioWarning, stacklevel=2)
            return samples[:, loudest]
    return mean_of_channels(samples)


def mean_of_channels(samples: np.ndarray) -> np.ndarray:
    """Average channels, (samples, channels) to (samples,): along so short an axis numpy takes ten times as long."""
    num_channels = samples.shape[1]
    if not 1 < num_channels <= 8:
        return samples.mean(axis=1)
    total = samples[:, 0] + samples[:, 1]
    for channel in range(2, num_channels):
        total += samples[:, channel]
    total /= num_channels
    return total


def power_left(samples: np.ndarray, sampling_rate: float) -> tuple[float, int]:
    """Tell how much of the power of channels, (samples, channels), is left in their mean.

    What lies below the music does not count: an offset or a hum that two channels share would hide that the music in
    them cancels.

    Returns:
        1 for channels that have nothing in common, more if they agree, below `MIN_SHARE_LEFT` if they cancel each
        other; and which channel is the loudest.
    """
    width = round(sampling_rate * HUM_SECONDS)
    if not 1 < width < len(samples):
        width = 0
    powers, left = np.zeros(samples.shape[1]), 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are refused elsewhere
        for start in range(0, len(samples) - width, CACHED_SAMPLES):
            channels = np.ascontiguousarray(samples[start : start + CACHED_SAMPLES + width].T, np.float64)
            if width:
                sums = np.cumsum(channels, axis=1)
                around = (sums[:, width:] - sums[:, :-width]) / width  # mean of the samples around each
                channels = channels[:, width // 2 + 1 :][:, : around.shape[1]] - around
            powers += np.einsum("cn,cn->c", channels, channels)
            together = channels.sum(axis=0)
            left += float(together @ together)
    power = float(powers.sum())
    return left / power if power else 1.0, int(powers.argmax())


def resample(waveform: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample a mono float32 waveform of shape (samples,) with soxr's high quality setting."""
    if from_rate == to_rate:
        return waveform
    soxr = _require("soxr", f"resampling from {from_rate} to {to_rate} Hz")
    resampled = soxr.resample(waveform, from_rate, to_rate, quality="HQ")
    return resampled if len(resampled) else np.zeros(1, np.float32)


def to_mono(audio: np.ndarray, sampling_rate: float, channel_axis: int = 0) -> np.ndarray:
    """Bring samples of any usual type to one float32 channel with full scale at 1.

    Args:
        audio: (samples,), or with channels, which are averaged; float, or integers of 8 (unsigned), 16 or 32 bits.
        sampling_rate: in hertz.
        channel_axis: which of two axes holds the channels.

    Returns:
        float32 of shape (samples,).

    Raises:
        ValueError: empty, NaN or infinite samples, an unknown sample type, or more than two axes.
    """
    if audio.size == 0:
        raise ValueError("the audio is empty")
    if audio.dtype == np.uint8:
        audio = (audio.astype(np.float32) - 128) / 128
    elif audio.dtype in (np.int16, np.int32):
        audio = audio.astype(np.float32) / -float(np.iinfo(audio.dtype).min)
    elif not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"samples of type {audio.dtype} are not audio: expected float, int16, int32 or uint8")
    audio = audio.astype(np.float32)
    if audio.ndim == 2:
        audio = mix_down(np.moveaxis(audio, channel_axis, 1), sampling_rate)
    elif audio.ndim != 1:
        raise ValueError(f"a clip has one axis, or a second one for channels; got {audio.ndim} axes, {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("the audio contains NaN or infinite samples")
    return audio


def as_clips(audio: Any, channel_axis: int | None = None) -> list[Any] | None:
    """Return the clips of a list, or of an array of two axes; or None where `audio` is one clip.

    Args:
        audio: as for `MT2FeatureExtractor`.
        channel_axis: which axis of an array holds channels; it is one clip then.

    Raises:
        ValueError: an array that would be a batch of clips shorter than any, as those of samples by channels are.
    """
    if isinstance(audio, np.ndarray | Tensor):
        if audio.ndim != 2 or channel_axis is not None:
            return None
        if _has_channels_last(tuple(audio.shape)):
            raise ValueError(_two_axes(tuple(audio.shape)))
        return list(audio)
    if not isinstance(audio, Sequence) or isinstance(audio, str | bytes | bytearray | memoryview):
        return None
    kinds = set(map(type, audio))  # a list of samples is long
    return None if kinds and all(issubclass(kind, Real) for kind in kinds) else list(audio)


def open_bytes(data: bytes | bytearray | memoryview) -> io.BytesIO:
    """Make a file of the bytes of a sound file.

    Raises:
        ValueError: they are no sound file, but the path of one.
    """
    data = bytes(data)
    if len(data) < MAX_PATH_BYTES and b"\0" not in data and os.path.isfile(data):
        raise ValueError(f"{data!r:.200} is the path of a file, as bytes: give it as text, {os.fsdecode(data)!r:.200}")
    return io.BytesIO(data)


def _has_channels_last(shape: tuple[int, ...]) -> bool:
    return shape[0] > shape[1] and shape[1] <= MAX_CHANNELS


def _two_axes(shape: tuple[int, ...]) -> str:
    last = _has_channels_last(shape)
    count, samples = (shape[1], "samples.T") if last else (shape[0], "samples")
    return (
        f"an array of shape {shape} is {shape[0]} clips of {shape[1]} samples, as in every transformers feature "
        f'extractor; one clip of {count} channels is {{"array": {samples}, "sampling_rate": rate}}, or, for the '
        f"feature extractor, the array with channel_axis={int(last)}"
    )


def _single_clip(samples: np.ndarray, channel_axis: int | None) -> tuple[np.ndarray, int]:
    """Return one clip and which of its axes holds the channels, if it has two.

    Raises:
        ValueError: which axis it is, is not known, or it cannot be the one that was named.
    """
    if samples.ndim != 2:
        return samples, 0
    if channel_axis is None:
        if 1 not in samples.shape:
            raise ValueError(f"one clip is expected: {_two_axes(samples.shape)}")
        return samples.reshape(-1), 0
    if not -2 <= channel_axis <= 1:
        raise ValueError(f"channel_axis must be 0 or 1, got {channel_axis}")
    axis = channel_axis % 2
    if samples.shape[axis] > MAX_CHANNELS:
        advice = "give its transpose" if samples.shape[1 - axis] <= MAX_CHANNELS else "several clips are a list"
        raise ValueError(f"a clip of shape {samples.shape} would have {samples.shape[axis]} channels: {advice}")
    return samples, axis


def cqt_kernels(
    sampling_rate: int, fmin_hz: float, num_bins: int, bins_per_octave: int, hop_length: int
) -> list[Tensor]:
    """Hann-windowed complex tones, cut into blocks of one hop, for a constant-Q transform by matrix products.

    A kernel's weights sum to 1 in magnitude, so a sine of amplitude a answers a / 2 in its bin at any pitch.

    Returns:
        One matrix per hop-long block of the longest kernel, first to last, each (hop_length, 2 * bins it reaches):
        real parts then imaginary parts of the lowest bins, the only ones long enough to reach an outer block.

    Source: Brown & Puckette 1992; bandwidths as in librosa's `filters.wavelet_lengths` with gamma 0. The cut into
    blocks is ours: the sum over blocks equals the product in the frequency domain (Parseval) and needs no FFT.
    """
    frequencies = fmin_hz * 2.0 ** (np.arange(num_bins) / bins_per_octave)
    step = 2.0 ** (2 / bins_per_octave)
    lengths = (step + 1) / (step - 1) * sampling_rate / frequencies
    num_half_blocks = int(np.ceil(lengths[0] / 2 / hop_length))
    offsets = np.arange(-num_half_blocks * hop_length, num_half_blocks * hop_length)
    phase = offsets / lengths[:, None]
    window = np.where(np.abs(phase) < 0.5, 1 + np.cos(2 * np.pi * phase), 0.0)
    window /= window.sum(axis=1, keepdims=True)
    kernels = window * np.exp(-2j * np.pi * frequencies[:, None] * offsets / sampling_rate)  # (K, samples)
    blocks = []
    for block in np.split(kernels, 2 * num_half_blocks, axis=1):
        reached = int(np.count_nonzero(np.abs(block).sum(axis=1)))
        block = block[:reached].T
        blocks.append(torch.from_numpy(np.concatenate([block.real, block.imag], axis=1)).float())
    return blocks


def octave_kernels(sampling_rate: int, fmin_hz: float, num_bins: int, bins_per_octave: int) -> list[Tensor]:
    """Hann-windowed complex tones of one octave, for a constant-Q transform that halves the rate for every octave.

    Returns:
        Kernels of the highest octave, which serve all octaves, real then imaginary parts: (2 * bins_per_octave, 1,
        samples); the low-pass that comes before the rate is halved, (1, 1, 256); and the factor on every bin, (K, 1).

    Source: Schoerkhuber & Klapuri 2010, with the rounding of lengths and the filter of nnAudio 0.3's `VQT` with gamma
    0, which the published weights were trained behind.
    """
    frequencies = fmin_hz * 2.0 ** (np.arange(num_bins) / bins_per_octave)
    lengths = np.ceil(sampling_rate / frequencies / (2 ** (1 / bins_per_octave) - 1))
    size = 2 ** int(np.ceil(np.log2(lengths[-bins_per_octave])))
    kernels = np.zeros((bins_per_octave, size), complex)
    for kernel, frequency, length in zip(
        kernels, frequencies[-bins_per_octave:], lengths[-bins_per_octave:], strict=True
    ):
        window = 1 - np.cos(2 * np.pi * np.arange(length) / length)
        offsets = np.arange(int(length)) - (int(length) + 1) // 2
        tone = window / window.sum() * np.exp(2j * np.pi * frequency * offsets / sampling_rate)
        kernel[size // 2 + offsets] = tone
    grid = np.linspace(0, 1, 257)  # up to half the rate
    gain = np.interp(grid, [0, 0.5 / 1.001, 0.5 * 1.001, 1], [1, 1, 0, 0])
    low_pass = np.fft.irfft(gain * np.exp(-0.5j * 255 * np.pi * grid))[:256] * np.hamming(256)
    parts = (np.concatenate([kernels.real, kernels.imag])[:, None], low_pass[None, None], np.sqrt(lengths)[:, None])
    return [torch.from_numpy(part).float() for part in parts]


def mel_filters(
    sampling_rate: int, n_fft: int, num_bands: int, fmin_hz: float, fmax_hz: float, equal_area: bool = True
) -> Tensor:
    """Triangular filters on Slaney's mel scale, of equal area or of equal height, (n_fft // 2 + 1, num_bands).

    Source: Slaney, Auditory Toolbox, 1998: 3 mel per 200 Hz up to 1 kHz, then 27 mel per factor of 6.4.
    """
    mel_per_hz, knee_hz, log_step = 3 / 200, 1000.0, np.log(6.4) / 27
    knee_mel = knee_hz * mel_per_hz

    def hz_to_mel(hz: float) -> float:
        return hz * mel_per_hz if hz < knee_hz else knee_mel + np.log(hz / knee_hz) / log_step

    mels = np.linspace(hz_to_mel(fmin_hz), hz_to_mel(fmax_hz), num_bands + 2)
    edges = np.where(mels < knee_mel, mels / mel_per_hz, knee_hz * np.exp(log_step * (mels - knee_mel)))
    bins_hz = np.linspace(0, sampling_rate / 2, n_fft // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clip(min=0)
    return torch.from_numpy(triangles * 2 / (high - low) if equal_area else triangles).float()


class MT2FeatureExtractor(SequenceFeatureExtractor):
    """Turns audio of any rate, type and channel layout into MT2's spectrogram frames.

    Args:
        sampling_rate: rate in hertz at which the frames are computed; other audio is resampled to it.
        hop_length: samples from one frame to the next.
        cqt_fmin_hz: centre of the lowest constant-Q bin; A0 by default.
        num_cqt_bins: bins of the transform: the ones the model sees plus its room for transposition.
        bins_per_octave: constant-Q bins in an octave.
        cqt_scale: "power" raises the magnitude to `cqt_power`; "decibel" gives 1 + dB / 80, never below 0.
        cqt_power: exponent of the magnitude. A chroma of decibels carries almost no key.
        num_mel_bins: mel bands.
        n_fft: samples in the window of the mel spectrogram.
        mel_fmin_hz, mel_fmax_hz: lower edge of the lowest and upper edge of the highest band; by default up to 8000
            Hz, and up to 11025 Hz in the published front end, whose highest bands are empty.
        mel_floor_db, mel_range_db: power in dB that becomes 0, and the dB from there to 1. An absolute floor.
        front_end: "local" as above; "published" as the authors of MT2 compute the input of their weights, for a window
            of `PUBLISHED_FRAMES` frames at once: 1 + dB / 80 of the constant-Q magnitudes and plain dB of the mel
            power, neither further than 80 and 100 dB below the window's maximum, the sound reflected at its edges.
            Windows follow one another without a gap between their frames, so that time runs as ever: every window
            leaves out the 512 samples from its last frame on. The last one is filled up with zeros. The settings of
            scale above are not used.
        num_vqt_bins: of the published front end, if its transform has more bins than are returned, the lowest ones:
            their number decides at which rates octaves are computed.

    Raises:
        ValueError: a setting that makes no sense, such as a bin above half the sampling rate.
        TypeError: an unknown setting.

    Source: Kong et al. 2025 (arXiv:2507.12996) and its relatives for rate, hop and bins; power scale, absolute floor,
    zero padding and a mel range that ends at half the sampling rate are ours. The published front end: STONE (Kong et
    al. 2024, arXiv:2407.07408) for the constant-Q half, Meseguer-Brocal et al. 2024 (arXiv:2404.09177) for the other.
    """

    model_input_names = ["input_features", "attention_mask"]
    read_file = staticmethod(read_file)  # the package puts a decoder of more formats here

    def __init__(
        self,
        sampling_rate: int = 16000,
        hop_length: int = 512,
        cqt_fmin_hz: float = 27.5,
        num_cqt_bins: int = 99,
        bins_per_octave: int = 12,
        cqt_scale: str = "power",
        cqt_power: float = 0.5,
        num_mel_bins: int = 128,
        n_fft: int = 1024,
        mel_fmin_hz: float = 0.0,
        mel_fmax_hz: float | None = None,
        mel_floor_db: float = -80.0,
        mel_range_db: float = 100.0,
        front_end: str = "local",
        num_vqt_bins: int | None = None,
        feature_size: int | None = None,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        unknown = [name for name in kwargs if name not in _LIBRARY_SETTINGS and not name.startswith("_")]
        if unknown:
            raise TypeError(f"MT2FeatureExtractor has no setting {', '.join(map(repr, unknown))}")
        if feature_size not in (None, num_cqt_bins + num_mel_bins):
            raise ValueError(f"feature_size {feature_size} is not num_cqt_bins + num_mel_bins")
        positive = (sampling_rate, hop_length, num_cqt_bins, bins_per_octave, num_mel_bins, n_fft, mel_range_db)
        if not all(value > 0 for value in (*positive, cqt_fmin_hz, cqt_power)):
            raise ValueError(f"rates, sizes, counts and cqt_power must be above 0, got {positive}")
        if kwargs.get("padding_side", "right") != "right":
            raise ValueError("padding_side must be right: the model takes the first frames for those of the clip")
        if cqt_scale not in ("power", "decibel"):
            raise ValueError(f'cqt_scale must be "power" or "decibel", got {cqt_scale!r}')
        if front_end not in FRONT_ENDS:
            raise ValueError(f"front_end must be one of {FRONT_ENDS}, got {front_end!r}")
        published = front_end == "published"
        if mel_fmax_hz is None:
            mel_fmax_hz = 11025.0 if published else 8000.0
        all_bins = num_vqt_bins or num_cqt_bins
        if all_bins < num_cqt_bins or (num_vqt_bins and not published):
            raise ValueError(
                f"num_vqt_bins is of the published front end, and at least num_cqt_bins, got {num_vqt_bins}"
            )
        if published and (all_bins < bins_per_octave or hop_length % 2 ** (-(-all_bins // bins_per_octave) - 1)):
            raise ValueError(f"hop_length {hop_length} cannot be halved for every octave of {all_bins} bins")
        top_hz = cqt_fmin_hz * 2 ** ((all_bins - 1) / bins_per_octave)
        highest_hz = top_hz if published else max(top_hz, mel_fmax_hz)
        if highest_hz > sampling_rate / 2 or mel_fmin_hz >= mel_fmax_hz:
            raise ValueError(
                f"the highest constant-Q bin ({top_hz:.0f} Hz) and mel edge ({mel_fmax_hz:.0f} Hz) must lie below "
                f"half the sampling rate ({sampling_rate / 2:.0f} Hz), and mel_fmin_hz below mel_fmax_hz"
            )
        super().__init__(num_cqt_bins + num_mel_bins, sampling_rate, padding_value, **kwargs)
        self.hop_length = hop_length
        self.cqt_fmin_hz = cqt_fmin_hz
        self.num_cqt_bins = num_cqt_bins
        self.bins_per_octave = bins_per_octave
        self.cqt_scale = cqt_scale
        self.cqt_power = cqt_power
        self.num_mel_bins = num_mel_bins
        self.n_fft = n_fft
        self.mel_fmin_hz = mel_fmin_hz
        self.mel_fmax_hz = mel_fmax_hz
        self.mel_floor_db = mel_floor_db
        self.mel_range_db = mel_range_db
        self.front_end = front_end
        self.num_vqt_bins = num_vqt_bins
        self._constants: dict[torch.device, tuple[list[Tensor], Tensor, Tensor]] = {}

    @property
    def frame_rate(self) -> float:
        """Frames per second of audio."""
        return self.sampling_rate / self.hop_length

    @property
    def frames_at_once(self) -> int:
        """Frames that depend on one another: 1 where a frame depends on the sound around it alone."""
        return PUBLISHED_FRAMES if self.front_end == "published" else 1

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a clip of `num_samples` samples at `sampling_rate`."""
        return num_samples // self.hop_length + 1

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        padding: bool | str | None = None,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        device: str | torch.device = "cpu",
        channel_axis: int | None = None,
    ) -> BatchFeature:
        """Compute the frames of one clip or of several.

        Args:
            audio: one clip, a list of clips, or a batch of mono clips of one length as an array or tensor (clips,
                samples), as for every transformers feature extractor of audio. A clip is a path, the bytes of a sound
                file, or an open one; samples (samples,) as an array, tensor or list; or a `datasets` audio dict, with
                {"array", "sampling_rate"}, the array (samples,) or (channels, samples), or with {"bytes", "path"}.
            sampling_rate: rate of the given samples in hertz; needed for arrays, known for files and dicts.
            padding: as in every transformers feature extractor; by default clips are padded to the longest where
                tensors are returned, and otherwise left as long as they are, for a collator to pad.
            max_length: with `truncation`, longer clips are cut to so many samples at the extractor's own rate; with
                padding="max_length", shorter ones are padded to their frames.
            truncation: cut clips to `max_length`.
            pad_to_multiple_of: in frames.
            return_attention_mask: False leaves the mask out.
            return_tensors: "pt" or "np"; without it, numpy arrays in a list when clips are not padded.
            device: where to compute; the result comes back to the CPU.
            channel_axis: which axis of arrays with two holds the channels: 1 for what soundfile reads, 0 for what
                torchaudio and librosa do. Such an array is one clip.

        Returns:
            `input_features`, float32 (clips, frames, num_cqt_bins + num_mel_bins), and `attention_mask`, (clips,
            frames), 1 where a frame belongs to the clip.

        Raises:
            ValueError: no or contradictory sampling rate, empty audio, NaN or infinite samples, channels where none
                are expected, an unreadable file, or no audio at all. In a list, the message says which clip.
            FileNotFoundError: a path that does not exist.
        """
        clips = as_clips(audio, channel_axis)
        if clips is None:
            clips = [audio]
        if not clips:
            raise ValueError("no audio given: the list of clips is empty")
        if max_length is not None and max_length < self.hop_length:
            raise ValueError(f"max_length counts samples, and {max_length} are less than a frame ({self.hop_length})")
        waveforms = []
        for index, clip in enumerate(clips):
            try:
                waveform = self.load(clip, sampling_rate, channel_axis)
                waveforms.append(waveform[:max_length] if truncation else waveform)
            except ValueError as error:
                raise ValueError(f"clip {index}: {error}" if len(clips) > 1 else str(error)) from error
        features: list[Any] = [None] * len(waveforms)
        # Clips of one length go through together; others alone, so that no padding is computed.
        for length in {len(waveform) for waveform in waveforms}:
            members = [index for index, waveform in enumerate(waveforms) if len(waveform) == length]
            stack = torch.from_numpy(np.stack([waveforms[index] for index in members])).to(device)
            for index, frames in zip(members, self.extract(stack).cpu().numpy(), strict=True):
                if not np.isfinite(frames).all():
                    raise ValueError(f"clip {index}: samples are too large, up to {abs(waveforms[index]).max():g}")
                features[index] = frames
        if padding is None:
            padding = return_tensors is not None
        batch = self.pad(
            BatchFeature({"input_features": features}),
            padding=padding,
            max_length=None if max_length is None else self.num_frames(max_length),
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )
        if return_tensors is None and padding in (False, "do_not_pad"):  # not arrays of arrays, which Arrow refuses
            return BatchFeature({name: list(values) for name, values in batch.items()})
        return batch

    def load(self, clip: Any, sampling_rate: int | None = None, channel_axis: int | None = None) -> np.ndarray:
        """Bring one clip, in any form `__call__` takes, to a mono float32 waveform at the extractor's own rate.

        Args:
            clip, sampling_rate, channel_axis: as for `__call__`.

        Returns:
            float32 of shape (samples,), at least one sample.

        Raises:
            ValueError, FileNotFoundError: as `__call__`.
        """
        if sampling_rate is not None:
            _check_rate(sampling_rate)
        known_rate = None
        if isinstance(clip, str | os.PathLike):
            samples, known_rate = self.read_file(clip)
        elif isinstance(clip, bytes | bytearray | memoryview):
            samples, known_rate = self.read_file(open_bytes(clip))
        elif hasattr(clip, "read"):
            samples, known_rate = self.read_file(clip)
        elif isinstance(clip, dict) or hasattr(clip, "get_all_samples"):  # a torchcodec decoder answers like a dict
            samples, known_rate = self._load_dict(clip)
            channel_axis = 0 if channel_axis is None else channel_axis  # of `datasets` and torchcodec
        else:
            samples = clip
        samples, channel_axis = _single_clip(_as_array(samples), channel_axis)
        if known_rate is not None and sampling_rate not in (None, known_rate):
            raise ValueError(f"sampling_rate={sampling_rate} was given, but the audio says {known_rate}")
        rate = known_rate if known_rate is not None else sampling_rate
        if rate is None:
            raise ValueError("sampling_rate is missing: samples alone do not say how fast they are to be played")
        _check_rate(rate)
        try:
            return resample(to_mono(samples, rate, channel_axis), int(rate), self.sampling_rate)
        except ValueError as error:
            raise ValueError(f"{clip}: {error}" if isinstance(clip, str | os.PathLike) else str(error)) from error

    def _load_dict(self, clip: Any) -> tuple[Any, int | None]:
        if not isinstance(clip, dict):  # a decoder of torchcodec
            decoded = clip.get_all_samples()
            return decoded.data, decoded.sample_rate
        for key in ("array", "raw"):
            if clip.get(key) is not None:
                return clip[key], clip.get("sampling_rate")
        if isinstance(clip.get("bytes"), bytes | bytearray | memoryview):
            return self.read_file(open_bytes(clip["bytes"]))
        if clip.get("bytes") is None and isinstance(clip.get("path"), str | os.PathLike):
            return self.read_file(clip["path"])
        held = ", ".join(f"{key!r}: {value!r:.40}" for key, value in clip.items())
        raise ValueError(f'an audio dict needs "array", "bytes" or "path", got {{{held}}}')

    @torch.no_grad()
    def extract(self, waveforms: Tensor) -> Tensor:
        """Compute the frames of waveforms of one length, on their own device and in float32, also under autocast.

        Args:
            waveforms: mono, at the extractor's own rate, (B, N), float or int16.

        Returns:
            float32 (B, T, K + M): constant-Q bins, low to high, then mel bands, about 0 to 1; of the published front
            end, mel bands in dB.
        """
        if os.getpid() != _IMPORTED_IN:
            # A forked worker, as of `datasets.map`, inherits a thread pool that never answers.
            torch.set_num_threads(1)
        if waveforms.dtype == torch.int16:
            waveforms = waveforms.float() / 32768
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            blocks, mel, window = self._constants_on(waveforms.device)
            num_frames = self.num_frames(waveforms.shape[1])
            if self.front_end == "published":
                return self._published(waveforms, num_frames, blocks, mel, window)
            margin = max(len(blocks) // 2 * self.hop_length, self.n_fft)
            limit = FRAMES_PER_CHUNK if waveforms.device.type == "cpu" else FRAMES_PER_CHUNK_ON_GPU
            chunk = max(1, limit // len(waveforms))
            right = margin + num_frames * self.hop_length - waveforms.shape[1]
            padded = torch.nn.functional.pad(waveforms, (margin, right))
            pieces = []
            for start in range(0, num_frames, chunk):
                stop = min(start + chunk, num_frames)
                piece = padded[:, start * self.hop_length : stop * self.hop_length + 2 * margin]
                pieces.append(torch.cat([self._cqt(piece, margin, blocks), self._mel(piece, margin, mel, window)], -1))
            return torch.cat(pieces, 1)

    def _cqt(self, padded: Tensor, margin: int, blocks: list[Tensor]) -> Tensor:
        skipped = margin - len(blocks) // 2 * self.hop_length
        hops = padded[:, skipped : padded.shape[1] - skipped].unflatten(1, (-1, self.hop_length))
        num_frames = hops.shape[1] - len(blocks)
        response = padded.new_zeros(len(padded), num_frames, 2, self.num_cqt_bins)
        for index, block in enumerate(blocks):
            part = hops[:, index : index + num_frames] @ block
            reached = block.shape[1] // 2
            response[..., :reached] += part.unflatten(2, (2, reached))
        power = response.square().sum(2)  # (B, T, K)
        if self.cqt_scale == "power":
            return power.pow(self.cqt_power / 2)
        return (1 + 10 * power.clamp(min=1e-10).log10() / 80).clamp(min=0)

    def _mel(self, padded: Tensor, margin: int, mel: Tensor, window: Tensor) -> Tensor:
        start = margin - self.n_fft // 2
        num_frames = (padded.shape[1] - 2 * margin) // self.hop_length
        frames = padded[:, start:].unfold(1, self.n_fft, self.hop_length)[:, :num_frames]
        decibels = 10 * _mel_power(frames * window, mel).clamp(min=10 ** (self.mel_floor_db / 10)).log10()
        return (decibels - self.mel_floor_db) / self.mel_range_db

    def _published(
        self, waveforms: Tensor, num_frames: int, blocks: list[Tensor], mel: Tensor, window: Tensor
    ) -> Tensor:
        """Compute the frames of the published front end, (B, N) to (B, T, K + M), some windows at a time."""
        hop, num_windows = self.hop_length, -(-num_frames // PUBLISHED_FRAMES)
        step = PUBLISHED_FRAMES * hop
        padded = torch.nn.functional.pad(waveforms, (0, num_windows * step - waveforms.shape[1]))
        windows = padded.unflatten(1, (num_windows, step))[:, :, : step - hop].flatten(0, 1)  # (B * W, samples)
        half = self.n_fft // 2
        pieces = []
        for some in windows.split(FRAMES_PER_CHUNK // PUBLISHED_FRAMES):
            frames = torch.nn.functional.pad(some, (half, half), mode="reflect").unfold(1, self.n_fft, hop)
            decibels = _decibels(_mel_power(frames * window, mel), PUBLISHED_MEL_RANGE)
            pieces.append(torch.cat([self._published_cqt(some, *blocks), decibels], -1))
        return torch.cat(pieces).unflatten(0, (-1, num_windows)).flatten(1, 2)[:, :num_frames]

    def _published_cqt(self, windows: Tensor, kernels: Tensor, low_pass: Tensor, factors: Tensor) -> Tensor:
        octave, hop, half = windows[:, None], self.hop_length, kernels.shape[2] // 2
        responses: list[Tensor] = []  # of the highest octave first, each (B * W, real and imaginary parts, T)
        while len(responses) * self.bins_per_octave < len(factors):
            if responses:
                octave = torch.nn.functional.conv1d(octave, low_pass, stride=2, padding=low_pass.shape[2] // 2 - 1)
                hop //= 2
            padded = torch.nn.functional.pad(octave, (half, half), mode="reflect")
            responses.append(torch.nn.functional.conv1d(padded, kernels, stride=hop))
        parts = torch.stack(responses[::-1], 1).unflatten(2, (2, -1))
        magnitudes = parts.square().sum(2).flatten(1, 2)[:, -len(factors) :].sqrt() * factors
        return (1 + _decibels(magnitudes, PUBLISHED_CQT_RANGE) / 80).transpose(1, 2)[..., : self.num_cqt_bins]

    def _constants_on(self, device: torch.device) -> tuple[list[Tensor], Tensor, Tensor]:
        if device not in self._constants:
            published, rate, lowest = self.front_end == "published", self.sampling_rate, self.cqt_fmin_hz
            if published:
                blocks = octave_kernels(rate, lowest, self.num_vqt_bins or self.num_cqt_bins, self.bins_per_octave)
            else:
                blocks = cqt_kernels(rate, lowest, self.num_cqt_bins, self.bins_per_octave, self.hop_length)
            edges = self.mel_fmin_hz, self.mel_fmax_hz
            mel = mel_filters(rate, self.n_fft, self.num_mel_bins, *edges, equal_area=not published)
            window = torch.hann_window(self.n_fft, periodic=True)
            if published:
                window = window / window.square().sum().sqrt()
            self._constants[device] = ([block.to(device) for block in blocks], mel.to(device), window.to(device))
        return self._constants[device]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are written to preprocessor_config.json, without derived constants."""
        settings = super().to_dict()
        settings.pop("_constants", None)
        return settings

    def __getstate__(self) -> dict[str, Any]:
        # Constants are rebuilt on first use: workers get a small object, and `datasets` the same fingerprint.
        return {**self.__dict__, "_constants": {}}


def _mel_power(frames: Tensor, mel: Tensor) -> Tensor:
    """Turn windowed frames, (..., n_fft), into power by mel band, (..., M)."""
    return torch.view_as_real(torch.fft.rfft(frames)).square().sum(-1) @ mel


def _decibels(values: Tensor, most_below: float) -> Tensor:
    """Turn the values of each window, (B, ., .), into 10 log10, no further below their maximum than so many dB."""
    decibels = 10 * values.clamp(min=1e-10).log10()
    return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - most_below)


def _check_rate(rate: Any) -> None:
    least, most = RATES
    is_number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not is_number or not least <= rate <= most or rate % 1 != 0:
        raise ValueError(f"sampling_rate must be a whole number of hertz from {least} to {most}, got {rate!r:.40}")


def _as_array(samples: Any) -> np.ndarray:
    """Return samples as an array of numbers.

    Raises:
        ValueError: they are none; the message says what came, and what is taken.
    """
    if isinstance(samples, Tensor):
        samples = samples.detach()
        try:
            samples = samples.to_dense().cpu() if samples.layout != torch.strided else samples.cpu()
            return (samples.float() if samples.is_floating_point() else samples).numpy()
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"a tensor on {samples.device} of {samples.dtype} is no array: {error}") from error
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError):  # lists of several lengths
        array = np.empty(0, object)
    if array.ndim and array.dtype.kind not in "OSUVMm":
        return array
    got = (
        repr(samples)
        if samples is None or isinstance(samples, Real)
        else f"an object of type {type(samples).__name__}"
    )
    raise ValueError(
        f"{got} is not audio: a clip is a path, the bytes of a sound file or an open one, samples, or a dict with "
        '"array", "bytes" or "path"; several clips are a list, such as list(paths)'
    )


__all__ = ["MT2FeatureExtractor"]
