"""Songs to embeddings, with a published model.

`embed_audio` is for one song of any length, `Embedder` for the workers of `datasets.map`, Ray Data or Spark.
"""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mt2_music.audio.datasets import open_audio_cell
from mt2_music.configuration_mt2 import MT2Config
from mt2_music.feature_extraction import MT2FeatureExtractor
from mt2_music.feature_extraction.decoding import read_blocks, rewindable
from mt2_music.feature_extraction.feature_extraction_mt2 import cqt_kernels, open_bytes, resample
from mt2_music.interrupts import PATIENCE_SECONDS, check
from mt2_music.loading import Provenance, load_extractor, load_model, provenance
from mt2_music.modeling_mt2 import WINDOWS_PER_CHUNK, MT2Model, frame_levels, sounding_frames, window_weights

from .rows import Rows
from .tuning import MIN_AGREEMENT, estimate_tuning

# To estimate the tuning: how much sound is looked at, among how many blocks, and what is corrected.
SECONDS_TO_TUNE, MAX_BLOCKS_TO_TUNE, MIN_AMPLITUDE, MIN_CENTS = 60.0, 10, 1e-3, 15.0
# What may be wrong with one song of many; RuntimeErrors are torch's, such as of a full GPU.
SONG_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)
BLOCK_SECONDS = 30.0  # decoded and turned into frames at a time: bounds the memory that a long song takes


@dataclass(frozen=True, repr=False)
class SongEmbedding:
    """What a model makes of one song; all arrays are float32.

    Args:
        vectors: of the whole song, (hidden_size,), by name: "mean" of the class tokens, and each of "equivariant" and
            "contrastive" that the model has; also to be had as attributes. They are the means over the windows,
            weighted with their numbers of frames that hold sound.
        windows: the same of every window, (windows, hidden_size).
        times: start and end of every window in seconds, (windows, 2).
        seconds: duration of the song.
        sounding: share of the song that is not silent, 0 to 1; see `mt2_music.modeling_mt2.sounding_frames`. At 0 the
            vectors mean nothing.
        frames: frame tokens (frames, hidden_size), if asked for; see `frame_times`.
        frame_rate: of the frames, per second.
        source: model and front end that made it, if `MusicModel.embed` did.
    """

    vectors: dict[str, np.ndarray]
    windows: dict[str, np.ndarray]
    times: np.ndarray
    seconds: float
    sounding: float = 1.0
    frames: np.ndarray | None = None
    frame_rate: float | None = None
    source: Provenance | None = None

    def __repr__(self) -> str:
        frames = "" if self.frames is None else f", {len(self.frames)} frames"
        size, names = len(self.mean), ", ".join(self.vectors)
        return f"SongEmbedding({self.seconds:.1f} s, {len(self.times)} windows{frames}, {names}: {size} numbers each)"

    @property
    def mean(self) -> np.ndarray:
        """Mean of the class tokens, (hidden_size,): the best all-rounder."""
        return self.vectors["mean"]

    @property
    def equivariant(self) -> np.ndarray:
        """The token that follows transposition, (hidden_size,): key and harmony."""
        return self._token("equivariant")

    @property
    def contrastive(self) -> np.ndarray:
        """The token that tells songs apart, (hidden_size,): timbre and style."""
        return self._token("contrastive")

    @property
    def frame_times(self) -> np.ndarray | None:
        """Time of every frame in seconds, (frames,): the centre of what it describes."""
        return None if self.frames is None or not self.frame_rate else np.arange(len(self.frames)) / self.frame_rate

    def _token(self, name: str) -> np.ndarray:
        if name not in self.vectors:
            raise AttributeError(f"the model of this embedding has no {name} token")
        return self.vectors[name]


def reason_of(error: BaseException) -> str:
    """Return why a song cannot be used."""
    if isinstance(error, MemoryError):
        return f"the memory does not suffice{f': {error}' if str(error) else ''}"
    return str(error) or type(error).__name__


def whole_number(name: str, value: Any) -> int:
    """Return the value of an option.

    Raises:
        ValueError: it is no whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


@torch.no_grad()
def embed_audio(
    model: MT2Model,
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    *,
    hop_seconds: float | None = None,
    frames: bool = False,
    transposition: int = 0,
    batch_size: int = WINDOWS_PER_CHUNK,
) -> SongEmbedding:
    """Embed one song of any length; a file is decoded in blocks, in bounded memory.

    Args:
        model: in evaluation mode, as `from_pretrained` returns it.
        extractor: the feature extractor published with it.
        audio: anything one clip can be for `MT2FeatureExtractor`, such as a path, or an open binary file.
        sampling_rate: of samples, in hertz; files know theirs.
        hop_seconds: from the start of one window to that of the next, at most a window; by default windows, each as
            long as those the model was trained on, follow one another, and the song's vectors are those that
            `MT2Model` returns for the whole.
        frames: also return frame tokens; takes memory in proportion to the song's length.
        transposition: pitch the song up by so many semitones; its timbre, in the mel half, stays as it is.
        batch_size: windows encoded at once; changes memory and speed, and no result.

    Raises:
        ValueError: the audio cannot be used, and the message says why; or a hop that makes no sense.
        FileNotFoundError: a path that does not exist.
    """
    length = model.config.max_frames
    hop = length
    if hop_seconds is not None:
        is_duration = isinstance(hop_seconds, Real) and 0 < hop_seconds < 1e9
        hop = round(hop_seconds * extractor.frame_rate) if is_duration else 0
    if not 1 <= hop <= length:
        longest = length / extractor.frame_rate
        raise ValueError(f"hop_seconds must be above 0 and at most {longest:g}, got {hop_seconds!r:.40}")
    if frames and hop != length:
        raise ValueError("frames of overlapping windows are not one sequence: leave hop_seconds out")
    if whole_number("batch_size", batch_size) < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    whole_number("transposition", transposition)
    blocks = _CheckedBlocks(extractor, audio, sampling_rate)
    vectors = {name: Rows() for name in ("mean", *model.config.class_tokens)}
    tokens, loudness = [], WindowWeights(model.config)
    for features, mask in window_batches(stream_features(extractor, blocks, model.device), length, hop, batch_size):
        outputs = model(features, attention_mask=mask, transposition=transposition or None)
        vectors["mean"].add(outputs.pooler_output)
        for name in model.config.class_tokens:
            vectors[name].add(outputs[f"{name}_embeds"])
        loudness.add(features, mask)
        if frames:
            tokens.append(outputs.last_hidden_state[mask].float().cpu())
    windows = {name: rows.values for name, rows in vectors.items()}
    weights, sounding = loudness.weights()
    starts = hop * np.arange(len(weights)) / extractor.frame_rate
    seconds = blocks.num_samples / extractor.sampling_rate
    return SongEmbedding(
        vectors={name: (values * weights[:, None]).sum(0).numpy() for name, values in windows.items()},
        windows={name: values.numpy() for name, values in windows.items()},
        times=np.stack([starts, np.minimum(starts + length / extractor.frame_rate, seconds)], 1).astype(np.float32),
        seconds=seconds,
        sounding=sounding,
        frames=torch.cat(tokens).numpy() if frames else None,
        frame_rate=extractor.frame_rate,
    )


class _CheckedBlocks:
    """A song as waveform blocks, at the extractor's rate or another; raises on NaN, and counts samples."""

    def __init__(
        self, extractor: MT2FeatureExtractor, audio: Any, sampling_rate: int | None, rate: float | None = None
    ) -> None:
        self.blocks = _blocks(extractor, audio, sampling_rate, extractor.sampling_rate if rate is None else rate)
        self.num_samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            check(PATIENCE_SECONDS)
            if not np.isfinite(block).all():
                raise ValueError("the audio contains NaN or infinite samples")
            self.num_samples += len(block)
            yield block


def _blocks(
    extractor: MT2FeatureExtractor, audio: Any, sampling_rate: int | None, rate: float
) -> Iterator[np.ndarray]:
    if isinstance(audio, dict) and audio.keys() == {"bytes", "path"}:  # `datasets` audio that is not decoded
        audio = open_audio_cell(audio, "the cell")
    if isinstance(audio, bytes | bytearray | memoryview):
        audio = open_bytes(audio)
    if sampling_rate is None and (isinstance(audio, str | os.PathLike) or hasattr(audio, "read")):
        yield from read_blocks(audio, rate, BLOCK_SECONDS)
        return
    waveform = resample(extractor.load(audio, sampling_rate), extractor.sampling_rate, rate)
    size = int(BLOCK_SECONDS * extractor.sampling_rate)
    yield from (waveform[start : start + size] for start in range(0, len(waveform), size))


def song_features(
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Compute the frames of one song as `stream_features` does; a file is decoded in blocks.

    Args:
        extractor: feature extractor.
        audio, sampling_rate: as for `embed_audio`, whose errors it raises.
        device: where to compute.

    Returns:
        Pieces (frames, feature_size) that follow one another, on `device`.
    """
    return stream_features(extractor, _CheckedBlocks(extractor, audio, sampling_rate), device)


def tuned_features(
    extractor: MT2FeatureExtractor,
    audio: Any,
    sampling_rate: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Iterator[Tensor], float]:
    """Compute the frames of one song as if it were tuned to A = 440 Hz; a file is decoded in blocks.

    A song that is off by less than `MIN_CENTS` stays as it is. Another one is read faster or slower, by 3 % at most.

    Args:
        extractor, audio, sampling_rate, device: as for `song_features`, whose errors it raises.

    Returns:
        Pieces as of `song_features`, and by how many cents the song is tuned above A = 440 Hz, from -50 to 50.
    """
    audio = rewindable(audio)
    blocks = iter(_CheckedBlocks(extractor, audio, sampling_rate))
    first, sounding = [], 0.0
    for block in islice(blocks, MAX_BLOCKS_TO_TUNE):
        first.append(block)
        sounding += len(block) / extractor.sampling_rate if abs(block).max(initial=0.0) > MIN_AMPLITUDE else 0.0
        if sounding >= SECONDS_TO_TUNE:
            break
    beginning = np.concatenate(first) if first else np.zeros(0, np.float32)
    cents, agreement = estimate_tuning(beginning, extractor.sampling_rate)
    if agreement < MIN_AGREEMENT:
        cents = 0.0
    if abs(cents) < MIN_CENTS:
        return stream_features(extractor, chain(first, blocks), device), cents
    # Taken for samples at the extractor's rate, they sound as much lower.
    rate = extractor.sampling_rate * 2 ** (cents / 1200)
    return stream_features(extractor, _CheckedBlocks(extractor, audio, sampling_rate, rate), device), cents


@torch.no_grad()
def stream_features(
    extractor: MT2FeatureExtractor, blocks: Iterable[np.ndarray], device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Compute the frames of a sound that comes in blocks: as `extract` gives them of the whole, in bounded memory.

    Args:
        extractor: feature extractor.
        blocks: mono float32 waveforms at its sampling rate that follow one another.
        device: where to compute.

    Returns:
        Pieces (frames, feature_size) that follow one another, on `device`.

    Raises:
        ValueError: not one sample, or samples so large that frames overflow.
    """
    hop = extractor.hop_length
    lowest = cqt_kernels(extractor.sampling_rate, extractor.cqt_fmin_hz, 1, extractor.bins_per_octave, hop)
    together = extractor.frames_at_once
    context = max(len(lowest) // 2, -(-extractor.n_fft // hop)) if together == 1 else 0  # frames that a sample reaches
    kept = np.zeros(0, np.float32)
    first = done = 0  # frames: where `kept` begins, and how many are computed

    def compute(stop: int) -> Tensor:
        frames = extractor.extract(torch.from_numpy(kept)[None].to(device))[0, done - first : stop - first]
        if not frames.isfinite().all():
            raise ValueError(f"samples are too large, up to {abs(kept).max():g}")
        return frames

    for block in blocks:
        kept = np.concatenate([kept, block])
        ready = (first + len(kept) // hop - context) // together * together
        if ready > done:
            yield compute(ready)
            done = ready
            passed = max(0, done - context - first)
            kept, first = kept[passed * hop :], first + passed
    if first == 0 and not len(kept):
        raise ValueError("the audio is empty")
    yield compute(first + len(kept) // hop + 1)


def _windows(pieces: Iterable[Tensor], length: int, hop: int) -> Iterator[Tensor]:
    """Cut frames into windows of `length`, one every `hop` frames; the last ones hold what is left."""
    kept: Tensor | None = None
    overlap = 0  # frames of `kept` that were part of a window already
    for piece in pieces:
        kept = piece if kept is None else torch.cat([kept, piece])
        while len(kept) >= length:
            yield kept[:length]
            kept, overlap = kept[hop:], length - hop
    if kept is not None and len(kept) > overlap:
        yield kept


def window_batches(pieces: Iterable[Tensor], length: int, hop: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the frames of a song into windows, and put some of them together at a time.

    Args:
        pieces: frames that follow one another, each (frames, feature_size).
        length: of windows, in frames; the last ones hold what is left.
        hop: from the start of one window to that of the next, in frames.
        size: windows in a batch.

    Returns:
        Windows padded to the longest of the batch, (windows, frames, feature_size), and True where they are not
        padded, (windows, frames).
    """
    batch: list[Tensor] = []

    def join() -> tuple[Tensor, Tensor]:
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(window)) for window in batch], batch_first=True)
        return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), mask.bool().to(batch[0].device)

    for window in _windows(pieces, length, hop):
        batch.append(window)
        if len(batch) == size:
            yield join()
            batch.clear()
    if batch:
        yield join()


class WindowWeights:
    """Weights of the windows of a song, by how much sound they hold beside its loudest frame, once all were there.

    Args:
        config: of the model.
    """

    def __init__(self, config: MT2Config) -> None:
        self.config = config
        self._levels = Rows()

    def add(self, windows: Tensor, mask: Tensor) -> None:
        """Take windows that follow, (W, T, input_size), and where they are not padded, (W, T)."""
        levels = frame_levels(windows, self.config).float().masked_fill(~mask, -torch.inf).cpu()
        self._levels.add(nn.functional.pad(levels, (0, self.config.max_frames - levels.shape[1]), value=-torch.inf))

    def _sounding(self) -> tuple[Tensor, Tensor]:
        levels = self._levels.values
        mask = levels > -torch.inf
        return sounding_frames(levels.flatten()[None], self.config, mask.flatten()[None]).view_as(mask), mask

    def weights(self) -> tuple[Tensor, float]:
        """Return the weights of all windows, (windows,), which sum to 1, and the share of frames that hold sound."""
        sounding, mask = self._sounding()
        share = float(sounding.sum() / mask.sum())
        return window_weights(sounding.sum(1), mask.sum(1)), share


class Embedder:
    """A published model as a function of batches of files: for `datasets.map`, Ray Data, Spark and their kind.

    Args:
        model: folder, Hub name or short name.
        column: of the batch, with what `embed_audio` takes: paths, or `datasets` audio that is not decoded.
        device: where to compute.
    """

    def __init__(self, model: str | Path, column: str = "file", device: str = "cpu") -> None:
        self.model = load_model(MT2Model, model, device)
        self.extractor = load_extractor(model)
        self.source = provenance(model, self.model, self.extractor)
        self.column = column

    def __call__(self, batch: dict[str, Sequence[Any]]) -> dict[str, Any]:
        """Embed every file of a batch.

        Returns:
            The batch with "seconds", "sounding", each vector, "error" (empty, or why the file cannot be used; its
            vectors are NaN then), and the three fields of `Provenance`, as columns.
        """
        names = ["mean", *self.model.config.class_tokens]
        results: dict[str, list[Any]] = {
            name: [] for name in ("seconds", "sounding", *names, "error", *Provenance._fields)
        }
        nothing = np.full(self.model.config.hidden_size, np.nan, np.float32)
        for audio in batch[self.column]:
            try:
                song, error = embed_audio(self.model, self.extractor, audio), ""
            except SONG_ERRORS as problem:
                song, error = None, reason_of(problem)
            for name in names:
                results[name].append(nothing if song is None else song.vectors[name])
            results["seconds"].append(np.nan if song is None else song.seconds)
            results["sounding"].append(np.nan if song is None else song.sounding)
            results["error"].append(error)
            for name, value in self.source._asdict().items():
                results[name].append(value)
        return {**batch, **results}
