"""How many n-grams of a sequence occur a second time in it: what auto-BLEU counts.

Three ways to the same integers. `repeated_in_short` counts in dictionaries, since there one call of
numpy costs as much as ten tokens; `repeated_in_long` sorts one sequence, `repeated_in_each` many at
once, both in O(n log n) time and O(n) memory. n-grams are compared exactly, never by a hash alone.

A position is the start of an n-gram that lies wholly inside its sequence. `apart` says which other
positions count: any one, or only those whose n-gram does not overlap this one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Unsigned = NDArray[np.unsignedinteger[Any]]
LIMIT = 1 << 64
CHUNK = 1 << 16
"""Tokens that are sorted at once, where sequences are shorter: they stay in a core's cache."""


def repeated_in_short(tokens: Sequence[Hashable], order: int, apart: bool) -> int:
    """The positions of one sequence whose n-gram of `order` occurs at another position too."""
    grams = list(zip(*(tokens[start:] for start in range(order)), strict=False))
    if not apart or order == 1:
        return len(grams) - list(Counter(grams).values()).count(1)
    last = {gram: position for position, gram in enumerate(grams)}
    first: dict[tuple[Hashable, ...], int] = {}
    return sum(
        first.setdefault(gram, position) <= position - order or last[gram] >= position + order
        for position, gram in enumerate(grams)
    )


def repeated_in_long(tokens: Integers, order: int, apart: bool) -> int:
    """`repeated_in_short` of integers [tokens]."""
    if len(tokens) < order:
        return 0
    return int(np.count_nonzero(_again(tokens, order, apart)))


def repeated_in_each(
    tokens: Integers, offsets: NDArray[np.int64], order: int, apart: bool
) -> NDArray[np.int64]:
    """`repeated_in_short` of each sequence `tokens[offsets[i] : offsets[i + 1]]`, int64 [n]."""
    cuts = np.searchsorted(offsets, np.arange(CHUNK, offsets[-1], CHUNK))
    bounds = np.unique(np.concatenate([[0], cuts, [len(offsets) - 1]])).tolist()
    parts = [np.empty(0, np.int64)]
    for low, high in pairwise(bounds):
        chunk = tokens[offsets[low] : offsets[high]]
        parts.append(_repeated(chunk, np.diff(offsets[low : high + 1]), order, apart))
    return np.concatenate(parts)


def _repeated(
    tokens: Integers, lengths: NDArray[np.int64], order: int, apart: bool
) -> NDArray[np.int64]:
    """The counts of sequences of these lengths that follow one another in `tokens`."""
    grams = np.maximum(lengths - (order - 1), 0)
    some = grams > 0
    if not some.any():
        return grams
    # Positions without an n-gram belong to one more sequence, which sorts after all others.
    count = len(lengths)
    owners, runs = np.full(2 * count, count), np.empty(2 * count, np.int64)
    owners[::2], runs[::2], runs[1::2] = np.arange(count), grams, lengths - grams
    again = _again(tokens, order, apart, np.repeat(owners, runs), count + 1)
    starts = np.cumsum(grams) - grams
    grams[some] = np.add.reduceat(again[: grams.sum()], starts[some], dtype=np.int64)
    return grams


def _again(
    tokens: Integers, order: int, apart: bool, owners: Integers | None = None, count: int = 1
) -> NDArray[np.bool_]:
    """Whether each n-gram occurs again in its sequence, bool [tokens - order + 1], sorted by key.

    `owners` says whose each token is, below `count`: the keys sort by it first.
    """
    integers, width = _codes(tokens)
    size, overlap = len(tokens) - order + 1, apart and order > 1
    # Where the position goes below the key, it has half of its room to spare: see _again_apart.
    bits = len(tokens).bit_length() + 1 if overlap else 0
    narrow = (count * width**order) << bits <= 1 << 32
    codes: Unsigned = integers.astype(np.uint32 if narrow else np.uint64)
    # Mixed radix: a digit for the sequence, then one per token.
    keys: Unsigned
    if owners is None:
        keys, bound, digits = codes[:size], width, range(1, order)
    else:
        keys, bound, digits = owners[:size].astype(codes.dtype), count, range(order)
    for digit in digits:
        if bound * width > LIMIT:
            keys, bound = _ranks(keys)
        keys = keys * width
        keys += codes[digit : digit + size]
        bound *= width
    if not overlap:
        return _again_anywhere(keys)
    return _again_apart(_ranks(keys)[0] if bound << bits > LIMIT else keys, bits, order)


def _again_anywhere(keys: Unsigned) -> NDArray[np.bool_]:
    """Whether each of the keys, sorted, occurs more than once."""
    keys.sort()
    same = keys[1:] == keys[:-1]
    again = np.zeros(len(keys), np.bool_)
    again[1:] = same
    again[:-1] |= same
    return again


def _again_apart(keys: Unsigned, bits: int, order: int) -> NDArray[np.bool_]:
    """Whether each of the keys, sorted, occurs again at least `order` positions away.

    With its position below it, equal keys are neighbours, by position. Fewer than `order` of them
    begin inside one's own n-gram on either side: one that lies apart, if there is any, is also
    among the `order` nearest neighbours.
    """
    keys <<= bits
    keys |= np.arange(len(keys), dtype=keys.dtype)
    keys.sort()
    again = np.zeros(len(keys), np.bool_)
    for step in range(1, min(order, len(keys) - 1) + 1):
        # Equal keys are less than half the room apart and others more; what is too near wraps
        # round to more as well, so that one comparison does for all.
        distance = keys[step:] - keys[:-step]
        distance -= order
        apart = distance < (1 << (bits - 1)) - order
        again[step:] |= apart
        again[:-step] |= apart
    return again


def _codes(tokens: Integers) -> tuple[Integers, int]:
    """Integers equal where the tokens are, from 0 to below a width that leaves keys their room."""
    high = int(tokens.max())
    positive = tokens.dtype.kind == "u" or tokens.min() >= 0
    if positive and high < max(len(tokens), 1 << 16):
        return tokens, high + 1
    return _ranks(tokens)


def _ranks(values: Integers) -> tuple[Unsigned, int]:
    """Each value's place among the different values, and how many those are."""
    different, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.uint64), len(different)
