"""GTZAN: genres, and beats of GTZAN-Rhythm."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mt2_music.train.probing.clips import SPLITS, Clip, Splits, split_by_group
from mt2_music.train.synth.score import Beat

from .ballroom import SAME_BEAT_SECONDS
from .files import DatasetFolder, first_present, labelled_clips, locate_errors, no_clips, parse_number, read_lines


def load_gtzan_genre(root: Path) -> Splits:
    """Load GTZAN: excerpts of 30 s, labelled with the genre.

    Layout:
        root/genres/<genre>/<genre>.00000.wav or .au
        root/train_filtered.txt, valid_filtered.txt and test_filtered.txt, of lines such as blues/blues.00029.wav

    Split: the lists, which leave out replicas, distortions and wrong labels. They are no part of the data set: see
    github.com/coreyker/dnn-mgr, folder gtzan, or github.com/jongpillee/music_dataset_split, folder GTZAN_split.

    Source: Tzanetakis and Cook 2002; the lists by Kereliuk, Sturm and Larsen 2015 (arXiv:1507.04761).
    """
    folder = DatasetFolder("GTZAN", root, load_gtzan_genre)
    splits = no_clips()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        path = folder.find(f"{name}_filtered.txt")
        for line, text in read_lines(path):
            with locate_errors(f"{path}, line {line}"):
                sound = _gtzan_sound(root, PurePosixPath(text).stem)
            splits[split].append(Clip(sound, sound.parent.name, sound.stem))
    return folder.present(splits)


def load_gtzan_rhythm(root: Path) -> Splits:
    """Load GTZAN-Rhythm: excerpts of 30 s, labelled with their beats, in seconds.

    Layout:
        root/genres/<genre>/<genre>.00000.wav or .au
        root/jams/<genre>.00000.wav.jams

    The position of beats before the first downbeat is unknown and given as 0. Excerpts without beats are left out.

    Split: ours, by excerpt. In the literature all of it is the test set of models trained on Ballroom; GTZAN holds
    replicas and many pieces of some artists, so its own test part flatters.

    Source: Marchand, Fresnel and Peeters, ISMIR 2015 late-breaking.
    """
    folder = DatasetFolder("GTZAN-Rhythm", root, load_gtzan_rhythm)
    clips = []
    for path in sorted(folder.find("jams").glob("*.jams")):
        with locate_errors(str(path)):
            sound = _gtzan_sound(root, path.name.removesuffix(".jams").removesuffix(".wav"))
            beats = _jams_beats(json.loads(path.read_text(encoding="utf-8")))
        clips.append(Clip(sound, beats, sound.stem))
    return folder.present(split_by_group(labelled_clips(clips, folder.name)))


def _jams_beats(jams: Any) -> tuple[Beat, ...]:
    """Join the two lists of a GTZAN-Rhythm annotation, which both have the namespace "beat"."""
    times: dict[str, list[float]] = {"beat": [], "downbeat": []}
    for annotation in jams["annotations"]:
        kind = annotation["sandbox"].get("annotation_type")
        if kind in times:
            times[kind] += [parse_number(item["time"]) for item in annotation["data"]]
    downbeats = times["downbeat"]
    others = [time for time in times["beat"] if all(abs(time - down) > SAME_BEAT_SECONDS for down in downbeats)]
    beats = []
    position = 0
    for time, is_downbeat in sorted([(time, True) for time in downbeats] + [(time, False) for time in others]):
        position = 1 if is_downbeat else position + 1 if position else 0
        beats.append(Beat(time, position))
    return tuple(beats)


def _gtzan_sound(root: Path, name: str) -> Path:
    if not re.fullmatch(r"[a-z]+\.\d{5}", name):
        raise ValueError(f"not a name of GTZAN: {name!r}; expected such as 'blues.00029'")
    stem = root / "genres" / name.partition(".")[0] / name
    return first_present(stem.with_name(f"{name}.wav"), stem.with_name(f"{name}.au"))
