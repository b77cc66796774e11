"""Analysis of one song for the demo: its keys, chords and beats, its self-similarity, and its embeddings.

Shapes: T frames, W windows, D hidden size.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music import SongAnalysis, SongEmbedding, load
from mt2_music.collection.tables import Embeddings, read_embeddings
from mt2_music.feature_extraction.decoding import read_blocks
from mt2_music.loading import load_model
from mt2_music.modeling_mt2 import WINDOWS_PER_CHUNK, MT2ForPreTraining
from mt2_music.song.analysis import check_analyses
from mt2_music.song.keys import key_calibration, rotate_to_c
from mt2_music.train.plots.pictures import self_similarity

MAX_SECONDS = 600
SIGNATURE_HOP_SECONDS = 1.0


@dataclass(frozen=True)
class Findings:
    """What the demo shows of one song.

    Args:
        song: its keys, chords and beats, as `mt2 analyze` finds them.
        signatures: key signature profile around every second, (seconds, 12), index = pitch class of the major key.
        similarity: of the song with itself, as `self_similarity` returns it.
        vectors: embeddings (D,) by the names in `mt2_music.options.VECTORS`.
        cut: whether the song is longer than what was analysed.
    """

    song: SongAnalysis
    signatures: np.ndarray
    similarity: np.ndarray
    vectors: dict[str, np.ndarray]
    cut: bool


class SongAnalyser:
    """Analyses songs with a published model that finds chords and beats.

    Args:
        folder: folder, Hub name or short name, as `mt2_music.train.analysis` makes it.

    Raises:
        ValueError: the model finds no chords and beats, or is not calibrated.
        OSError: nothing is there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.model = load(folder, device="cpu")
        check_analyses(self.model.model)
        self.pretrained = load_model(MT2ForPreTraining, folder)
        self.calibration = key_calibration(self.pretrained)

    def load_index(self, path: Path) -> Embeddings:
        """Read what `build_index.py` or `mt2 index` wrote.

        Raises:
            ValueError: another model or front end made it, so that embeddings cannot be compared; or it is no table of
                embeddings.
            FileNotFoundError: nothing is there.
        """
        index = read_embeddings([path])
        source = self.model.source
        if not index.source.fits(source):
            raise ValueError(
                f"{path.name} was made by {' '.join(index.source)}, but the model is {' '.join(source)}: make "
                "the index again with build_index.py"
            )
        return index

    def analyse(self, file: Path) -> Findings:
        """Analyse a sound file, at most its first `MAX_SECONDS`.

        Raises:
            ValueError, FileNotFoundError: the file cannot be used; the message says why.
        """
        rate = self.model.extractor.sampling_rate
        samples, cut = read_start(file, rate)
        song = self.model.analyze(samples, rate)
        embedding = self.embed(samples, frames=True)
        similarity = self_similarity(torch.from_numpy(embedding.frames))
        return Findings(song, self._signatures(samples), similarity, embedding.vectors, cut)

    def embed(self, samples: np.ndarray, frames: bool = False) -> SongEmbedding:
        """Embed samples, (N,) at the extractor's own rate."""
        return self.model.embed(samples, self.model.extractor.sampling_rate, frames=frames)

    @torch.no_grad()
    def _signatures(self, samples: np.ndarray) -> np.ndarray:
        """Return the key signature profile around every second, (seconds, 12)."""
        extractor = self.model.extractor
        features = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"][0]
        hop = round(SIGNATURE_HOP_SECONDS * extractor.frame_rate)
        batches = windows(features, self.pretrained.config.max_frames, hop).split(WINDOWS_PER_CHUNK)
        profiles = torch.cat([self.pretrained(batch).key_signature_profile for batch in batches])
        return np.stack([rotate_to_c(profile, self.calibration).numpy() for profile in profiles])


def windows(features: Tensor, length: int, hop: int) -> Tensor:
    """Cut one window around every moment of a song; near its ends windows are moved inwards, so that all are full.

    Args:
        features: frames, (T, input_size).
        length: frames in a window; a shorter song is its only window.
        hop: frames from one moment to the next.

    Returns:
        (W, length, input_size), where window i is for frames i * hop to (i + 1) * hop.
    """
    length = min(length, len(features))
    centres = torch.arange(0, len(features), hop) + hop // 2
    starts = (centres - length // 2).clamp(0, len(features) - length)
    return features[starts[:, None] + torch.arange(length)]


def read_start(file: Path, sampling_rate: int) -> tuple[np.ndarray, bool]:
    """Decode a sound file up to `MAX_SECONDS`, in memory bounded by that.

    Returns:
        Mono float32 samples at `sampling_rate`, and whether the file goes on after them.

    Raises:
        ValueError, FileNotFoundError: as `open_audio`.
    """
    limit = MAX_SECONDS * sampling_rate
    blocks, length = [np.zeros(0, np.float32)], 0
    reader: Any = read_blocks(file, sampling_rate)
    with closing(reader) as decoded:
        for block in decoded:
            blocks.append(block)
            length += len(block)
            if length > limit:
                break
    return np.concatenate(blocks)[:limit], length > limit
