"""Fitting a codebook on more frames than memory holds, and what a codebook does with frames.

Up to a limit all frames are fitted at once by faiss (`kmeans.fit`). Beyond it a seeded sample is,
and its centroids then follow the rest in mini-batches (Sculley 2010, Web-scale k-means clustering):
each becomes the running mean of the frames that were nearest to it. Features are an array that may
lie in a file; they are read in pieces, so memory is bounded whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unitcorpus.seeds import seed_of
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.kmeans import Init, assign, fit, measure

BATCH = 65_536
"""Frames that are read at once; a mini-batch."""
EPOCHS = 2
"""How often mini-batches go over all frames."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """Centroids float32 [clusters, width], the mean squared distance of a frame to its own
    (`inertia`), the frames of each cluster (`usage` int64 [clusters]), and whether mini-batches
    were needed."""

    centroids: NDArray[np.float32]
    inertia: float
    usage: NDArray[np.int64]
    batched: bool

    @property
    def entropy(self) -> float:
        """Of a frame's unit, in bits: log2 of the clusters where all are used alike."""
        shares = self.usage[self.usage > 0] / self.usage.sum()
        return float(-(shares * np.log2(shares)).sum())

    @property
    def perplexity(self) -> float:
        """How many clusters, used alike, would have this entropy."""
        return float(2**self.entropy)

    @property
    def dead(self) -> int:
        """Clusters without a frame."""
        return int((self.usage == 0).sum())


def fit_features(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    *,
    init: Init = "random",
    redos: int = 3,
    threads: int = 1,
    memory: int = 4 << 30,
) -> Fitting:
    """Fits a codebook on float32 [frames, width], of which `memory` bytes may be held at once.

    On one platform the same arguments give the same bytes. Raises UnitcorpusError for too few
    frames.
    """
    frames, width = features.shape
    held = max(memory // (4 * width), clusters)
    how = {"init": init, "redos": redos, "threads": threads}
    if frames <= held:
        centroids, _ = fit(features, clusters, seed, **how)  # type: ignore[arg-type]
    else:
        rng = np.random.default_rng(seed_of(seed, "kmeans", "sample"))
        sample = np.sort(rng.choice(frames, held, replace=False))
        rows = features[sample]
        centroids, _ = fit(rows, clusters, seed, **how)  # type: ignore[arg-type]
        centroids = _follow(features, centroids, measure(rows, centroids)[1], seed)
    inertia, usage = measure(features, centroids)
    return Fitting(centroids, inertia, usage, frames > held)


def _follow(
    features: NDArray[np.float32],
    centroids: NDArray[np.float32],
    usage: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float32]:
    """The centroids, each the mean of `usage` frames already, after EPOCHS passes over all frames
    in mini-batches, in a seeded order."""
    means, seen = centroids.astype(np.float64), usage.copy()
    starts = np.arange(0, len(features), BATCH)
    for epoch in range(EPOCHS):
        rng = np.random.default_rng(seed_of(seed, "kmeans", "epoch", str(epoch)))
        for start in rng.permutation(starts).tolist():
            batch = np.array(features[start : start + BATCH])
            units = assign(batch, Codebook(means.astype(np.float32), ""))
            for unit, rows in _by_unit(units):
                seen[unit] += len(rows)
                means[unit] += (batch[rows].mean(0, dtype=np.float64) - means[unit]) * (
                    len(rows) / seen[unit]
                )
    return means.astype(np.float32)


def _by_unit(units: NDArray[np.uint16]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(unit, the rows that have it) for each unit there is."""
    order = np.argsort(units, kind="stable")
    found, first = np.unique(units[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, first[1:]), strict=True)
