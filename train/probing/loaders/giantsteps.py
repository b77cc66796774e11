"""GiantSteps: keys of electronic music."""

import logging
from collections.abc import Collection
from pathlib import Path

from mt2_music.music import key_name, parse_key
from mt2_music.train.probing.clips import Clip, Splits

from .files import DatasetFolder, locate_errors, no_clips, read_rows, sha1

logger = logging.getLogger(__name__)


def load_giantsteps_key(root: Path) -> Splits:
    """Load the two key data sets of GiantSteps: electronic dance music, 2 min, labelled such as "Eb minor".

    Layout:
        root/giantsteps-key-dataset/annotations/key/<id>.LOFI.key
        root/giantsteps-key-dataset/audio/<id>.LOFI.mp3
        root/giantsteps-mtg-key-dataset/annotations/annotations.txt and beatport_metadata.txt
        root/giantsteps-mtg-key-dataset/audio/<id>.LOFI.mp3

    Tracks with several keys, with none, or annotated with less than full confidence are left out.

    Split: the first data set is the test, the second is train and validation at about 100 to 16 by a hash of the
    artist, where all who ever worked with an artist of validation are of validation too. Who made the test tracks is
    not known.

    Source: Knees et al., ISMIR 2015, github.com/GiantSteps; left out as in Korzeniowski and Widmer 2018
    (arXiv:1808.05340), split as in Castellon et al. 2021 (arXiv:2107.05677), but followed until nothing changes.
    """
    folder = DatasetFolder("GiantSteps", root, load_giantsteps_key)
    splits = no_clips()
    left_out = 0
    for path in sorted(folder.find("giantsteps-key-dataset/annotations/key").glob("*.key")):
        with locate_errors(f"{path}, line 1"):
            key = _single_key(path.read_text(encoding="utf-8"))
        if key is None:
            left_out += 1
        else:
            sound = root / "giantsteps-key-dataset" / "audio" / f"{path.stem}.mp3"
            splits["test"].append(Clip(sound, key, path.stem))
    path = folder.find("giantsteps-mtg-key-dataset/annotations/beatport_metadata.txt")
    artists = {}
    for line, row in read_rows(path, "ID", "ARTIST", delimiter="\t"):
        with locate_errors(f"{path}, line {line}"):
            artists[int(row["ID"])] = frozenset(artist.strip() for artist in row["ARTIST"].split(","))
    validation = _validation_artists(artists.values())
    path = folder.find("giantsteps-mtg-key-dataset/annotations/annotations.txt")
    for line, row in read_rows(path, "ID", "MANUAL KEY", "C", delimiter="\t"):
        with locate_errors(f"{path}, line {line}"):
            track = int(row["ID"])
            key = _single_key(row["MANUAL KEY"]) if int(row["C"]) == 2 else None
        if key is None:
            left_out += 1
        else:
            by = artists.get(track, frozenset({f"unknown artist of {track}"}))
            sound = root / "giantsteps-mtg-key-dataset" / "audio" / f"{track}.LOFI.mp3"
            splits["validation" if by & validation else "train"].append(Clip(sound, key, ", ".join(sorted(by))))
    if left_out:
        logger.info("GiantSteps: %d tracks have no single sure key and are left out", left_out)
    return folder.present(splits)


def _single_key(text: str) -> str | None:
    """Return a key by its usual name, or None where several are given or none."""
    if not text.strip() or "/" in text or "-" in text:
        return None
    return key_name(*parse_key(" ".join(text.split())))


def _validation_artists(tracks: Collection[frozenset[str]]) -> set[str]:
    everyone = {artist for artists in tracks for artist in artists}
    validation = {artist for artist in everyone if sha1(artist.lower()) % 116 >= 100}
    known = -1
    while len(validation) != known:
        known = len(validation)
        for artists in tracks:
            if artists & validation:
                validation |= artists
    return validation
