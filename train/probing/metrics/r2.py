"""The share of the variance of numbers that is explained."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import r2_score

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


class R2(evaluate.Metric):
    """How much of the variance of each column is explained.

    Args:
        predictions, references: one list of numbers per item, all of one length.

    Returns:
        "r2": mean over columns of R2: 1 for exact values, 0 for the mean of the references, below 0 if worse.
        "r2_0", "r2_1", ...: R2 of each column.

    Raises:
        ValueError: different numbers of items or columns, a value that is not finite, or a column in which all
            references are equal, so that there is no variance.
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
        values, true = read_rows(predictions, "predictions"), read_rows(references, "references")
        if values.shape != true.shape:
            raise ValueError(f"predictions have {values.shape[1]} columns and references {true.shape[1]}")
        constant = np.flatnonzero(np.ptp(true, axis=0) == 0)
        if len(constant):
            raise ValueError(f"references are all equal in column {constant[0]}: R2 is not defined")
        columns = r2_score(true, values, multioutput="raw_values")
        return {"r2": float(columns.mean()), **{f"r2_{index}": float(r2) for index, r2 in enumerate(columns)}}
