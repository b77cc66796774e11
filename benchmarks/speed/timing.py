"""Timing in turns: what disturbs the machine disturbs all that is compared."""

import time
from collections.abc import Callable

ROUNDS = 15


def best_in_turns(*runs: Callable[[], object]) -> list[float]:
    """Run each in turn, several times; return the best time of each in seconds."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, column in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            column.append(time.perf_counter() - start)
    return [min(column) for column in times]
