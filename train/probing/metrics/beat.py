"""The F-measure of estimated beats."""

import datasets
import evaluate
import mir_eval.beat
import mir_eval.util
import numpy as np

CITATION = (
    "Davies et al. 2009, Evaluation methods for musical audio beat tracking algorithms. C4DM-TR-09-06. "
    "Raffel et al. 2014, mir_eval: a transparent implementation of common MIR metrics. ISMIR."
)
TOLERANCE_SECONDS = 0.07


def read_beats(times: list[float], name: str) -> np.ndarray:
    """Check the beats of one track.

    Raises:
        ValueError: a time is not a number, too large to be in seconds, or earlier than the one before.
    """
    beats = np.array(times or [], dtype=float)
    if not np.isfinite(beats).all():
        raise ValueError(f"{name}: beat times must be finite")
    try:
        mir_eval.util.validate_events(beats, mir_eval.beat.MAX_TIME)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return beats


class Beat(evaluate.Metric):
    """How many beats are found.

    Args:
        predictions, references: one list of ascending times in seconds per track. Predictions may be empty.
        min_beat_time: beats before it are left out, in seconds; by custom 5.

    Returns:
        "f1": mean over tracks of the F-measure, where a beat is right within 70 ms.
        "tracks": number of tracks in that mean; those whose reference has no beat left are not.

    Raises:
        ValueError: no tracks, different numbers of tracks, times that are no beat times, or no reference beat left
            in any track.
    """

    def _info(self):
        beats = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=beats, references=beats),
        )

    def _compute(self, *, predictions, references, min_beat_time=5.0):
        scores = []
        for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            true = mir_eval.beat.trim_beats(read_beats(reference, f"reference {index}"), min_beat_time)
            beats = mir_eval.beat.trim_beats(read_beats(prediction, f"prediction {index}"), min_beat_time)
            if len(true):
                # mir_eval warns when there are no beats.
                scores.append(mir_eval.beat.f_measure(true, beats, TOLERANCE_SECONDS) if len(beats) else 0.0)
        if not scores:
            raise ValueError(f"no track has a reference beat at or after {min_beat_time} s")
        return {"f1": float(np.mean(scores)), "tracks": len(scores)}
