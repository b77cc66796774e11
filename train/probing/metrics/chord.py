"""Scores of estimated chords: the share of the time in which root, major or minor triad, or notes are right."""

import datasets
import evaluate
import mir_eval.chord
import mir_eval.util
import numpy as np

CITATION = (
    "Pauwels & Peeters 2013, Evaluating automatically estimated chord sequences. ICASSP. "
    "Raffel et al. 2014, mir_eval: a transparent implementation of common MIR metrics. ISMIR."
)
COMPARISONS = {"root": mir_eval.chord.root, "majmin": mir_eval.chord.majmin, "mirex": mir_eval.chord.mirex}
MAX_GAP_SECONDS = 0.01  # annotations are rounded; mir_eval lets the earlier chord last through a gap


def read_segments(track: dict[str, list], name: str) -> tuple[np.ndarray, list[str]]:
    """Check the chords of one track.

    Args:
        track: its "start", "end" and "label", of equal length.
        name: what to call it in an error.

    Returns:
        Starts and ends in seconds, (segments, 2), and the labels.

    Raises:
        ValueError: a segment lacks a time or label, is not a chord, or does not follow the one before.
    """
    start, end, labels = (track[field] or [] for field in ("start", "end", "label"))
    if not len(start) == len(end) == len(labels):
        raise ValueError(
            f"{name}: every segment needs a start, an end and a label, got {len(start)}, {len(end)} and {len(labels)}"
        )
    intervals = np.array([start, end], dtype=float).T
    if not (np.isfinite(intervals).all() and (intervals >= 0).all() and (intervals[:, 0] < intervals[:, 1]).all()):
        raise ValueError(f"{name}: times must be finite, not negative, and every end must come after its start")
    jumps = np.abs(intervals[1:, 0] - intervals[:-1, 1])
    if (jumps > MAX_GAP_SECONDS).any():
        first = int(np.argmax(jumps > MAX_GAP_SECONDS))
        raise ValueError(
            f"{name}: segments must follow each other, but one ends at {intervals[first, 1]} s and the next starts at "
            f"{intervals[first + 1, 0]} s; fill gaps with N (no chord) or X (unknown)"
        )
    for label in dict.fromkeys(labels):
        try:
            mir_eval.chord.encode(label)
        except (TypeError, mir_eval.chord.InvalidChordException):
            raise ValueError(f"{name}: {label!r} is not a chord label, such as 'Eb:min7/b3', 'N' or 'X'") from None
    return intervals, labels


class Chord(evaluate.Metric):
    """How much of the time chords are right, pooled over tracks.

    Args:
        predictions, references: one dictionary per track with "start" and "end" in seconds and "label" in the
            syntax of Harte et al. 2005, three lists of one length; segments in order, without gaps. Predictions
            are cut to the span of the reference, and filled up with N; they may be empty.

    Returns:
        Seconds that match by seconds compared, over all tracks. References outside a vocabulary are not compared.
        "root": the root is right.
        "majmin": root and major or minor triad are right; other triads are not compared.
        "mirex": at least three notes are shared; chords of fewer notes are not compared.

    Raises:
        ValueError: no tracks, different numbers of tracks, a track that is not as described, or a vocabulary in
            which there is nothing to compare.
    """

    def _info(self):
        times = datasets.List(datasets.Value("float64"))
        track = {"start": times, "end": times, "label": datasets.List(datasets.Value("string"))}
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=track, references=track),
        )

    def _compute(self, *, predictions, references):
        if not references:
            raise ValueError("there are no tracks to score")
        matched = dict.fromkeys(COMPARISONS, 0.0)
        compared = dict.fromkeys(COMPARISONS, 0.0)
        for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            true_intervals, true_labels = read_segments(reference, f"reference {index}")
            if not true_labels:
                raise ValueError(f"reference {index} has no segments")
            intervals, labels = read_segments(prediction, f"prediction {index}")
            none = mir_eval.chord.NO_CHORD
            span = true_intervals.min(), true_intervals.max()
            intervals, labels = mir_eval.util.adjust_intervals(intervals, labels, *span, none, none)
            intervals, true_labels, labels = mir_eval.util.merge_labeled_intervals(
                true_intervals, true_labels, intervals, labels
            )
            seconds = mir_eval.util.intervals_to_durations(intervals)
            for name, compare in COMPARISONS.items():
                scores = compare(true_labels, labels)
                inside = scores >= 0
                matched[name] += float(scores[inside] @ seconds[inside])
                compared[name] += float(seconds[inside].sum())
        for name, total in compared.items():
            if total == 0:
                raise ValueError(f"no reference chord is in the vocabulary of {name!r}")
        return {name: matched[name] / compared[name] for name in COMPARISONS}
