"""MTG-Jamendo: tags."""

from pathlib import Path

from mt2_music.train.probing.clips import SPLITS, Clip, Splits

from .files import DatasetFolder, first_present, locate_errors, no_clips, read_lines


def load_mtg_jamendo(root: Path) -> Splits:
    """Load MTG-Jamendo: whole tracks, labelled with those of the 50 most frequent tags that apply.

    Layout:
        root/data/splits/split-0/autotagging_top50tags-train.tsv, -validation.tsv and -test.tsv
        root/audio/00/1234.mp3 or 1234.low.mp3

    Labels are such as "genre---rock". Split: official split 0, in which no artist is on two sides.

    Source: Bogdanov et al. 2019, github.com/MTG/mtg-jamendo-dataset.
    """
    folder = DatasetFolder("MTG-Jamendo", root, load_mtg_jamendo)
    splits = no_clips()
    for split in SPLITS:
        path = folder.find(f"data/splits/split-0/autotagging_top50tags-{split}.tsv")
        for line, text in read_lines(path):
            if line == 1:
                continue
            with locate_errors(f"{path}, line {line}"):
                _, artist, _, name, _, *tags = text.split("\t")
                if not tags or not name.endswith(".mp3"):
                    raise ValueError("expected track, artist, album, path, duration and at least one tag")
            sound = root / "audio" / name
            sound = first_present(sound, sound.with_suffix(".low.mp3"))
            splits[split].append(Clip(sound, tuple(tags), artist))
    return folder.present(splits)
