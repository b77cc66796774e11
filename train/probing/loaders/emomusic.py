"""EmoMusic: arousal and valence."""

import re
from pathlib import Path

from mt2_music.train.probing.clips import Clip, Splits

from .files import DatasetFolder, locate_errors, no_clips, parse_number, read_rows, sha1


def load_emomusic(root: Path) -> Splits:
    """Load Emotion in Music: clips of 45 s, labelled with the mean (arousal, valence) of listeners, each 1 to 9.

    Layout:
        root/annotations/static_annotations.csv with song_id, mean_arousal and mean_valence
        root/annotations/songs_info.csv with song_id, Artist and Mediaeval 2013 set
        root/clips_45seconds/<song_id>.mp3

    Split: the evaluation set of MediaEval 2013 is the test; its development set is split 8 to 2 by a hash of the
    artist's name without all but Latin letters.

    Source: Soleymani et al. 2013; the split as in Castellon et al. 2021 (arXiv:2107.05677).
    """
    folder = DatasetFolder("Emotion in Music", root, load_emomusic)
    path = folder.find("annotations/songs_info.csv")
    songs = {}
    for line, row in read_rows(path, "song_id", "Artist", "Mediaeval 2013 set"):
        with locate_errors(f"{path}, line {line}"):
            is_test = {"development": False, "evaluation": True}[row["Mediaeval 2013 set"]]
            artist = " ".join(re.sub(r"[^a-z\s]", "", row["Artist"].lower(), flags=re.ASCII).split())
            split = "test" if is_test else "train" if sha1(artist) % 10 < 8 else "validation"
            songs[int(row["song_id"])] = split, artist
    path = folder.find("annotations/static_annotations.csv")
    splits = no_clips()
    for line, row in read_rows(path, "song_id", "mean_arousal", "mean_valence"):
        with locate_errors(f"{path}, line {line}"):
            song = int(row["song_id"])
            label = parse_number(row["mean_arousal"]), parse_number(row["mean_valence"])
            split, artist = songs[song]
        splits[split].append(Clip(root / "clips_45seconds" / f"{song}.mp3", label, artist))
    return folder.present(splits)
