"""Rows that are kept while a long song passes by, in one block of memory."""

import torch
from torch import Tensor

FIRST_ROWS = 4096  # three hours of windows


class Rows:
    """Rows of numbers, added some at a time; on the CPU, wherever they were.

    A list of small tensors would do the same, but each would lie between the large ones that come and go, whose memory
    then never becomes one piece again: a song of three hours took twice the memory.

    Args:
        dtype: of what is kept.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._values: Tensor | None = None
        self._number = 0

    def add(self, rows: Tensor) -> None:
        """Add rows that follow, (rows, ...), all of one shape."""
        stop = self._number + len(rows)
        if self._values is None:
            self._values = torch.empty(max(stop, FIRST_ROWS), *rows.shape[1:], dtype=self.dtype)
        elif stop > len(self._values):
            larger = torch.empty(2 * stop, *self._values.shape[1:], dtype=self.dtype)
            larger[: self._number] = self._values[: self._number]
            self._values = larger
        self._values[self._number : stop] = rows
        self._number = stop

    @property
    def values(self) -> Tensor:
        """All rows, (rows, ...).

        Raises:
            ValueError: there are none.
        """
        if self._values is None:
            raise ValueError("there are no rows")
        return self._values[: self._number]
