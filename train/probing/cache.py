"""Embeddings of clips, computed once and kept by the content of encoder and audio."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mt2_music.feature_extraction.decoding import read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import resample
from mt2_music.interrupts import check, finishing
from mt2_music.storage import content_hash, write_npz

from .clips import Clip
from .encoders import Embedding, Encoder

FRAME_RATE = "frame_rate"  # stored beside the vectors


class EmbeddingCache:
    """Embeddings on disk: vectors in float32, frames, where they are wanted, in half precision.

    Args:
        folder: where they are kept; what is there already is not computed again.
        encoder: whose embeddings.
        with_frames: keep frames too; they are a hundred times larger.
    """

    def __init__(self, folder: Path, encoder: Encoder, with_frames: bool = True) -> None:
        self.encoder = encoder
        self.with_frames = with_frames
        self.folder = folder / re.sub(r"[^\w.-]", "_", f"{encoder.name}-{encoder.fingerprint}")
        self._vectors: dict[Path, tuple[dict[str, np.ndarray], float]] = {}

    def __call__(self, clip: Clip) -> Embedding:
        """Return the embedding of a clip, from the disk where it lies there."""
        path = self._path(clip)
        if path not in self._vectors:
            self._make(path, clip)
            with np.load(path) as stored:
                vectors = {name: stored[name] for name in stored.files if name != FRAME_RATE}
                self._vectors[path] = vectors, float(stored[FRAME_RATE])
        vectors, frame_rate = self._vectors[path]
        return Embedding(vectors, _StoredFrames(_frames_beside(path)) if self.with_frames else {}, frame_rate)

    def fill(self, clips: Iterable[Clip], workers: int = 1) -> dict[Clip, str]:
        """Embed all clips that are not there yet.

        Args:
            clips: all that will be asked for.
            workers: threads that embed clips side by side, each computing on its own; of an encoder that can be called
                from several. One leaves the computing to all of torch's threads, which for products as small as those
                of a clip wait for one another most of the time.

        Returns:
            Clips that cannot be read or embedded, with the reason.
        """
        failed, missing = {}, []
        for clip in clips:
            try:
                if not self._is_there(self._path(clip)):
                    missing.append(clip)
            except OSError as error:
                failed[clip] = str(error)

        def make(clip: Clip) -> str:
            check()
            try:
                self._make(self._path(clip), clip)
            except (ValueError, OSError) as error:
                return str(error)
            return ""

        bar = {"desc": f"embedding with {self.encoder.name}", "unit": "clip", "disable": not missing}
        with finishing():
            if workers == 1:
                made = list(tqdm(map(make, missing), total=len(missing), **bar))
            else:
                with one_thread(), ThreadPoolExecutor(workers) as pool:
                    made = list(tqdm(pool.map(make, missing), total=len(missing), **bar))
        return failed | {clip: error for clip, error in zip(missing, made, strict=True) if error}

    def _path(self, clip: Clip) -> Path:
        return self.folder / f"{clip_hash(clip)}.npz"

    def _is_there(self, path: Path) -> bool:
        return path.exists() and (not self.with_frames or _frames_beside(path).exists())

    def _make(self, path: Path, clip: Clip) -> None:
        if self._is_there(path):
            return
        embedding = self.encoder.embed(load_clip(clip, self.encoder.sampling_rate))
        vectors = {name: value.astype(np.float32) for name, value in embedding.vectors.items()}
        frames: dict[str, np.ndarray] = {}
        if self.with_frames:
            with np.errstate(over="ignore"):
                frames = {name: value.astype(np.float16) for name, value in embedding.frames.items()}
        if not all(np.isfinite(value).all() for value in (*vectors.values(), *frames.values())):
            raise ValueError(f"{self.encoder.name} gave values for {clip.path} that are not finite, or above 65504")
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.with_frames:
            write_npz(_frames_beside(path), **frames)
        write_npz(path, **vectors, **{FRAME_RATE: np.array(embedding.frame_rate)})


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: for products this small, waiting for a second one can cost a hundred times more."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class _StoredFrames(Mapping):
    """Frames that are read when they are asked for: a data set's do not fit in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> np.ndarray:
        with np.load(self._path) as stored:
            return stored[name]

    def __iter__(self) -> Iterator[str]:
        with np.load(self._path) as stored:
            return iter(stored.files)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _frames_beside(path: Path) -> Path:
    return path.with_suffix(".frames.npz")


def clip_hash(clip: Clip) -> str:
    """Return a hash of a clip: of its file's content, and of which part of the file it is."""
    part = json.dumps([clip.start, clip.seconds]) if clip.start or clip.seconds is not None else ""
    return hashlib.sha256((content_hash(clip.path) + part).encode()).hexdigest()[:32]


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
    return resample(audio, rate, sampling_rate)
