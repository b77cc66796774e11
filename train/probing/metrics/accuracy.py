"""The share of right classes, over items and over classes."""

import datasets
import evaluate
import numpy as np

CITATION = "Brodersen et al. 2010, The balanced accuracy and its posterior distribution. ICPR."


class Accuracy(evaluate.Metric):
    """How right classes are.

    Args:
        predictions, references: one class per item, by name.

    Returns:
        "accuracy": share of items that are right.
        "balanced_accuracy": mean over the classes that occur in the references of the share that is found.

    Raises:
        ValueError: no items, different numbers of items, or an item without a class.
    """

    def _info(self):
        name = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(predictions=name, references=name),
        )

    def _compute(self, *, predictions, references):
        if not references:
            raise ValueError("there are no classes to score")
        if None in predictions or None in references:
            raise ValueError("every item needs a class")
        true = np.array(references)
        right = np.array(predictions) == true
        recalls = [right[true == name].mean() for name in np.unique(true)]
        return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls))}
