"""Philharmonia Orchestra: single notes."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from mt2_music.audio.files import walk
from mt2_music.music import parse_pitch_class
from mt2_music.train.probing.clips import Clip, Splits, split_by_group

from .files import DatasetFolder, without_unknown_classes

logger = logging.getLogger(__name__)

PHILHARMONIA_NAME = re.compile(
    r"(?P<instrument>[^_]+)_(?P<note>[A-G]s?\d)_(?P<length>[^_]+)_(?P<dynamic>[^_]+)_(?P<articulation>[^_]+)"
)
UNSTEADY_ARTICULATIONS = ("trill", "gliss", "harmonic")
# Measured by autocorrelation on 75 and 83 recordings: most saxophones sound half a semitone above or below their name,
# and nearly all trombones that play forte or louder are named an octave too high.
MISNAMED_INSTRUMENTS = ("saxophone", "trombone")


def load_philharmonia_instrument(root: Path) -> Splits:
    """Load recordings of single instruments, labelled with the instrument.

    Layout:
        root/, or any folders in it: <instrument>_<note>_<length>_<dynamic>_<articulation>.mp3, .flac or .wav,
        such as violin_As3_15_forte_arco-normal.mp3, where As3 is A#3

    Percussion has no note in its names and is left out. Split: ours, by instrument and note, so that no note of an
    instrument is on two sides.

    Source: Philharmonia Orchestra, philharmonia.co.uk/resources/sound-samples.
    """
    return _philharmonia(root, lambda name: name["instrument"])


def load_philharmonia_pitch(root: Path) -> Splits:
    """Load recordings of single notes, labelled with the MIDI number, such as "57" for A3 (220 Hz).

    Layout and split as for `load_philharmonia_instrument`. Left out is what is no single steady note at the pitch of
    its name: phrases, trills, glissandi and harmonics, and all of `MISNAMED_INSTRUMENTS`.
    """

    def pitch(name: re.Match[str]) -> str | None:
        if name["length"] == "phrase" or name["instrument"] in MISNAMED_INSTRUMENTS:
            return None
        if any(word in name["articulation"] for word in UNSTEADY_ARTICULATIONS):
            return None
        return str(12 * (int(name["note"][-1]) + 1) + parse_pitch_class(name["note"][:-1].replace("s", "#")))

    return _philharmonia(root, pitch)


def _philharmonia(root: Path, label_of: Callable[[re.Match[str]], str | None]) -> Splits:
    folder = DatasetFolder("Philharmonia", root, load_philharmonia_instrument)
    clips, left_out = [], []
    for path in sorted(map(Path, walk(str(folder.find())).files)):
        name = PHILHARMONIA_NAME.fullmatch(path.stem)
        label = label_of(name) if name else None
        if name and label:
            clips.append(Clip(path, label, f"{name['instrument']} {name['note']}"))
        else:
            left_out.append(path)
    if left_out:
        logger.info("Philharmonia: %d recordings do not fit, such as %s", len(left_out), left_out[0].name)
    return without_unknown_classes(folder.present(split_by_group(clips)), folder.name)
