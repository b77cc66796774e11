"""Free Music Archive: genres."""

import logging
from pathlib import Path

from mt2_music.train.probing.clips import Clip, Splits

from .files import DatasetFolder, locate_errors, no_clips, read_records

logger = logging.getLogger(__name__)

FMA_SUBSETS = ("small", "medium", "large")  # each holds the one before


def load_fma(root: Path, subset: str = "small") -> Splits:
    """Load the Free Music Archive: clips of 30 s, labelled with the top genre.

    Layout:
        root/fma_metadata/tracks.csv
        root/fma_small/000/000002.mp3, or fma_medium or fma_large

    Args:
        root: folder of the layout.
        subset: one of `FMA_SUBSETS`: 8 balanced genres, or 16 unbalanced ones. Tracks of no top genre, which only
            "large" has, are left out.

    Split: official, in which no artist is on two sides.

    Raises:
        ValueError: there is no such subset.

    Source: Defferrard et al., ISMIR 2017 (arXiv:1612.01840).
    """
    if subset not in FMA_SUBSETS:
        raise ValueError(f"no subset {subset!r}, only {FMA_SUBSETS}")
    folder = DatasetFolder("FMA", root, load_fma)
    sounds = folder.find(f"fma_{subset}")
    path = folder.find("fma_metadata/tracks.csv")
    wanted = FMA_SUBSETS[: FMA_SUBSETS.index(subset) + 1]
    split_names = {"training": "train", "validation": "validation", "test": "test"}
    splits = no_clips()
    unlabelled = 0
    records = read_records(path)
    with locate_errors(f"{path}, line 1"):
        # Names of columns stand in two rows, a third one names the index.
        (_, first), (_, second), _ = next(records), next(records), next(records)
        columns = list(zip(first, second, strict=True))
        fields = ("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id")
        places = [columns.index(field) for field in fields]
    for line, record in records:
        with locate_errors(f"{path}, line {line}"):
            held, split, genre, artist = (record[place] for place in places)
            if held not in wanted:
                continue
            name = f"{int(record[0]):06d}"
            clip = Clip(sounds / name[:3] / f"{name}.mp3", genre, artist)
            splits[split_names[split]] += [clip] if genre else []
        unlabelled += not genre
    if unlabelled:
        logger.info("FMA: %d tracks have no top genre and are left out", unlabelled)
    return folder.present(splits)
