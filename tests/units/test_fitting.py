"""Codebooks from more frames than memory holds are as good as from all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from unitcorpus.units import fitting
from unitcorpus.units.fitting import Fitting, fit_features
from unitcorpus.units.kmeans import Init, measure
from unitcorpus.units.plot import plot_usage

Matrix = NDArray[np.float32]
WIDTH = 6
INITS: tuple[Init, ...] = ("random", "kmeans++")


def clouds(rows: int, spread: float) -> Matrix:
    """Rows around 30 centres, those of one centre not together; the more `spread`, the clearer."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, WIDTH)) * spread
    points = centres[rng.integers(30, size=rows)] + rng.standard_normal((rows, WIDTH))
    return points.astype(np.float32)


POINTS = clouds(8000, 1.5)
SMALL = 4 * WIDTH * 800
"""Memory for a tenth of them."""


@pytest.mark.parametrize("init", INITS)
def test_inertia_is_what_it_says_and_that_of_scikit_learn(init: Init) -> None:
    reference = KMeans(30, n_init=3, random_state=0).fit(POINTS).inertia_ / len(POINTS)
    found = fit_features(POINTS, 30, 0, init=init)
    exact = np.square(POINTS[:, None].astype(np.float64) - found.centroids).sum(2).min(1).mean()
    assert found.inertia == pytest.approx(exact, rel=1e-6)
    assert found.inertia <= 1.02 * reference


def test_starts_of_kmeans_plus_plus_find_clouds_that_random_ones_miss() -> None:
    points = clouds(3000, 5)
    random, plus = (
        sum(fit_features(points, 30, seed, init=init, redos=1).inertia for seed in range(5))
        for init in INITS
    )
    assert plus < random


def test_more_redos_are_never_worse() -> None:
    few, many = (fit_features(POINTS, 30, 3, init="kmeans++", redos=n) for n in (1, 6))
    assert many.inertia <= few.inertia


def test_mini_batches_are_as_good_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fitting, "BATCH", 500)
    POINTS.tofile(tmp_path / "features")
    mapped = np.memmap(tmp_path / "features", np.float32, "r").reshape(-1, WIDTH)
    whole = fit_features(POINTS, 30, 0, init="kmeans++")
    parts = fit_features(mapped, 30, 0, init="kmeans++", memory=SMALL)
    reference = MiniBatchKMeans(30, batch_size=500, n_init=3, random_state=0).fit(POINTS)
    assert (whole.batched, parts.batched) == (False, True)
    assert parts.inertia <= 1.05 * whole.inertia
    assert parts.inertia <= reference.inertia_ / len(POINTS)


def test_mini_batches_follow_what_the_sample_did_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of all frames is the only right answer for one cluster; a sample's is another."""
    monkeypatch.setattr(fitting, "BATCH", 500)
    found = fit_features(POINTS, 1, 0, memory=4 * WIDTH * 50)
    sampled = np.square(found.centroids[0] - POINTS.mean(0)).sum()
    assert sampled < 0.01 * np.square(POINTS.std(0)).sum() / 50


@pytest.mark.parametrize("memory", [SMALL, 1 << 30])
@pytest.mark.parametrize("init", INITS)
def test_the_same_seed_gives_the_same_bytes(init: Init, memory: int) -> None:
    first, again, other = (
        fit_features(POINTS[:2000], 20, seed, init=init, memory=memory) for seed in (7, 7, 8)
    )
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_usage_counts_every_frame_once() -> None:
    found = fit_features(POINTS, 25, 0)
    assert found.usage.sum() == len(POINTS)
    nearest = np.square(POINTS[:, None] - found.centroids).sum(2).argmin(1)
    assert np.array_equal(found.usage, np.bincount(nearest, minlength=25))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any))
def test_perplexity_lies_between_one_and_the_clusters_in_use(usage: list[int]) -> None:
    found = Fitting(np.empty((0, 0), np.float32), 0.0, np.array(usage), False)
    alive = sum(n > 0 for n in usage)
    assert found.dead == len(usage) - alive
    assert 1 - 1e-9 <= found.perplexity <= alive + 1e-9
    if len({n for n in usage if n}) == 1:
        assert found.perplexity == pytest.approx(alive)


def test_centroids_that_no_frame_is_near_are_dead() -> None:
    far = np.concatenate([POINTS[:3], np.full((2, WIDTH), 1e4, np.float32)])
    _, usage = measure(POINTS, far)
    assert (usage[:3] > 0).all()
    assert (usage[3:] == 0).all()


def test_a_plot_is_a_png_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_usage(tmp_path / name, np.array([5, 0, 3, 100]), "title")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == (tmp_path / "b.png").read_bytes()
