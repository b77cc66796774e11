"""Scores of estimated musical keys: the MIREX weighted score, and distances on the circle of fifths."""

import datasets
import evaluate
import mir_eval.chord
import numpy as np

# Of MIREX's audio key detection, as Raffel et al. 2014 give it. Our own copy: mir_eval's is free to change.
# By semitones from the reference's tonic up to the estimate's, and the two modes.
MIREX_WEIGHTS = {
    (0, "major", "major"): 1.0,
    (0, "minor", "minor"): 1.0,
    (7, "major", "major"): 0.5,  # a fifth above
    (7, "minor", "minor"): 0.5,
    (9, "major", "minor"): 0.3,  # the relative key
    (3, "minor", "major"): 0.3,
    (0, "major", "minor"): 0.2,  # the parallel key
    (0, "minor", "major"): 0.2,
}

CITATION = "Raffel et al. 2014, mir_eval: a transparent implementation of common MIR metrics. ISMIR."
CHORD_OF_MODE = {"major": "maj", "minor": "min"}


def parse_key(name: str) -> tuple[int, str]:
    """Split a key such as "Eb minor" into the pitch class of its tonic, 0 for C, and its mode.

    Raises:
        ValueError: it is not the name of a major or minor key.
    """
    try:
        tonic, mode = name.split()
        # Chord symbols know every spelling of a root, such as Cb; the keys of mir_eval do not.
        root, _, _ = mir_eval.chord.encode(f"{tonic.capitalize()}:{CHORD_OF_MODE[mode]}")
    except (AttributeError, KeyError, ValueError, mir_eval.chord.InvalidChordException):
        raise ValueError(f"unknown key {name!r}: expected a tonic and a mode, such as 'Eb minor'") from None
    return int(root), mode


def signature(key: tuple[int, str]) -> int:
    """Return the pitch class of the major key that has the same key signature."""
    tonic, mode = key
    return (tonic + 3) % 12 if mode == "minor" else tonic


class Key(evaluate.Metric):
    """How right keys are.

    Args:
        predictions, references: one key per item, such as "Eb minor". Spelling does not matter: C sharp major is
            D flat major.

    Returns:
        "mirex": mean of `MIREX_WEIGHTS`: 1 for the right key, 0.5 for a fifth above the reference in the same mode,
            0.3 for the relative key, 0.2 for the parallel key, 0 otherwise.
        "accuracy": share that is exactly right.
        "signature": share whose key signature is right, so the key itself or its relative.
        "fifth": share whose key signature is one fifth off, up or down, in any mode.

    Raises:
        ValueError: no items, different numbers of items, or an unknown key.
    """

    def _info(self):
        key = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=key, references=key),
        )

    def _compute(self, *, predictions, references):
        if not references:
            raise ValueError("there are no keys to score")
        estimated, true = ([parse_key(name) for name in names] for names in (predictions, references))
        weighted = [
            MIREX_WEIGHTS.get(((other[0] - key[0]) % 12, key[1], other[1]), 0.0)
            for key, other in zip(true, estimated, strict=True)
        ]
        semitones = np.array([signature(e) - signature(t) for e, t in zip(estimated, true, strict=True)]) % 12
        return {
            "mirex": float(np.mean(weighted)),
            "accuracy": float(np.mean([e == t for e, t in zip(estimated, true, strict=True)])),
            "signature": float(np.mean(semitones == 0)),
            "fifth": float(np.mean(np.isin(semitones, (5, 7)))),
        }
