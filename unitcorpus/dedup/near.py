"""Near-duplicate texts: MinHash over word n-grams, candidates from LSH, in one pass.

A text is dropped if an earlier text that was kept is at least `threshold` similar to it: by the
share of equal slots in their MinHash signatures, which estimates the Jaccard similarity of their
n-gram sets with a standard error of sqrt(J (1 - J) / permutations), 0.035 at 0.8 and 128.
Invariant: the answer is a function of the texts in their order, the section and the seed; not of
how `add` was called, nor of threads, processes or hash seeds.

Sketches: rensa's R-MinHash (Fast Similarity Sketching, Dahlgaard et al. 2017, arXiv 1704.04370).
Bands: Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from unitcorpus.dedup.exact import normal_form
from unitcorpus.recipe.models import Near
from unitcorpus.seeds import seed_of

MISSED = 0.01  # of the pairs right at the threshold, the most that LSH may not look at
BATCH = 1 << 20  # characters; an n-gram costs about 100 bytes while its batch is hashed

# Odd 64-bit constants of splitmix64 (Steele, Lea & Flood 2014). All arithmetic is modulo 2^64.
BASE, MIX, MIX_AGAIN = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class NearDuplicates:
    """Feed all texts to `add` in their canonical order, then ask `finish`.

    Holds 4 x permutations bytes a text, and up to as much again in `finish`: at 128, about 1 GB for
    a million texts of which half are duplicates. Time is linear, but for crowds of kept texts just
    below the threshold: each is compared with all of its crowd.
    """

    def __init__(self, section: Near, seed: int) -> None:
        self._section = section
        self._seed = seed_of(seed, "minhash")
        self._signatures = bytearray()  # grows in place, where a list of arrays is held twice

    def add(self, texts: Sequence[str]) -> None:
        """The next texts."""
        for batch in batches(texts):
            self._signatures += self.signatures(batch).data

    def signatures(self, texts: Sequence[str]) -> NDArray[np.uint32]:
        """uint32 [texts, permutations]: the share of equal slots of two rows estimates their
        Jaccard similarity."""
        from rensa import RMinHash

        # A text without words is compared by its characters, as `text_hash` does.
        forms = [normal_form(text) or " ".join(text.split()) for text in texts]
        hashes, offsets = shingles(forms, self._section.ngram)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, self._section.permutations, self._seed
        )
        return np.array(matrix.to_rows(), np.uint32)

    def finish(self) -> NDArray[np.int64]:
        """For each text the index of the earliest kept one that it duplicates; -1: it is kept."""
        signatures = np.frombuffer(self._signatures, np.uint32)
        signatures = signatures.reshape(-1, self._section.permutations)
        groups, sizes = band_groups(signatures, *band_shape(self._section))
        kept = Kept(sizes)
        twins = np.full(len(signatures), -1, np.int64)
        for index in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
            own = groups[index][groups[index] >= 0]
            twins[index] = self._first_similar(signatures, index, kept.members(own))
            if twins[index] < 0:
                kept.add(index, own)
        return twins

    def _first_similar(
        self, signatures: NDArray[np.uint32], index: int, candidates: NDArray[np.int32]
    ) -> int:
        """The first candidate that `index` duplicates, or -1."""
        equal = (signatures[candidates] == signatures[index]).mean(axis=1)
        similar = candidates[equal >= self._section.threshold]
        return int(similar[0]) if len(similar) else -1


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in lists of about BATCH characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# --- word n-grams -----------------------------------------------------------------------------


def shingles(forms: list[str], n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hashes of the word n-grams of each text; the first text's come first.

    Words are parted by single spaces. A text of fewer than n words is one n-gram. Returns uint64
    [n-grams] and uint64 [texts + 1]: text t has [offsets[t] : offsets[t + 1]].

    An n-gram is a span of bytes, and its hash is that span's polynomial in BASE, modulo 2^64, then
    mixed. Spans of one text overlap, so all come from one running sum over the bytes.
    """
    data = np.frombuffer("".join(f"{form}\n" for form in forms).encode("utf-8", "replace"), "u1")
    ends = np.flatnonzero((data == ord(" ")) | (data == ord("\n")))  # of words
    starts = np.append(0, ends[:-1] + 1)
    last_words = np.flatnonzero(data[ends] == ord("\n"))
    first_words = np.append(0, last_words[:-1] + 1)
    first, last, offsets = windows(last_words - first_words + 1, n)
    return hash_spans(data, starts[first], ends[last]), offsets.astype(np.uint64)


def windows(
    lengths: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The n-grams of sequences that stand one after another: first and last item of each n-gram,
    and offsets [sequences + 1] of each sequence's. One of fewer than n items is one n-gram."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    grams = np.maximum(lengths + 1 - n, 1)
    offsets = np.append(0, np.cumsum(grams))
    first = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], grams)
    return first, np.minimum(first + n, np.repeat(ends, grams)) - 1, offsets


def hash_spans(
    data: NDArray[np.uint8] | NDArray[np.uint16],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    base: int = BASE,
) -> NDArray[np.uint64]:
    """A hash of data[start:end] for each span, wherever it lies. `base` is odd.

    With base > the greatest value + 1, spans of at most n values have no hash in common if
    base^n <= 2^64: the polynomial is then the span itself, and mixing is one-to-one.
    """
    weighted = (data + np.uint64(1)) * powers(base, len(data))
    sums = np.append(np.uint64(0), np.cumsum(weighted))
    inverse = powers(pow(base, -1, 1 << 64), len(data) + 1)
    return mixed((sums[ends] - sums[starts]) * inverse[starts])


def powers(base: int, count: int) -> NDArray[np.uint64]:
    """base^0 … base^(count - 1)."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every bit of a value changes half of the bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(MIX)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(MIX_AGAIN)
    return values ^ (values >> np.uint64(31))


# --- candidates -------------------------------------------------------------------------------


def band_shape(section: Near) -> tuple[int, int]:
    """How many bands of how many rows a signature is cut into.

    A pair of similarity s shares a band with probability 1 - (1 - s^rows)^bands. The most rows,
    and so the fewest false candidates, that leave out at most MISSED of the pairs right at the
    threshold: 21 bands of 6 rows for 0.8 and 128 (0.2 % left out; 28 % of pairs at 0.5 looked at).
    """
    for rows in range(section.permutations, 1, -1):
        bands = section.permutations // rows
        if (1 - section.threshold**rows) ** bands <= MISSED:
            return bands, rows
    return section.permutations, 1


def band_groups(
    signatures: NDArray[np.uint32], bands: int, rows: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Groups of texts that agree in a band.

    Returns int32 [texts, bands], the number of each text's group, -1 where it is alone; and the
    size of each group.
    """
    groups = np.empty((len(signatures), bands), np.int32)
    sizes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    used = 0
    for band in range(bands):
        keys = band_keys(signatures[:, band * rows : (band + 1) * rows])
        _, key, count = np.unique(keys, return_inverse=True, return_counts=True)
        number = np.where(count > 1, np.cumsum(count > 1) - 1 + used, -1)
        groups[:, band] = number[key]
        sizes.append(count[count > 1])
        used += len(sizes[-1])
    return groups, np.concatenate(sizes)


def band_keys(slots: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One key for the slots [texts, rows] of a band: equal where all of them are."""
    keys = np.zeros(len(slots), np.uint64)
    for column in slots.T:
        keys = mixed(keys * np.uint64(BASE) + column)
    return keys


class Kept:
    """The kept texts of each group. Arrays with room for all: lists would take gigabytes."""

    def __init__(self, sizes: NDArray[np.int64]) -> None:
        self._texts = np.empty(sizes.sum(), np.int32)
        self._begins = np.cumsum(sizes) - sizes
        self._ends = self._begins.copy()

    def members(self, groups: NDArray[np.int32]) -> NDArray[np.int32]:
        """The texts of any of these groups, ascending."""
        spans = zip(self._begins[groups].tolist(), self._ends[groups].tolist(), strict=True)
        texts = [self._texts[begin:end] for begin, end in spans if begin < end]
        return np.unique(np.concatenate(texts)) if texts else self._texts[:0]

    def add(self, text: int, groups: NDArray[np.int32]) -> None:
        """Put a text into these groups, which differ."""
        self._texts[self._ends[groups]] = text
        self._ends[groups] += 1
