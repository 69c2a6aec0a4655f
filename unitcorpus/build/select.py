"""Which rows a plan keeps, and in what order: a function of the set of rows, not of their order.

Rows are ordered by a hash of (seed, id), which also shuffles the corpus once and for all. Of rows
with one id, the one whose content hashes lowest stays. Of equal texts, one outside `train` stays
before one in it (a test set must not leak), then the first in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.spool import Spool
from unitcorpus.dedup.near import NearDuplicates
from unitcorpus.recipe.models import Recipe
from unitcorpus.seeds import fraction

BATCH = 2048
KEPT, DUPLICATE_ID, DUPLICATE_TEXT, NEAR_DUPLICATE = range(4)
REASONS = {
    DUPLICATE_ID: "duplicate_id",
    DUPLICATE_TEXT: "duplicate_text",
    NEAR_DUPLICATE: "near_duplicate",
}


@dataclass(frozen=True)
class Selection:
    """`verdict` [rows] says what became of each row, `of` [rows] the row it duplicates (or -1),
    `splits` the kept rows of each split in the corpus's order."""

    verdict: NDArray[np.int8]
    of: NDArray[np.int64]
    splits: dict[str, NDArray[np.int64]]


def select(spool: Spool, recipe: Recipe, text_of: Callable[[int], str]) -> Selection:
    """Decides on every row of a frozen spool."""
    names, split = _splits(spool, recipe)
    in_train = split == names.index("train") if "train" in names else np.ones(len(spool), bool)
    verdict = np.zeros(len(spool), np.int8)
    of = np.full(len(spool), -1, np.int64)

    everyone = np.arange(len(spool))
    _drop_repeats(everyone, spool.id_hash, spool.content, DUPLICATE_ID, verdict, of)
    kept = np.flatnonzero(verdict == KEPT)
    priority = np.stack([in_train.astype(np.uint64), spool.order], axis=1)
    if recipe.dedup.exact:
        _drop_repeats(kept, spool.duplicate, priority, DUPLICATE_TEXT, verdict, of)
    if recipe.dedup.near is not None:
        kept = np.flatnonzero(verdict == KEPT)
        kept = kept[np.lexsort((priority[kept, 1], priority[kept, 0]))]
        _drop_near(kept, recipe, text_of, verdict, of)

    kept = np.flatnonzero(verdict == KEPT)
    kept = kept[np.lexsort((spool.id_hash[kept, 0], spool.order[kept]))]
    return Selection(verdict, of, {n: kept[split[kept] == i] for i, n in enumerate(names)})


def _splits(spool: Spool, recipe: Recipe) -> tuple[list[str], NDArray[np.int64]]:
    """The split of each row: the source's own, else drawn by a hash of the id."""
    names = sorted({name or "train" for name in spool.splits} | {"train"} - set(spool.splits))
    own = np.array([names.index(n or "train") for n in spool.splits], np.int64)
    split = own[spool.split] if len(own) else spool.split
    if any(spool.splits) or not recipe.validation:
        return names, split
    drawn = [
        fraction(recipe.seed, "validation", spool.read(row)[0]) < recipe.validation
        for row in range(len(spool))
    ]
    return ["train", "validation"], np.array(drawn, np.int64)


def _drop_repeats(
    rows: NDArray[np.int64],
    key: NDArray[np.uint64],
    priority: NDArray[np.uint64],
    reason: int,
    verdict: NDArray[np.int8],
    of: NDArray[np.int64],
) -> None:
    """Of `rows` with the same key [.., 2], keeps the one with the least priority [.., 2]."""
    k, p = key[rows], priority[rows]
    order = np.lexsort((p[:, 1], p[:, 0], k[:, 1], k[:, 0]))
    ordered = k[order]
    first = np.ones(len(rows), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leader = rows[order][np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
    dropped = rows[order][~first]
    verdict[dropped] = reason
    of[dropped] = leader[~first]


def _drop_near(
    rows: NDArray[np.int64],
    recipe: Recipe,
    text_of: Callable[[int], str],
    verdict: NDArray[np.int8],
    of: NDArray[np.int64],
) -> None:
    assert recipe.dedup.near is not None
    finder = NearDuplicates(recipe.dedup.near, recipe.seed)
    for start in range(0, len(rows), BATCH):
        finder.add([text_of(int(row)) for row in rows[start : start + BATCH]])
    found = finder.finish()
    dropped = np.flatnonzero(found >= 0)
    verdict[rows[dropped]] = NEAR_DUPLICATE
    of[rows[dropped]] = rows[found[dropped]]
