"""NSynth: single notes."""

import json
from pathlib import Path

from mt2_music.train.probing.clips import SPLITS, Clip, Splits

from .files import DatasetFolder, locate_errors, no_clips


def load_nsynth_instrument(root: Path) -> Splits:
    """Load NSynth: notes of 4 s, labelled with the family of the instrument, such as "string".

    Layout:
        root/nsynth-train/examples.json, root/nsynth-train/audio/<note>.wav
        root/nsynth-valid/ and root/nsynth-test/ likewise

    Split: official. Validation and test share instruments with each other, but not with train. The family
    "synth_lead" occurs in train alone.

    Source: Engel et al. 2017 (arXiv:1704.01279).
    """
    return _nsynth(root, "instrument_family_str")


def load_nsynth_pitch(root: Path) -> Splits:
    """Load NSynth, labelled with the MIDI number, such as "57"; layout and split as for `load_nsynth_instrument`."""
    return _nsynth(root, "pitch")


def _nsynth(root: Path, field: str) -> Splits:
    folder = DatasetFolder("NSynth", root, load_nsynth_instrument)
    splits = no_clips()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        path = folder.find(f"nsynth-{name}/examples.json")
        with locate_errors(str(path)):
            examples = json.loads(path.read_text(encoding="utf-8")).items()
        for note, example in examples:
            with locate_errors(f"{path}, entry {note}"):
                clip = Clip(path.parent / "audio" / f"{note}.wav", str(example[field]), example["instrument_str"])
            splits[split].append(clip)
    return folder.present(splits)
