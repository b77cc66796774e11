"""Embeddings of clips, computed once and kept by the content of encoder and audio."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mt2_music.feature_extraction.feature_extraction_mt2 import read_audio, resample

from .clips import Clip
from .encoders import Embedding, Encoder


class EmbeddingCache:
    """Embeddings on disk: vectors in float32, frames in half precision.

    Args:
        folder: where they are kept; what is there already is not computed again.
        encoder: whose embeddings.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.encoder = encoder
        self.folder = folder / f"{encoder.name}-{encoder.fingerprint}".replace("/", "_").replace(":", "_")
        self._vectors: dict[Path, tuple[dict[str, np.ndarray], float]] = {}

    def __call__(self, clip: Clip) -> Embedding:
        """Return the embedding of a clip, from the disk where it lies there."""
        path = self._path(clip)
        if not path.exists():
            self._write(path, self.encoder.embed(load_clip(clip, self.encoder.sampling_rate)))
        if path not in self._vectors:
            with np.load(path) as stored:
                vectors = {name[2:]: stored[name] for name in stored.files if name.startswith("v:")}
                self._vectors[path] = vectors, float(stored["frame_rate"])
        vectors, frame_rate = self._vectors[path]
        return Embedding(vectors, _StoredFrames(path), frame_rate)

    def fill(self, clips: Iterable[Clip]) -> int:
        """Embed all clips that are not there yet, and return how many these were.

        Raises:
            ValueError, FileNotFoundError: a clip cannot be read or embedded; what is done by then stays.
        """
        missing = {path: clip for clip in clips if not (path := self._path(clip)).exists()}
        for path, clip in tqdm(missing.items(), desc=f"embedding with {self.encoder.name}", unit="clip"):
            self._write(path, self.encoder.embed(load_clip(clip, self.encoder.sampling_rate)))
        return len(missing)

    def _path(self, clip: Clip) -> Path:
        part = json.dumps([clip.start, clip.seconds]) if clip.start or clip.seconds is not None else ""
        return self.folder / f"{hashlib.sha256((_content(clip.path) + part).encode()).hexdigest()[:32]}.npz"

    def _write(self, path: Path, embedding: Embedding) -> None:
        arrays = {f"v:{name}": value.astype(np.float32) for name, value in embedding.vectors.items()}
        arrays |= {f"f:{name}": value.astype(np.float16) for name, value in embedding.frames.items()}
        if not all(np.isfinite(value).all() for value in arrays.values()):
            raise ValueError(f"{self.encoder.name} gave values that are not finite, or beyond half precision")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        with unfinished.open("wb") as file:
            np.savez(file, frame_rate=np.float64(embedding.frame_rate), **arrays)
        os.replace(unfinished, path)


class _StoredFrames(Mapping):
    """Frames that are read when they are asked for: a data set's do not fit in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> np.ndarray:
        with np.load(self._path) as stored:
            return stored[f"f:{name}"]

    def __iter__(self) -> Iterator[str]:
        with np.load(self._path) as stored:
            return iter([name[2:] for name in stored.files if name.startswith("f:")])

    def __len__(self) -> int:
        return len(list(iter(self)))


def load_clip(clip: Clip, sampling_rate: int) -> np.ndarray:
    """Decode a clip.

    Returns:
        Mono float32 (samples,) at `sampling_rate`.

    Raises:
        ValueError, FileNotFoundError: it cannot be read, or nothing is left of it; the message names the file.
    """
    if clip.start or clip.seconds is not None:
        _, rate = read_audio(clip.path, 0, 1)
        length = -1 if clip.seconds is None else round(clip.seconds * rate)
        audio, rate = read_audio(clip.path, round(clip.start * rate), length)
    else:
        audio, rate = read_audio(clip.path)
    if not len(audio):
        raise ValueError(f"{clip.path} holds no audio at {clip.start} s")
    return resample(audio.mean(axis=1), rate, sampling_rate)


@cache
def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
