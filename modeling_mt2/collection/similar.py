"""Songs that are like a song, among those that were embedded."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mt2_music.options import NUM_SIMILAR
from mt2_music.song.embed import SongEmbedding, whole_number

from .stores import identity
from .tables import Embeddings

MIN_SONGS_TO_CENTRE = 8  # the mean of fewer says more about them than about what all music has in common
ALL_KEYS = range(-5, 7)  # semitones: every key once
SAME_RECORDING = 0.95  # cosine of the "mean" vectors, nothing taken off: see `similar_songs`
ROWS_PER_BLOCK = 16_384  # of the index at once: bounds the memory beside it


class Statistics(NamedTuple):
    """What a search needs to know of the vectors of an index, whatever is searched.

    Args:
        centre: their mean, (hidden_size,); zero where there are too few.
        lengths: of the vectors after the centre was taken off, (songs,).
    """

    centre: np.ndarray
    lengths: np.ndarray


def nearest(
    index: Embeddings, queries: np.ndarray, by: str = "mean", number: int = NUM_SIMILAR
) -> list[tuple[str, float]]:
    """Find the songs of an index that are nearest to a song, by an exact search.

    Args:
        index: from `open_embeddings`.
        queries: (hidden_size,); or several of one song, (queries, hidden_size), such as one for every key, of which
            the most similar counts.
        by: vector of the index to compare: "mean", "equivariant" or "contrastive".
        number: how many songs.

    Returns:
        File and similarity, most similar first: the cosine between what sets the two apart from the index's mean.

    Raises:
        ValueError: the index has no such vector, or one of another size; or less than one song is asked for.
    """
    similarity = _similarities(index, queries, by, number)
    rows = next(_best_first(similarity, number))[:number]
    return [(index.files[row], float(similarity[row])) for row in rows]


def similar_songs(
    index: Embeddings,
    readings: Sequence[SongEmbedding],
    by: str = "mean",
    number: int = NUM_SIMILAR,
    own: Any = None,
    no_duplicates: bool = False,
) -> list[tuple[str, float]]:
    """Find the songs of an index that are nearest to a song, the song itself left out, and each file once.

    Args:
        index: of the same model.
        readings: embedding of the song, or one for each key it is pitched to (see `ALL_KEYS`).
        by, number: as of `nearest`, whose result and errors this function has.
        own: the song's path, or the open file; by another path it is the same file.
        no_duplicates: also leave out what is the same recording as the song, or as one before it: what has a cosine
            of at least `SAME_RECORDING` between the "mean" vectors, whatever `by` is. Which copies that
            finds, and how seldom it takes others for one, is in benchmarks/songs/robustness.md.
    """
    if by not in readings[0].vectors:
        raise ValueError(f"the model has no vectors {by!r}, only {', '.join(readings[0].vectors)}")
    queries = np.stack([reading.vectors[by] for reading in readings])
    similarity = _similarities(index, queries, by, number)
    path = own if isinstance(own, str | os.PathLike) else getattr(own, "name", None)
    seen = {identity(os.fspath(path))} if isinstance(path, str | os.PathLike) else set()
    as_it_is = readings[ALL_KEYS.index(0)] if len(readings) == len(ALL_KEYS) else readings[0]
    recordings = [_unit(as_it_is.vectors["mean"])]
    found: list[tuple[str, float]] = []
    for rows in _best_first(similarity, 2 * number):
        for row in rows:
            file = identity(index.files[row])
            if file in seen:
                continue
            seen.add(file)
            if no_duplicates:
                vector = _unit(index.vectors["mean"][row])
                if max(recording @ vector for recording in recordings) >= SAME_RECORDING:
                    continue
                recordings.append(vector)
            found.append((index.files[row], float(similarity[row])))
            if len(found) == number:
                return found
    return found


def _similarities(index: Embeddings, queries: np.ndarray, by: str, number: int) -> np.ndarray:
    """Return the similarity of every song of an index to a song, (songs,)."""
    if whole_number("number", number) < 1:
        raise ValueError(f"the number of songs must be at least 1, got {number}")
    if by not in index.vectors:
        raise ValueError(f"the index has no vectors {by!r}, only {', '.join(index.vectors)}")
    songs, queries = index.vectors[by], np.atleast_2d(queries)
    if queries.shape[1] != songs.shape[1]:
        raise ValueError(f"vectors of {queries.shape[1]} numbers do not fit an index of vectors of {songs.shape[1]}")
    if by not in index.statistics:
        index.statistics[by] = statistics_of(songs)
    centre, lengths = index.statistics[by]
    directions = np.ascontiguousarray(_unit(queries - centre).T, np.float32)
    offsets = centre @ directions  # what the centre has of each, instead of a copy of the index without it
    similarity = np.empty(len(songs), np.float32)
    for block in _blocks(len(songs)):
        similarity[block] = (songs[block] @ directions - offsets).max(1)
    return similarity / lengths


def statistics_of(songs: Any) -> Statistics:
    """Compute what a search needs to know of vectors, (songs, hidden_size), that are an array or `StoredVectors`."""
    centre = np.zeros(songs.shape[1], np.float32)
    if len(songs) >= MIN_SONGS_TO_CENTRE:
        sums = [songs[block].sum(0, dtype=np.float64) for block in _blocks(len(songs))]
        centre = (np.sum(sums, 0) / len(songs)).astype(np.float32)
    lengths = [np.linalg.norm(songs[block] - centre, axis=1) for block in _blocks(len(songs))]
    return Statistics(centre, np.concatenate(lengths).clip(min=1e-12))


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_PER_BLOCK) for start in range(0, rows, ROWS_PER_BLOCK))


def _best_first(similarity: np.ndarray, number: int) -> Iterator[np.ndarray]:
    """Yield all rows, the most similar first, some at a time: `number`, and then ever more."""
    done = 0
    while done < len(similarity):
        last = min(max(number, 4 * done), len(similarity))
        # Ties in the order of the rows, as in a sort of all.
        limit = np.partition(similarity, len(similarity) - last)[len(similarity) - last]
        rows = np.flatnonzero(similarity >= limit)
        rows = rows[np.argsort(-similarity[rows], kind="stable")]
        yield rows[done:]
        done = len(rows)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)
