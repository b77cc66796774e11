"""Analysis of one song for the demo: its key, its keys over time, its self-similarity, and its embeddings.

Shapes: T frames, W windows, D hidden size.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mt2_music.song.embed import SongEmbedding, embed_audio
from mt2_music.feature_extraction.decoding import read_blocks
from mt2_music.song.keys import KeyEstimate, classify_key, key_calibration, knows_keys, rotate_to_c
from mt2_music.loading import load_config, load_extractor, load_model, provenance
from mt2_music.modeling_mt2 import WINDOWS_PER_CHUNK, MT2ForAudioClassification, MT2ForPreTraining, MT2PreTrainedModel
from mt2_music.music import KEY_LABELS
from mt2_music.options import DEFAULT_TRANSPOSITIONS
from mt2_music.collection.tables import Embeddings, read_embeddings
from mt2_music.train.plots.pictures import self_similarity

MAX_SECONDS = 600
SIGNATURE_HOP_SECONDS = 1.0
# Windows of one second rank the triad that sounds first most often; shorter and longer ones do so less often.
TRIAD_WINDOW_SECONDS, TRIAD_HOP_SECONDS = 1.0, 0.25


@dataclass(frozen=True)
class SongAnalysis:
    """What the demo shows of one song.

    Args:
        key: as `mt2 key` names it.
        signatures: key signature profile around every second, (seconds, 12), index = pitch class of the major key.
        triads: probabilities of `KEY_LABELS` in short windows, (W, 24).
        similarity: of the song with itself, as `self_similarity` returns it.
        vectors: embeddings (D,) by the names in `mt2_music.options.VECTORS`.
        seconds: how much of the song was analysed.
        cut: whether the song is longer than that.
    """

    key: KeyEstimate
    signatures: np.ndarray
    triads: np.ndarray
    similarity: np.ndarray
    vectors: dict[str, np.ndarray]
    seconds: float
    cut: bool


class SongAnalyser:
    """Analyses songs with a published model that names keys.

    Args:
        folder: folder, Hub name or short name, as `mt2_music.train.key` makes it.

    Raises:
        ValueError: the model does not name the 24 keys, or is not calibrated.
        OSError: nothing is there.
    """

    def __init__(self, folder: str | Path) -> None:
        if not knows_keys(load_config(folder)):
            raise ValueError(f"{folder} does not name keys: `python -m mt2_music.train.key` teaches it")
        self.extractor = load_extractor(folder)
        self.classifier = load_model(MT2ForAudioClassification, folder)
        self.pretrained = load_model(MT2ForPreTraining, folder)
        self.calibration = key_calibration(self.pretrained)
        self.source = provenance(folder, self.pretrained, self.extractor)

    def load_index(self, path: Path) -> Embeddings:
        """Read what `build_index.py` or `mt2 index` wrote.

        Raises:
            ValueError: another model or front end made it, so that embeddings cannot be compared; or it is no table of
                embeddings.
            FileNotFoundError: nothing is there.
        """
        index = read_embeddings([path])
        if not index.source.fits(self.source):
            raise ValueError(
                f"{path.name} was made by {' '.join(index.source)}, but the model is {' '.join(self.source)}: make "
                "the index again with build_index.py"
            )
        return index

    def analyse(self, file: Path) -> SongAnalysis:
        """Analyse a sound file, at most its first `MAX_SECONDS`.

        Raises:
            ValueError, FileNotFoundError: the file cannot be used; the message says why.
        """
        rate = self.extractor.sampling_rate
        samples, cut = read_start(file, rate)
        song = self.embed(samples, frames=True)
        features = self.extractor(samples, sampling_rate=rate, return_tensors="pt")["input_features"][0]
        longest = self.pretrained.config.max_frames
        signatures = self._in_windows(self.pretrained, features, longest, SIGNATURE_HOP_SECONDS)
        window = round(TRIAD_WINDOW_SECONDS * self.extractor.frame_rate)
        return SongAnalysis(
            classify_key(self.classifier, self.extractor, samples, rate, DEFAULT_TRANSPOSITIONS),
            np.stack([rotate_to_c(profile, self.calibration).numpy() for profile in signatures]),
            self._in_windows(self.classifier, features, window, TRIAD_HOP_SECONDS).numpy(),
            self_similarity(torch.from_numpy(song.frames)),
            song.vectors,
            song.seconds,
            cut,
        )

    def embed(self, samples: np.ndarray, frames: bool = False) -> SongEmbedding:
        """Embed samples, (N,) at the extractor's own rate, as `embed_audio` does."""
        return embed_audio(self.pretrained.mt2, self.extractor, samples, self.extractor.sampling_rate, frames=frames)

    @torch.no_grad()
    def _in_windows(self, model: MT2PreTrainedModel, features: Tensor, length: int, hop_seconds: float) -> Tensor:
        """Return probabilities in every window: (W, 12) of signatures, or (W, 24) of keys in `KEY_LABELS`."""
        hop = round(hop_seconds * self.extractor.frame_rate)
        probabilities = []
        label_ids: Any = model.config.label2id
        for batch in windows(features, length, hop).split(WINDOWS_PER_CHUNK):
            outputs = model(batch)
            if model is self.pretrained:
                probabilities.append(outputs.key_signature_profile)
            else:
                columns = [label_ids[label] for label in KEY_LABELS]
                probabilities.append(outputs.logits.softmax(-1)[:, columns])
        return torch.cat(probabilities)


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
