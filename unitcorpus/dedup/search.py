"""The greedy search: a sample is dropped if one that is preferred to it, and stays, is as similar.

Candidates agree in a band of their MinHash signatures; each is then measured: first by an upper
bound of the Jaccard similarity that 16 bits of each n-gram give, and where that reaches the
threshold, by the sets themselves. So every pair that is reported is as similar as is said; what may
be missed is a pair that agrees in no band (see `near.band_shape`).

Samples are taken in blocks whose sizes are fixed. Processes compare the samples of a block with
those that were kept before it, and with each other; what stays is then decided here, in order. The
answer is a function of the sketches alone, not of the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unitcorpus.dedup.near import band_shape
from unitcorpus.dedup.ngrams import jaccard
from unitcorpus.dedup.pool import Pool
from unitcorpus.dedup.sketch import Job, Sketches

FIRST_BLOCK, LAST_BLOCK = 64, 16_384
"""Samples of the first block; each next one is twice as large, up to the last."""
SLICE = 512
"""Samples of a task."""
CHUNK = 256
"""Candidates that are measured at once: bounds memory, and what is measured in vain."""


@dataclass(frozen=True)
class Twins:
    """`of` [samples]: the kept sample that each duplicates, or -1; `jaccard` [samples]: how similar
    the two are (0 for kept ones); `exact` [samples]: whether all units are the same."""

    of: NDArray[np.int64]
    jaccard: NDArray[np.float64]
    exact: NDArray[np.bool_]


def find_twins(
    sketches: Sketches,
    left_out: NDArray[np.bool_],
    workers: int,
    tick: Callable[[int, int], None] = lambda *_: None,
) -> Twins:
    """Exact and near-duplicates among all samples but those `left_out` [samples].

    `tick` is called with (samples done, samples that have candidates).
    """
    samples = len(sketches)
    twins = Twins(np.full(samples, -1), np.zeros(samples), np.zeros(samples, bool))
    _exact(sketches, left_out, twins)
    active = _write_groups(sketches, np.flatnonzero(~left_out & (twins.of < 0)))
    if len(active):
        kept = _Kept(sketches.job.work / "search", len(active))
        with Pool(workers, Looker, sketches.job) as pool:
            for begin, end in blocks(len(active)):
                _decide(active, kept, (begin, end), pool, twins)
                tick(end, len(active))
    _follow(twins)
    return twins


def _decide(
    active: NDArray[np.int64],
    kept: _Kept,
    block: tuple[int, int],
    pool: Pool[Looker],
    twins: Twins,
) -> None:
    """Keeps or drops the samples of a block, in order."""
    begin, end = block
    tasks = [(start, min(start + SLICE, end), begin) for start in range(begin, end, SLICE)]
    found = [similar for part in pool.map(Looker.compare, tasks) for similar in part]
    for sample, similar in zip(range(begin, end), found, strict=True):
        for other, similarity in similar:
            if other < begin or kept.open[other]:
                twins.of[active[sample]] = active[other]
                twins.jaccard[active[sample]] = similarity
                break
        else:
            kept.open[sample] = True
    kept.close(begin, end)


def blocks(samples: int) -> Iterator[tuple[int, int]]:
    begin, size = 0, FIRST_BLOCK
    while begin < samples:
        yield begin, min(begin + size, samples)
        begin, size = begin + size, min(2 * size, LAST_BLOCK)


def _exact(sketches: Sketches, left_out: NDArray[np.bool_], twins: Twins) -> None:
    """Finds the samples whose units are those of an earlier one."""
    rows = np.flatnonzero(~left_out)
    key = sketches.exact[rows]
    order = np.lexsort((rows, key[:, 1], key[:, 0]))
    ordered = key[order]
    first = np.ones(len(rows), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leader = rows[order][np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
    repeats = rows[order][~first]
    twins.of[repeats] = leader[~first]
    twins.jaccard[repeats] = 1.0
    twins.exact[repeats] = True


def _follow(twins: Twins) -> None:
    """What equals a sample that was dropped is as similar to the one that was kept for it."""
    repeats = np.flatnonzero(twins.exact)
    leader = twins.of[repeats]
    dropped = twins.of[leader] >= 0
    moved = repeats[dropped]
    twins.jaccard[moved] = twins.jaccard[leader[dropped]]
    twins.of[moved] = twins.of[leader[dropped]]
    twins.exact[moved] = False


# --- groups -------------------------------------------------------------------------------------
# On disk, since every process looks at them: `active` [a], the samples that agree with another in
# some band; `groups` [a, bands], the number of each one's group, -1 for none; `members`, the active
# samples of each group, ascending, group g at [begins[g] : begins[g + 1]].


def _write_groups(sketches: Sketches, rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Writes the groups of the samples `rest` and returns the active ones."""
    bands = band_shape(sketches.job.near)[0]
    folder = sketches.job.work / "search"
    folder.mkdir(parents=True, exist_ok=True)
    groups = np.full((len(rest), bands), -1, np.int32)
    counts: list[NDArray[np.int64]] = []
    used = 0
    for band in range(bands):
        _, inverse, count = np.unique(
            sketches.band(band)[rest], return_inverse=True, return_counts=True
        )
        shared = count > 1
        number = np.where(shared, np.cumsum(shared) - 1 + used, -1).astype(np.int32)
        groups[:, band] = number[inverse]
        counts.append(count[shared])
        used += len(counts[-1])
    alive = (groups >= 0).any(axis=1)
    groups, active = groups[alive], rest[alive]
    begins = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
    members = np.lib.format.open_memmap(folder / "members.npy", "w+", np.int32, (int(begins[-1]),))
    start = 0
    for band in range(bands):
        own = np.flatnonzero(groups[:, band] >= 0)
        order = np.argsort(groups[own, band], kind="stable")
        members[start : start + len(own)] = own[order]
        start += len(own)
    members.flush()
    for name, array in (("groups", groups), ("begins", begins), ("active", active)):
        np.save(folder / f"{name}.npy", array)
    return active


class _Kept:
    """The kept samples of each group, on disk: group g's at `kept`[begins[g] : ends[g]], ascending,
    where the processes see them. `open` says which of the current block stay."""

    def __init__(self, folder: Path, samples: int) -> None:
        self._groups = np.load(folder / "groups.npy", mmap_mode="r")
        begins = np.load(folder / "begins.npy")
        shape, room = (len(begins) - 1,), (int(begins[-1]),)
        self._ends = np.lib.format.open_memmap(folder / "ends.npy", "w+", np.int64, shape)
        self._ends[:] = begins[:-1]
        self._kept = np.lib.format.open_memmap(folder / "kept.npy", "w+", np.int32, room)
        self.open = np.zeros(samples, bool)

    def close(self, begin: int, end: int) -> None:
        """Puts what stays of a block into its groups."""
        stays = begin + np.flatnonzero(self.open[begin:end])
        own = np.asarray(self._groups[stays]).ravel()
        samples = np.repeat(stays, self._groups.shape[1])[own >= 0]
        own = own[own >= 0]
        order = np.argsort(own, kind="stable")
        own, samples = own[order], samples[order]
        group, first, count = np.unique(own, return_index=True, return_counts=True)
        rank = np.arange(len(own)) - np.repeat(first, count)
        self._kept[self._ends[own] + rank] = samples
        self._ends[group] += count


# --- in a process -------------------------------------------------------------------------------

Similar = list[tuple[int, float]]
"""Active samples and how similar they are."""


class Looker:
    """Looks for what a sample is similar to."""

    def __init__(self, job: Job) -> None:
        folder = job.work / "search"
        names = ("groups", "begins", "active", "members", "ends", "kept")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
        plain = {name: np.asarray(array) for name, array in arrays.items()}
        self._groups, self._begins, self._active = (plain[name] for name in names[:3])
        self._members, self._ends, self._kept = (plain[name] for name in names[3:])
        self._sketches = Sketches(job)
        self._threshold = job.near.threshold
        self._table = np.zeros(1 << 16, np.uint8)

    def compare(self, task: tuple[int, int, int]) -> list[Similar]:
        """Of `task` (begin, end, block), what `look` finds for each active sample."""
        begin, end, block = task
        return [self.look(sample, block) for sample in range(begin, end)]

    def look(self, sample: int, block: int) -> Similar:
        """The first of the active samples kept before the block that is similar to this one, or
        else all similar ones between the block's begin and this one."""
        groups = self._groups[sample]
        groups = groups[groups >= 0]
        begins = self._begins[groups].tolist()
        ends = self._ends[groups].tolist()
        kept = [self._kept[b:e] for b, e in zip(begins, ends, strict=True) if b < e]
        if kept and (first := next(self._similar(sample, np.unique(np.concatenate(kept))), None)):
            return [first]
        ends = self._begins[groups + 1].tolist()
        members = [self._members[b:e] for b, e in zip(begins, ends, strict=True)]
        near = [m[m.searchsorted(block) : m.searchsorted(sample)] for m in members]
        return list(self._similar(sample, np.unique(np.concatenate(near))))

    def _similar(self, sample: int, others: NDArray[np.int32]) -> Iterator[tuple[int, float]]:
        """Those of `others` that are similar enough, in order."""
        own = None
        for start in range(0, len(others), CHUNK):
            chunk = others[start : start + CHUNK]
            for other in chunk[self._bound(sample, chunk) >= self._threshold].tolist():
                if own is None:
                    own = self._sketches.grams(self._active[sample])
                found = jaccard(own, self._sketches.grams(self._active[other]))
                if found >= self._threshold:
                    yield other, found

    def _bound(self, sample: int, others: NDArray[np.int32]) -> NDArray[np.float64]:
        """No less than the Jaccard similarity of each: n-grams whose low 16 bits `sample` has, too,
        are counted as shared; of 400 some two are so by chance."""
        numbers = self._active[others]
        (own,) = self._sketches.low(self._active[[sample]])
        sizes = self._sketches.distinct[numbers].astype(np.int64)
        self._table[own] = 1
        hits = self._table.take(np.concatenate(self._sketches.low(numbers)))
        self._table[own] = 0
        shared = np.add.reduceat(hits, np.cumsum(sizes) - sizes, dtype=np.uint32).astype(np.int64)
        shared = np.minimum(shared, np.minimum(sizes, len(own)))
        bound: NDArray[np.float64] = shared / (len(own) + sizes - shared)
        return bound
