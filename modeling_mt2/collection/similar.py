"""Songs that are like a song, among those that were embedded."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mt2_music.options import NUM_SIMILAR
from mt2_music.song.embed import SongEmbedding

from .tables import Embeddings

MIN_SONGS_TO_CENTRE = 8  # the mean of fewer says more about them than about what all music has in common
ALL_KEYS = range(-5, 7)  # semitones: every key once


def nearest(
    index: Embeddings, queries: np.ndarray, by: str = "mean", number: int = NUM_SIMILAR
) -> list[tuple[str, float]]:
    """Find the songs of an index that are nearest to a song, by an exact search.

    Args:
        index: from `read_embeddings`.
        queries: (hidden_size,); or several of one song, (queries, hidden_size), such as one for every key, of which
            the most similar counts.
        by: vector of the index to compare: "mean", "equivariant" or "contrastive".
        number: how many songs.

    Returns:
        File and similarity, most similar first: the cosine between what sets the two apart from the index's mean.

    Raises:
        ValueError: the index has no such vector, or one of another size; or less than one song is asked for.
    """
    if number < 1:
        raise ValueError(f"the number of songs must be at least 1, got {number}")
    if by not in index.vectors:
        raise ValueError(f"the index has no vectors {by!r}, only {', '.join(index.vectors)}")
    songs, queries = index.vectors[by], np.atleast_2d(queries)
    if queries.shape[1] != songs.shape[1]:
        raise ValueError(f"vectors of {queries.shape[1]} numbers do not fit an index of vectors of {songs.shape[1]}")
    if len(songs) >= MIN_SONGS_TO_CENTRE:
        centre = songs.mean(0)
        songs, queries = songs - centre, queries - centre
    similarity = (_unit(songs) @ _unit(queries).T).max(1)
    best = np.argsort(-similarity, kind="stable")[:number]
    return [(index.files[row], float(similarity[row])) for row in best]


def similar_songs(
    index: Embeddings, readings: Sequence[SongEmbedding], by: str = "mean", number: int = NUM_SIMILAR, own: Any = None
) -> list[tuple[str, float]]:
    """Find the songs of an index that are nearest to a song, the song itself left out.

    Args:
        index: of the same model.
        readings: embedding of the song, or one for each key it is pitched to (see `ALL_KEYS`).
        by, number: as of `nearest`, whose result and errors this function has.
        own: path of the song, if it has one; by another path it is the same file.
    """
    if by not in readings[0].vectors:
        raise ValueError(f"the model has no vectors {by!r}, only {', '.join(readings[0].vectors)}")
    found = nearest(index, np.stack([reading.vectors[by] for reading in readings]), by, number + 1)
    if isinstance(own, str | os.PathLike):
        path = os.path.realpath(own)
        found = [song for song in found if os.path.realpath(song[0]) != path]
    return found[:number]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)
