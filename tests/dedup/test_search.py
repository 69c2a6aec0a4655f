"""The greedy answer on exact similarities, by any number of processes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasketch
import numpy as np
import pytest
from unit_corpora import build_units, changed, random_units

import unitcorpus
from unitcorpus.dedup import search
from unitcorpus.dedup.search import Looker, Twins, blocks, find_twins
from unitcorpus.dedup.sketch import Job, Sketcher, Sketches, job_of
from unitcorpus.recipe.models import Near

NEAR = Near(threshold=0.7)


def families(seed: int, count: int, variants: int) -> list[dict[str, Any]]:
    """Shuffled variants of some sequences, from equal to hardly similar."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in range(count):
        units = random_units(rng, int(rng.integers(60, 300)))
        for variant in range(variants):
            changes = int(rng.choice([0, 1, 2, 4, 8, 20]))
            name = f"{family}-{variant}"  # also its text: else the plan drops equal rows
            rows.append({"id": name, "text": name, "units": changed(rng, units, changes)})
    random.Random(seed).shuffle(rows)
    return rows


def sketched(root: Path, near: Near = NEAR) -> Sketches:
    job = job_of(unitcorpus.open(root), root, root.with_suffix(".work"), near)
    for shard in job.shards:
        Sketcher(job).sketch(shard)
    return Sketches(job)


def found(sketches: Sketches, workers: int = 1, left_out: list[int] | None = None) -> Twins:
    mask = np.zeros(len(sketches), bool)
    mask[left_out or []] = True
    return find_twins(sketches, mask, workers)


def ngrams(units: Any, n: int = 5) -> set[tuple[int, ...]]:
    values = units.tolist()
    return {tuple(values[i : i + n]) for i in range(max(1, len(values) - n + 1))}


def similarity(one: set[tuple[int, ...]], other: set[tuple[int, ...]]) -> float:
    return len(one & other) / len(one | other)


def greedy(root: Path, sketches: Sketches, left_out: list[int] | None = None) -> list[int]:
    """The definition: each sample against every preferred one that stays."""
    corpus = unitcorpus.open(root)
    sets = [ngrams(corpus[sketches.key(i)].units) for i in range(len(sketches))]
    of: list[int] = []
    for i, own in enumerate(sets):
        stays = [j for j in range(i) if of[j] < 0 and j not in (left_out or [])]
        alike = (j for j in stays if similarity(sets[j], own) >= NEAR.threshold)
        of.append(-1 if i in (left_out or []) else next(alike, -1))
    return of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = families(0, 60, 5)
    return build_units(tmp_path_factory.mktemp("search") / "c", rows, samples=40, validation=0.2)


def test_answer_is_the_greedy_one(root: Path) -> None:
    sketches = sketched(root)
    due = greedy(root, sketches)
    twins = found(sketches)
    assert sum(of >= 0 for of in due) > 80
    assert twins.of.tolist() == due


def test_every_reported_similarity_is_exact(root: Path) -> None:
    sketches = sketched(root)
    twins = found(sketches)
    corpus = unitcorpus.open(root)
    for sample in np.flatnonzero(twins.of >= 0).tolist():
        one, other = (corpus[sketches.key(s)].units for s in (sample, int(twins.of[sample])))
        assert twins.jaccard[sample] == similarity(ngrams(one), ngrams(other)) >= NEAR.threshold
        assert twins.exact[sample] == np.array_equal(one, other)
        assert twins.of[twins.of[sample]] == -1
    assert not twins.jaccard[twins.of < 0].any()


def test_splits_other_than_train_stay_first(root: Path) -> None:
    sketches = sketched(root)
    keys = [sketches.key(i) for i in range(len(sketches))]
    order = [key for key in keys if not key.startswith("train")]
    assert keys == sorted(order) + sorted(set(keys) - set(order))
    twins = found(sketches)
    assert (twins.of < np.arange(len(keys))).all()
    lost = [keys[i] for i in np.flatnonzero(twins.of >= 0)]
    assert any(key.startswith("train") for key in lost)
    assert any(not key.startswith("train") for key in lost)  # of another of its kind


def test_what_is_left_out_neither_goes_nor_keeps_others_out(root: Path) -> None:
    sketches = sketched(root)
    every = found(sketches)
    kept = np.unique(every.of[every.of >= 0])[:10].tolist()
    assert found(sketches, left_out=kept).of.tolist() == greedy(root, sketches, kept)


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_and_slices_make_no_difference(
    root: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketches = sketched(root)
    alone = found(sketches)
    monkeypatch.setattr(search, "SLICE", 7)
    together = found(sketches, workers)
    assert np.array_equal(alone.of, together.of)
    assert np.array_equal(alone.jaccard, together.jaccard)


def test_blocks_make_no_difference(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sketches = sketched(root)
    alone = found(sketches)
    for first in (1, 1000):
        monkeypatch.setattr(search, "FIRST_BLOCK", first)
        assert np.array_equal(found(sketches).of, alone.of)


def test_the_bound_is_never_below_the_similarity(root: Path) -> None:
    sketches = sketched(root)
    found(sketches)
    looker = Looker(sketches.job)
    active = looker._active
    sets = [set(sketches.grams(int(s)).tolist()) for s in active]
    others = np.arange(len(active), dtype=np.int32)
    for sample in range(0, len(active), 9):
        bound = looker._bound(sample, others)
        due = [len(sets[sample] & own) / len(sets[sample] | own) for own in sets]
        assert (bound >= due).all()
        assert np.median(bound - due) < 0.01


def test_candidates_are_at_least_those_of_datasketch(root: Path) -> None:
    """Pairs at or above the threshold that datasketch's LSH finds, and ours does not settle."""
    sketches = sketched(root)
    corpus = unitcorpus.open(root)
    sets = [ngrams(corpus[sketches.key(i)].units) for i in range(len(sketches))]
    lsh = datasketch.MinHashLSH(threshold=NEAR.threshold, num_perm=128)
    hashes = []
    for number, grams in enumerate(sets):
        minhash = datasketch.MinHash(num_perm=128)
        minhash.update_batch([repr(gram).encode() for gram in grams])
        hashes.append(minhash)
        lsh.insert(number, minhash)
    twins = found(sketches)
    pairs = {(min(i, j), max(i, j)) for i, m in enumerate(hashes) for j in lsh.query(m) if i != j}
    alike = [(i, j) for i, j in pairs if similarity(sets[i], sets[j]) >= NEAR.threshold]
    assert len(alike) > 100
    assert all(twins.of[i] >= 0 or twins.of[j] >= 0 for i, j in alike)


def test_a_crowd_of_equal_samples_keeps_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    units = random_units(rng, 100)
    # Published durations differ, so that the plan keeps all: the units are what is compared.
    rows = [
        {"id": str(i), "units": units, "durations": [1 + i % 50] * 100, "text": str(i)}
        for i in range(40)
    ]
    sketches = sketched(build_units(tmp_path / "c", rows))
    twins = found(sketches)
    assert twins.of.tolist() == [-1] + [0] * 39
    assert twins.exact.tolist() == [False] + [True] * 39


def test_what_equals_a_dropped_sample_is_told_of_the_one_that_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = []
    for family in range(20):
        units = random_units(rng, 200)
        near = changed(rng, units, 1)
        rows += [
            {"id": f"{family}-{i}", "text": f"{family} {i}", "units": u}
            for i, u in enumerate([units, near, near])
        ]
    twins = found(sketched(build_units(tmp_path / "c", rows)))
    assert (twins.of == -1).sum() == 20
    assert (twins.of[twins.of[twins.of >= 0]] == -1).all()
    # Where the odd one of three comes first, two are near it; else one is, and one is equal.
    assert 0 < twins.exact.sum() < 20
    assert (twins.jaccard[twins.exact] == 1).all()


def test_short_samples_are_alike_only_as_a_whole(tmp_path: Path) -> None:
    given = [[1, 2], [1, 2], [1, 3], [1], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]
    rows = [{"id": str(i), "units": u, "text": str(i)} for i, u in enumerate(given)]
    sketches = sketched(build_units(tmp_path / "c", rows))
    twins = found(sketches)
    assert (twins.of >= 0).sum() == 1
    assert twins.exact.sum() == 1


def test_nothing_alike_finds_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [{"id": str(i), "units": random_units(rng, 50)} for i in range(9)]
    assert (found(sketched(build_units(tmp_path / "c", rows))).of == -1).all()


@pytest.mark.parametrize("samples", [0, 1, 63, 64, 65, 200_000])
def test_blocks_cover_all_samples_once(samples: int) -> None:
    spans = list(blocks(samples))
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert sum(end - begin for begin, end in spans) == samples


def test_a_job_crosses_to_a_process_whole(root: Path) -> None:
    import pickle

    job = sketched(root).job
    assert isinstance(job, Job)
    assert pickle.loads(pickle.dumps(job)) == job
