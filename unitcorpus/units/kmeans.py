"""K-means: the nearest centroid of a feature vector, and fitting centroids with faiss.

A row's unit depends on that row and the codebook alone. A matrix product does not give that: its
last bits change with the number of rows (so do faiss's), and near a border between two units they
decide. So the product only narrows the choice, by a bound on its error; where more than one
centroid is left, float64 distances decide, and the lowest index wins an exact tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import UnitcorpusError
from unitcorpus.units.codebook import MAX_SIDE, Codebook

if TYPE_CHECKING:
    import torch

CHUNK = 4096
"""Rows that are worked on at once: bounds the memory of a long utterance."""

Init = Literal["random", "kmeans++"]

UNIT_ROUNDOFF = 2.0**-24


class Quantiser:
    """A codebook ready for use on one device.

    The error bound is that of float32 products: TF32 must be off, which is torch's default.
    """

    def __init__(self, codebook: Codebook, device: str) -> None:
        import torch

        self._centroids = torch.tensor(codebook.centroids, device=device)
        norms = self._centroids.double().square().sum(1)
        self._half_norms = (norms / 2).float()
        self._largest = float(norms.max().sqrt())

    def __call__(self, features: torch.Tensor) -> NDArray[np.uint16]:
        """The nearest centroid (L2) of each row of float32 [n, width], as uint16 [n].

        `features` is on the quantiser's device. Raises ValueError for NaN or infinity.
        """
        import torch

        with torch.inference_mode():
            units = torch.cat([self._nearest(chunk) for chunk in torch.split(features, CHUNK)])
        return units.cpu().numpy().astype(np.uint16)

    def _nearest(self, x: torch.Tensor) -> torch.Tensor:
        """Units int64 [n]. The nearest centroid has the largest x·c - |c|²/2."""
        import torch

        scores = torch.addmm(self._half_norms, x, self._centroids.T, beta=-1)
        best = scores.amax(1)
        if not bool(best.isfinite().all()):
            raise ValueError("features hold NaN or infinity")
        rows, units = (scores >= (best - self._slack(x))[:, None]).nonzero(as_tuple=True)
        return units if len(rows) == len(x) else self._decide(x, rows, units)

    def _slack(self, x: torch.Tensor) -> torch.Tensor:
        """By how much, at most, rounding can set two scores of a row apart, [n]: Higham, Accuracy
        and Stability of Numerical Algorithms, 3.1, for any order of summation."""
        import torch

        norms: torch.Tensor = torch.linalg.vector_norm(x, dim=1)
        factor = 2 * (x.shape[1] + 8) * UNIT_ROUNDOFF * self._largest
        return (norms + self._largest / 2) * factor

    def _decide(self, x: torch.Tensor, rows: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """One of the candidate pairs (row, unit) for each row, by exact distance."""
        import torch

        chosen = torch.full((len(x),), len(self._centroids), device=x.device)
        open_ = torch.bincount(rows, minlength=len(x))[rows] > 1
        chosen[rows[~open_]] = units[~open_]
        rows, units = rows[open_], units[open_]
        distances = torch.cat(
            [
                (x[row].double() - self._centroids[unit].double()).square().sum(1)
                for row, unit in zip(
                    torch.split(rows, CHUNK), torch.split(units, CHUNK), strict=True
                )
            ]
        )
        nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        nearest.scatter_reduce_(0, rows, distances, "amin")
        won = distances == nearest[rows]
        return chosen.scatter_reduce(0, rows[won], units[won], "amin")


def assign(features: NDArray[np.float32], codebook: Codebook) -> NDArray[np.uint16]:
    """The nearest centroid of each row of float32 [n, width], on the CPU."""
    import torch

    return Quantiser(codebook, "cpu")(torch.from_numpy(features))


def fit(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    iterations: int = 25,
    redos: int = 3,
    threads: int = 1,
    init: Init = "random",
) -> tuple[NDArray[np.float32], float]:
    """Centroids float32 [clusters, width] of float32 [n, width], and the mean squared distance of
    a row to its centroid.

    The best of `redos` runs of Lloyd's algorithm on all rows, from random rows or from those of
    k-means++ (Arthur & Vassilvitskii 2007). On one platform the same arguments give the same bytes;
    the number of threads is one of them. Raises UnitcorpusError for fewer rows than clusters.
    """
    import faiss

    if not 1 <= clusters <= MAX_SIDE:
        raise UnitcorpusError(f"{clusters} clusters: there can be 1 to {MAX_SIDE}")
    if len(features) < clusters:
        raise UnitcorpusError(
            f"{len(features)} frames are too few for {clusters} clusters; "
            "take more utterances or fewer clusters"
        )
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        rows = np.ascontiguousarray(features)
        if init == "random":
            centroids, _ = _lloyd(rows, clusters, seed, iterations, redos)
        else:  # where faiss chooses so, it does not try again by itself
            tries = (
                _lloyd(rows, clusters, seed + redo, iterations, 1, "KMEANS_PLUS_PLUS")
                for redo in range(redos)
            )
            centroids, _ = min(tries, key=lambda found: found[1])
    finally:
        faiss.omp_set_num_threads(before)
    return centroids, measure(features, centroids)[0]


def _lloyd(
    features: NDArray[np.float32],
    clusters: int,
    seed: int,
    iterations: int,
    redos: int,
    init: str = "RANDOM",
) -> tuple[NDArray[np.float32], float]:
    """(centroids, the sum of squared distances) of the best run."""
    import faiss

    options: dict[str, Any] = {
        "niter": iterations,
        "nredo": redos,
        "seed": seed % 2**31,
        "spherical": False,
        # All rows count, however few or many: by default faiss draws 256 of each cluster.
        "min_points_per_centroid": 1,
        "max_points_per_centroid": len(features),
    }
    options["init_method"] = getattr(faiss, f"ClusteringInitMethod_{init}")
    kmeans = faiss.Kmeans(features.shape[1], clusters, **options)
    objective = float(kmeans.train(features))
    return np.asarray(kmeans.centroids, dtype=np.float32), objective


def measure(
    features: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[float, NDArray[np.int64]]:
    """(mean squared distance of a row to its centroid, rows of each centroid int64 [clusters]).

    Read in pieces: `features` may lie in a file.
    """
    quantise = Codebook(centroids, "")
    usage = np.zeros(len(centroids), np.int64)
    total = 0.0
    for start in range(0, len(features), CHUNK):
        rows = np.array(features[start : start + CHUNK])
        units = assign(rows, quantise)
        usage += np.bincount(units, minlength=len(usage))
        total += float(np.square(rows.astype(np.float64) - centroids[units]).sum())
    return total / len(features), usage
