"""A histogram whose range grows with its values: bounded memory, exact counts, any order.

Bins are of equal width from 0; a value beyond the last one doubles the width by merging bins in
twos. So the counts depend on the values alone, never on the order or the portions they came in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 4096
FINEST = 2.0**-12
"""The width to begin with: values up to 1 are told apart to 1/4096."""


class Tally:
    """Counts of finite values, 0 or more. `counts` int64 [BINS]; bin i holds the values from
    i·width up to, but without, (i+1)·width."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.width = FINEST
        self.total = 0
        self.sum = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Counts `values` [n]."""
        if not len(values):
            return
        self._reach(float(values.max()))
        self.counts += np.bincount((values / self.width).astype(np.int64), minlength=BINS)
        self.total += len(values)
        self.sum += float(values.sum())

    def _reach(self, value: float) -> None:
        """Doubles the width until `value` has a bin."""
        while value >= self.width * BINS:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, np.int64)])
            self.width *= 2

    @property
    def mean(self) -> float:
        return self.sum / self.total if self.total else 0.0

    def quantile(self, q: float) -> float:
        """The value that a share `q` of all does not exceed, to within one bin; 0 for no values."""
        if not self.total:
            return 0.0
        rank = max(q * self.total, 1.0)
        reached = np.cumsum(self.counts)
        index = min(int(np.searchsorted(reached, rank)), BINS - 1)
        before = int(reached[index] - self.counts[index])
        inside = (rank - before) / int(self.counts[index])
        return (index + min(inside, 1.0)) * self.width

    def bars(self, low: float, high: float, width: float) -> NDArray[np.int64]:
        """Counts in bars of `width` from `low` to `high`, the last one with all that lies above.

        `low` and `width` are multiples of this tally's own width, so that no bin is cut.
        """
        first, step = round(low / self.width), round(width / self.width)
        number = max(round((high - low) / width), 1)
        edges = np.minimum(first + step * np.arange(number), BINS)
        starts = np.append(edges, BINS)
        reached = np.concatenate([[0], np.cumsum(self.counts)])
        return np.asarray(np.diff(reached[starts]), np.int64)
