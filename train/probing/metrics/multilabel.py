"""Scores of rankings for items with several labels each, such as tags."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

CITATION = "Pedregosa et al. 2011, Scikit-learn: machine learning in Python. Journal of Machine Learning Research 12."


def read_rows(rows: list[list[float]], name: str) -> np.ndarray:
    """Turn one row of numbers per item into a matrix.

    Raises:
        ValueError: there are no rows, they are empty or differ in length, or a number is not finite.
    """
    if not rows:
        raise ValueError(f"{name}: there are no items to score")
    if not rows[0] or any(row is None or len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"{name}: every item needs the same number of values, at least one")
    matrix = np.array(rows, dtype=float)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name}: values must be finite")
    return matrix


class Multilabel(evaluate.Metric):
    """How well scores rank the items of each label.

    Args:
        predictions: one list of scores per item, one per label; higher is more likely, at any scale.
        references: one list of 0 or 1 per item, one per label.

    Returns:
        "map": mean over labels of the average precision.
        "roc_auc": mean over labels of the area under the receiver operating characteristic.
        "labels": number of labels in these means; those without a positive or without a negative are left out.

    Raises:
        ValueError: no items, different numbers of items or labels, references other than 0 and 1, or no label
            with both a positive and a negative.
    """

    def _info(self):
        row = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=row, references=row),
        )

    def _compute(self, *, predictions, references):
        scores, true = read_rows(predictions, "predictions"), read_rows(references, "references")
        if scores.shape != true.shape:
            raise ValueError(f"predictions have {scores.shape[1]} labels and references {true.shape[1]}")
        if not np.isin(true, (0, 1)).all():
            raise ValueError("references must be 0 or 1")
        both = (true == 0).any(0) & (true == 1).any(0)
        if not both.any():
            raise ValueError("no label has both a positive and a negative reference")
        return {
            "map": float(average_precision_score(true[:, both], scores[:, both], average="macro")),
            "roc_auc": float(roc_auc_score(true[:, both], scores[:, both], average="macro")),
            "labels": int(both.sum()),
        }
