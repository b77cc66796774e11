"""The two accuracies of estimated tempi."""

import datasets
import evaluate
import numpy as np

CITATION = (
    "Gouyon et al. 2006, An experimental comparison of audio tempo induction algorithms. IEEE Transactions on Audio, "
    "Speech, and Language Processing 14(5)."
)
TOLERANCE = 0.04
ROUNDING = 1e-9  # so that a tempo at the very edge counts as within, whatever the last bit of the quotient
METRICAL_LEVELS = (1, 2, 3, 1 / 2, 1 / 3)


class Tempo(evaluate.Metric):
    """How right tempi are.

    Args:
        predictions, references: one tempo per item, in beats per minute.

    Returns:
        "acc1": share within 4 % of the reference.
        "acc2": share within 4 % of the reference, or of 2, 3, 1/2 or 1/3 times the reference.

    Raises:
        ValueError: no items, different numbers of items, or a tempo that is not above 0.
    """

    def _info(self):
        tempo = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=tempo, references=tempo),
        )

    def _compute(self, *, predictions, references):
        if not references:
            raise ValueError("there are no tempi to score")
        tempi, true = np.array(predictions, dtype=float), np.array(references, dtype=float)
        for name, values in (("predictions", tempi), ("references", true)):
            if not (np.isfinite(values) & (values > 0)).all():
                raise ValueError(f"{name}: a tempo must be above 0 bpm and finite")
        levels = np.array(METRICAL_LEVELS)[:, None] * true
        right = np.abs(tempi / levels - 1) <= TOLERANCE + ROUNDING
        return {"acc1": float(right[0].mean()), "acc2": float(right.any(0).mean())}
