"""Ballroom: beats and tempo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mt2_music.audio.files import walk
from mt2_music.train.probing.clips import Clip, Splits, split_by_group
from mt2_music.train.synth.score import Beat

from .files import DatasetFolder, labelled_clips, locate_errors, parse_number, read_lines

# The second of each pair of equal recordings. Source: Sturm 2014, as given in the README of CPJKU/BallroomAnnotations.
BALLROOM_REPLICAS = """
    Albums-AnaBelen_Veneo-15 Albums-Ballroom_Magic-18 Albums-Chrisanne2-12 Albums-Fire-09 Albums-Latin_Jam-13
    Albums-Latin_Jam-14 Albums-Latin_Jam-15 Albums-Latin_Jam2-13 Albums-Latin_Jam2-14 Albums-Latin_Jam2-15
    Media-103414 Media-103415 Media-104705
""".split()
SAME_BEAT_SECONDS = 0.02


def load_ballroom_beats(root: Path) -> Splits:
    """Load Ballroom: excerpts of 30 s of dance music, labelled with their beats, in seconds.

    Layout:
        root/BallroomData/<dance>/<name>.wav
        root/BallroomAnnotations/<name>.beats, lines of time and position in the bar
        root/BallroomAnnotations/ballroomGroundTruth/<name>.bpm, for the tempo alone

    Thirteen recordings are there twice: the second of each is left out. Split: ours, by album, as far as names tell.

    Source: Gouyon et al. 2006 (sound), Krebs, Böck and Widmer, ISMIR 2013 (github.com/CPJKU/BallroomAnnotations; in
    older versions the position follows the number of the bar and a dot, which is read as well).
    """

    def beats(path: Path) -> tuple[Beat, ...]:
        found = []
        for line, text in read_lines(path):
            with locate_errors(f"{path}, line {line}"):
                time, position = text.split()
                found.append(Beat(parse_number(time), int(position.rpartition(".")[2])))
        return tuple(found)

    return _ballroom(root, beats, "BallroomAnnotations", "*.beats")


def load_ballroom_tempo(root: Path) -> Splits:
    """Load Ballroom, labelled with beats per minute; layout, replicas and split as for `load_ballroom_beats`.

    Source: Gouyon et al. 2006: the archive data2.tar.gz of the ISMIR 2004 tempo contest.
    """

    def tempo(path: Path) -> float:
        with locate_errors(f"{path}, line 1"):
            bpm = parse_number(path.read_text(encoding="utf-8"))
            if bpm <= 0:
                raise ValueError("a tempo must be above 0")
        return bpm

    return _ballroom(root, tempo, "BallroomAnnotations/ballroomGroundTruth", "*.bpm")


def _ballroom(root: Path, label_of: Callable[[Path], Any], folder_name: str, pattern: str) -> Splits:
    folder = DatasetFolder("Ballroom", root, load_ballroom_beats)
    sounds = {path.stem: path for path in map(Path, walk(str(folder.find("BallroomData"))).files)}
    clips = []
    for path in sorted(folder.find(folder_name).glob(pattern)):
        if path.stem in BALLROOM_REPLICAS:
            continue
        # Albums-<album>-<track> or Media-<album><track>, with two digits for the track
        album = path.stem[:-2].rstrip("-")
        clips.append(Clip(sounds.get(path.stem, root / "BallroomData" / f"{path.stem}.wav"), label_of(path), album))
    return folder.present(split_by_group(labelled_clips(clips, folder.name)))
