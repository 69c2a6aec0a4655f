"""Sets of unit n-grams, and how much two of them share.

An n-gram is a number of 64 bits. Where (size + 2)^n <= 2^64 (n up to 7 for 500 units) it is the
n-gram itself, mixed one-to-one, so that sets and similarities are exact; longer ones are hashes,
and two of them are taken for one with a probability of 2^-64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unitcorpus.dedup.near import BASE, hash_spans, mixed, windows

Grams = NDArray[np.uint64]


def base_of(size: int, n: int) -> int:
    """The base in which n-grams of units below `size` are written: exact where that fits."""
    digit = (size + 1) | 1
    return digit if digit**n <= 1 << 64 else BASE


def unit_ngrams(
    units: NDArray[np.uint16], lengths: NDArray[np.int64], n: int, base: int = BASE
) -> tuple[Grams, NDArray[np.int64]]:
    """The n-grams of sequences that stand one after another, each of `lengths` units.

    A sequence of fewer than n units is one n-gram. Returns uint64 [n-grams] and int64 offsets
    [sequences + 1].
    """
    first, last, offsets = windows(lengths, n)
    return hash_spans(units, first, last + 1, base), offsets


def gram_sets(
    units: NDArray[np.uint16], lengths: NDArray[np.int64], n: int, base: int
) -> list[Grams]:
    """The set of n-grams of each sample, ascending. `lengths` [samples, parts]: the units of the
    parts stand one after another; the same n-gram in another part is another."""
    samples, parts = lengths.shape
    grams, offsets = unit_ngrams(units, lengths.ravel(), n, base)
    if parts > 1:
        part = np.repeat(np.tile(np.arange(parts, dtype=np.uint64), samples), np.diff(offsets))
        grams = mixed(grams + part)
    cuts = offsets[parts:-1:parts]
    return [np.unique(own) for own in np.split(grams, cuts)] if samples else []


def jaccard(one: Grams, other: Grams) -> float:
    """The share of all n-grams of two sets that both have."""
    both = np.concatenate([one, other])
    both.sort()
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)
