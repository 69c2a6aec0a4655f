"""Sets of n-grams are exact, and sketches of them as good as those of datasketch."""

from __future__ import annotations

import datasketch
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from unit_corpora import changed, random_units

from unitcorpus.dedup.near import BASE
from unitcorpus.dedup.ngrams import base_of, gram_sets, jaccard, unit_ngrams
from unitcorpus.dedup.sketch import signatures

Parts = list[list[int]]


def exact(parts: Parts, n: int) -> set[tuple[int, ...]]:
    """N-grams by Python, each with the number of its part."""
    return {
        (number, *units[i : i + n])
        for number, units in enumerate(parts)
        for i in range(max(1, len(units) - n + 1))
    }


def sets_of(samples: list[Parts], n: int, size: int = 500) -> list[np.ndarray]:
    flat = [unit for parts in samples for units in parts for unit in units]
    lengths = np.array([[len(units) for units in parts] for parts in samples])
    return gram_sets(np.array(flat, np.uint16), lengths, n, base_of(size, n))


sequences = st.lists(st.integers(0, 3), min_size=1, max_size=12)
samples = st.integers(1, 3).flatmap(
    lambda parts: st.lists(
        st.lists(sequences, min_size=parts, max_size=parts), min_size=2, max_size=6
    )
)


@given(samples, st.integers(1, 9))
def test_sets_and_similarities_are_those_of_python(given: list[Parts], n: int) -> None:
    found = sets_of(given, n)
    due = [exact(parts, n) for parts in given]
    assert [len(grams) for grams in found] == [len(grams) for grams in due]
    for i, one in enumerate(due):
        for j, other in enumerate(due):
            similarity = len(one & other) / len(one | other)
            assert jaccard(found[i], found[j]) == similarity


def test_ngrams_that_fit_have_no_number_in_common() -> None:
    """All bigrams and single units of a codebook: numbers of 64 bits, one each."""
    size = 90
    pairs = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1)
    lengths = np.array([2] * size**2 + [1] * size)
    units = np.concatenate([pairs, np.arange(size)]).astype(np.uint16)
    numbers, _ = unit_ngrams(units, lengths, 2, base_of(size, 2))
    assert len(np.unique(numbers)) == size**2 + size


@given(st.integers(1, 65_536), st.integers(1, 60))
def test_the_base_is_odd_and_exact_where_it_fits(size: int, n: int) -> None:
    base = base_of(size, n)
    assert base % 2 == 1
    assert base == BASE or (base > size and base**n <= 2**64)
    if n <= 3:
        assert base != BASE


def test_seven_units_of_500_are_exact_and_eight_are_hashed() -> None:
    assert base_of(500, 7) == 501
    assert base_of(500, 8) == BASE


def test_the_same_run_has_the_same_number_wherever_it_stands() -> None:
    rng = np.random.default_rng(0)
    run = random_units(rng, 50)
    units = [*random_units(rng, 30), *run, *random_units(rng, 7)]
    whole, _ = unit_ngrams(np.array(units, np.uint16), np.array([len(units)]), 50)
    alone, _ = unit_ngrams(np.array(run, np.uint16), np.array([50]), 50)
    assert np.flatnonzero(whole == alone[0]).tolist() == [30]


def test_signatures_estimate_as_well_as_those_of_datasketch() -> None:
    """Mean absolute error against exact Jaccard, over pairs of all similarities."""
    rng = np.random.default_rng(1)
    given: list[Parts] = []
    for _ in range(25):
        units = random_units(rng, 300)
        given += [[changed(rng, units, int(rng.integers(40)))] for _ in range(6)]
    sets = sets_of(given, 5)
    pairs = [(i, j) for j in range(len(given)) for i in range(j) if i // 6 == j // 6]
    due = np.array([jaccard(sets[i], sets[j]) for i, j in pairs])
    slots = signatures(sets, 128)
    ours = np.array([(slots[i] == slots[j]).mean() for i, j in pairs])
    sketches = [datasketch.MinHash(num_perm=128) for _ in given]
    for sketch, parts in zip(sketches, given, strict=True):
        sketch.update_batch([repr(gram).encode() for gram in exact(parts, 5)])
    theirs = np.array([sketches[i].jaccard(sketches[j]) for i, j in pairs])
    assert abs(ours - due).mean() < 1.1 * abs(theirs - due).mean()
    assert abs((ours - due).mean()) < 0.01
