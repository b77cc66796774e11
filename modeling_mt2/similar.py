"""Songs that are like a song, among those that were embedded: `mt2 similar`."""

import numpy as np

from .tables import Embeddings

MIN_SONGS_TO_CENTRE = 8  # the mean of fewer says more about them than about what all music has in common
ALL_KEYS = range(-5, 7)  # semitones: every key once


def nearest(index: Embeddings, queries: np.ndarray, by: str = "mean", number: int = 10) -> list[tuple[str, float]]:
    """Find the songs of an index that are nearest to a song, by an exact search.

    Args:
        index: from `read_embeddings`.
        queries: (hidden_size,); or several readings of one song, (readings, hidden_size), of which the most similar
            counts.
        by: vector of the index to compare: "mean", "equivariant" or "contrastive".
        number: how many songs.

    Returns:
        File and similarity, most similar first: the cosine between what sets the two apart from the index's mean.

    Raises:
        ValueError: the index has no such vector, or one of another size.
    """
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


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)
