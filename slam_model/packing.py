"""Chunks of documents, packed end to end into micro-batches without padding.

A document longer than the context is cut into chunks of the context's length and a rest, each
beginning with the last token of the one before: every token is predicted exactly once. A pack is a
run of chunks; position ids restart and attention ends at each of them (slam_model.attention), so
which chunks share a pack changes no result.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from slam_model.tokens import PAD, Tokens

IGNORE = -100
"""The label of a position that predicts nothing: the last one of a chunk."""

PADDING = -1
"""The row of a chunk that is there to fill a pack."""


@dataclass(frozen=True)
class Pack:
    """Chunks end to end: T tokens of D chunks. `rows` says which chunks, as whoever made it counts.

    Shapes: input_ids, position_ids, labels (the next token of the chunk, or IGNORE) int64 [T];
    document (number of the chunk in the pack) int32 [T]; cu_seqlens int32 [D + 1]; rows int64 [D].
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    document: torch.Tensor
    cu_seqlens: torch.Tensor
    rows: torch.Tensor
    max_length: int

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def targets(self) -> int:
        """The number of positions that predict a token."""
        return int((self.labels != IGNORE).sum())

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """`values` [T] summed over each chunk: [D]."""
        return values.new_zeros(len(self.rows)).index_add(0, self.document, values)

    def to(self, device: torch.device | str) -> Self:
        names = [field.name for field in fields(self) if field.name != "max_length"]
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)


def flat_pack(
    sequences: Sequence[NDArray[np.uint16]], rows: Sequence[int] | NDArray[np.int64] | None = None
) -> Pack:
    """The pack of token sequences, each at least one token long; `rows` defaults to 0, 1, …

    Chunks whose row is PADDING predict nothing.
    """
    lengths = np.array([len(one) for one in sequences], np.int64)
    ends = lengths.cumsum()
    numbers = np.arange(len(lengths)) if rows is None else np.asarray(rows, np.int64)
    tokens = np.concatenate(sequences).astype(np.int64)
    labels = np.append(tokens[1:], IGNORE)
    labels[ends - 1] = IGNORE
    document = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    labels[(numbers == PADDING)[document]] = IGNORE
    return Pack(
        input_ids=torch.from_numpy(tokens),
        position_ids=torch.from_numpy(np.arange(len(tokens)) - np.repeat(ends - lengths, lengths)),
        labels=torch.from_numpy(labels),
        document=torch.from_numpy(document),
        cu_seqlens=torch.from_numpy(np.append(0, ends).astype(np.int32)),
        rows=torch.from_numpy(numbers),
        max_length=int(lengths.max()),
    )


def padding(length: int, context: int) -> list[NDArray[np.uint16]]:
    """PAD chunks of at most `context` tokens, `length` tokens in all."""
    return [np.full(min(context, length - at), PAD, np.uint16) for at in range(0, length, context)]


def chunk_table(
    offsets: NDArray[np.int64], context: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(first token, length) of every chunk of at most `context` tokens, in order."""
    step = context - 1
    count = -(-(np.diff(offsets) - 1) // step)
    document = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(document)) - np.repeat(count.cumsum() - count, count)
    start = offsets[:-1][document] + number * step
    return start, np.minimum(context, offsets[1:][document] - start).astype(np.int32)


def deal(lengths: NDArray[np.integer], capacity: int, multiple: int = 1) -> list[list[int]]:
    """Divides items of `lengths` tokens among packs of at most `capacity`.

    As many packs as best-fit needs, up to a multiple of `multiple`, and evenly filled where that
    can be done, so that processes take equally long. A pack may be empty.
    """
    order, sizes = np.argsort(-lengths, kind="stable").tolist(), lengths.tolist()
    tight = _best_fit(order, sizes, capacity)
    empty: list[list[int]] = [[] for _ in range(-len(tight) % multiple)]
    return _evenly(order, sizes, capacity, len(tight) + len(empty)) or tight + empty


def _best_fit(order: list[int], sizes: list[int], capacity: int) -> list[list[int]]:
    """Each item, the longest first, goes where it leaves the least room."""
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room, pack), sorted
    for item in order:
        place = bisect.bisect_left(rooms, (sizes[item], -1))
        room, pack = rooms.pop(place) if place < len(rooms) else (capacity, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(item)
        bisect.insort(rooms, (room - sizes[item], pack))
    return packs


def _evenly(
    order: list[int], sizes: list[int], capacity: int, packs: int
) -> list[list[int]] | None:
    """Each item, the longest first, goes to the emptiest pack; None where one gets too full."""
    dealt: list[list[int]] = [[] for _ in range(packs)]
    loads = [(0, pack) for pack in range(packs)]
    for item in order:
        load, pack = loads[0]
        if load + sizes[item] > capacity:
            return None
        dealt[pack].append(item)
        heapq.heapreplace(loads, (load + sizes[item], pack))
    return dealt


def packs_in_order(
    corpus: Tokens, context: int, micro_tokens: int, limit: int | None = None
) -> Iterator[Pack]:
    """The documents of a corpus in its order, packed, for measuring perplexity.

    `limit`: the chunks that lie within the first so many tokens, at least one. Rows are chunks.
    """
    start, length = chunk_table(corpus.offsets, context)
    ends = length.cumsum(dtype=np.int64)
    last = len(ends) if limit is None else max(1, int(np.searchsorted(ends, limit, "right")))
    first = 0
    while first < last:
        done = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, done + micro_tokens, "right")))
        rows = np.arange(first, min(stop, last))
        yield flat_pack([corpus.tokens[start[i] : start[i] + length[i]] for i in rows], rows)
        first = stop
