"""MagnaTagATune: tags."""

from collections import Counter
from pathlib import Path, PurePosixPath

from mt2_music.train.probing.clips import SPLITS, Clip, Splits

from .files import DatasetFolder, locate_errors, no_clips, read_rows


def load_magnatagatune(root: Path) -> Splits:
    """Load MagnaTagATune: clips of 29 s, labelled with those of the 50 most frequent tags that apply, maybe none.

    Layout:
        root/annotations_final.csv, tab-separated: clip_id, a column of 0 and 1 for each tag, mp3_path
        root/0/*.mp3 to root/f/*.mp3

    Split: folders 0 to b train, c validation, d to f test; tags are counted over all. The group is the recording that
    a clip was cut from.

    Source: Law et al., ISMIR 2009; the split as in Dieleman and Schrauwen, ICASSP 2014.
    """
    folder = DatasetFolder("MagnaTagATune", root, load_magnatagatune)
    path = folder.find("annotations_final.csv")
    rows = []
    counts: Counter[str] = Counter()
    for line, row in read_rows(path, "clip_id", "mp3_path", delimiter="\t"):
        with locate_errors(f"{path}, line {line}"):
            sound = row.pop("mp3_path")
            del row["clip_id"]
            if not {"0", "1"}.issuperset(row.values()):
                raise ValueError("tags must be 0 or 1")
            part = int(sound.partition("/")[0], 16)
            tags = [tag for tag, value in row.items() if value == "1"]
        counts.update(tags)
        rows.append((SPLITS[(part >= 0xC) + (part >= 0xD)], sound, tags))
    top = set(sorted(counts, key=lambda tag: (-counts[tag], tag))[:50])
    splits = no_clips()
    for split, sound, tags in rows:
        recording = PurePosixPath(sound).stem.rsplit("-", 2)[0]  # without start and end of the clip in seconds
        splits[split].append(Clip(root / sound, tuple(tag for tag in tags if tag in top), recording))
    return folder.present(splits)
