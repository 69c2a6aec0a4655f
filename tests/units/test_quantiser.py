"""A row's unit is the nearest centroid by float64 distances, whatever is beside the row."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from unitcorpus.errors import UnitcorpusError
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.kmeans import CHUNK, Quantiser, assign, fit

Matrix = NDArray[np.float32]


def normal(rows: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def distances(features: Matrix, centroids: Matrix) -> NDArray[np.float64]:
    """Squared, in float64, [n, K]."""
    return np.stack([np.square(row.astype(np.float64) - centroids).sum(1) for row in features])


def border(rows: int, centroids: Matrix) -> Matrix:
    """Rows between two centroids, equally far from both but for the last bits of float32."""
    one, two = np.random.default_rng(1).integers(0, len(centroids), (2, rows))
    between: Matrix = (centroids[one] + centroids[two]) / np.float32(2)
    return between


@pytest.mark.parametrize(("width", "clusters"), [(39, 100), (768, 500)])
def test_units_are_those_of_faiss(width: int, clusters: int) -> None:
    centroids = normal(clusters, width)
    features = normal(700, width, 1) + centroids[np.arange(700) % clusters]
    index = faiss.IndexFlatL2(width)
    index.add(centroids)
    units = assign(features, Codebook(centroids, ""))
    assert units.dtype == np.uint16
    assert np.array_equal(units, index.search(features, 1)[1][:, 0])


def test_on_a_border_the_exact_distance_decides() -> None:
    centroids = 10 + normal(300, 64)  # far from 0: products cancel, and their rounding shows
    features = border(500, centroids)
    exact = distances(features, centroids)
    units = assign(features, Codebook(centroids, ""))
    assert np.array_equal(units, exact.argmin(1))
    norms = np.square(centroids).sum(1) / 2
    naive = (features @ centroids.T - norms).argmax(1)
    assert (naive != exact.argmin(1)).any(), "the rows are not hard enough to tell"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 199), min_size=1, max_size=40))
def test_a_row_has_the_same_unit_whatever_is_beside_it(rows: list[int]) -> None:
    centroids = 10 + normal(100, 24)
    features = border(200, centroids)
    quantise = Quantiser(Codebook(centroids, ""), "cpu")
    units = quantise(torch.from_numpy(features))
    assert np.array_equal(quantise(torch.from_numpy(features[rows])), units[rows])


@pytest.mark.parametrize("width", [1, 7, 768])
def test_an_exact_tie_goes_to_the_lowest_index(width: int) -> None:
    centroids = np.concatenate([normal(3, width), normal(3, width), np.ones((1, width), "f4")])
    assert assign(centroids, Codebook(centroids, "")).tolist() == [0, 1, 2, 0, 1, 2, 6]
    signs = np.stack([np.full(width, 2), -np.ones(width), np.ones(width)]).astype(np.float32)
    assert assign(np.zeros((3, width), "f4"), Codebook(signs, "")).tolist() == [1, 1, 1]


def test_a_long_utterance_with_nothing_but_ties_is_decided_in_pieces() -> None:
    centroids = np.repeat(normal(1, 8), 50, axis=0)
    units = assign(normal(CHUNK + 10, 8), Codebook(centroids, ""))
    assert units.tolist() == [0] * (CHUNK + 10)


def test_the_largest_codebook_fits_uint16() -> None:
    centroids = np.arange(65_536, dtype=np.float32)[:, None]
    units = assign(centroids[[0, 300, 65_535]], Codebook(centroids, ""))
    assert units.tolist() == [0, 300, 65_535]


def test_no_frames_give_no_units() -> None:
    units = assign(np.empty((0, 6), np.float32), Codebook(normal(4, 6), ""))
    assert units.shape == (0,)
    assert units.dtype == np.uint16


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_never_become_a_unit(value: float) -> None:
    features = normal(5, 6)
    features[3, 2] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        assign(features, Codebook(normal(4, 6), ""))


# --- fitting ------------------------------------------------------------------------------------

POINTS = normal(12, 5)[np.arange(3000) % 12] * 3 + normal(3000, 5, 1)


def test_a_fit_is_as_good_as_that_of_scikit_learn() -> None:
    centroids, inertia = fit(POINTS, 20, seed=0)
    reference = KMeans(20, n_init=3, random_state=0).fit(POINTS).inertia_ / len(POINTS)
    assert inertia == pytest.approx(distances(POINTS, centroids).min(1).mean())
    assert inertia < 1.03 * reference


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again, other = (fit(POINTS, 20, seed=seed)[0] for seed in (7, 7, 8))
    assert first.dtype == np.float32
    assert first.shape == (20, 5)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_every_row_counts_however_many_there_are() -> None:
    # faiss by default draws 256 rows of each cluster; the mean of all is the only right answer.
    centroids, _ = fit(POINTS, 1, seed=0)
    np.testing.assert_allclose(centroids[0], POINTS.mean(0), atol=1e-4)


def test_a_fit_leaves_the_threads_of_faiss_as_they_were() -> None:
    before = faiss.omp_get_max_threads()
    fit(POINTS[:100], 2, seed=0, threads=before + 1)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(("clusters", "message"), [(3001, "3000 frames are too few"), (0, "1 to")])
def test_a_fit_that_cannot_be_done_says_why(clusters: int, message: str) -> None:
    with pytest.raises(UnitcorpusError, match=message):
        fit(POINTS, clusters, seed=0)
