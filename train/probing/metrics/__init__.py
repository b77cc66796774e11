"""Metrics as modules of the `evaluate` library: `evaluate.load("<this folder>/key.py")` works offline."""

from pathlib import Path

import evaluate


def load_metric(name: str) -> evaluate.EvaluationModule:
    """Load a metric of this folder.

    Args:
        name: name of its file, such as "key".

    Returns:
        The metric. It keeps what it is given in memory: no file is left behind by a run, and two runs cannot meet.

    Raises:
        ValueError: there is no such metric.
    """
    paths = {path.stem: path for path in Path(__file__).parent.glob("[!_]*.py")}
    if name not in paths:
        raise ValueError(f"unknown metric {name!r}; known are {', '.join(sorted(paths))}")
    return evaluate.load(str(paths[name]), keep_in_memory=True)
