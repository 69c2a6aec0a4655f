"""The batches of a run: an endless, seeded, exactly shuffled stream over one or more corpora.

    loader = Loader(corpora, context=1024, tokens_per_step=79_000, micro_tokens=8192, seed=0)
    step = next(loader)               # a Step: this process's packs, the counts of all processes
    loader.restore(loader.state())    # O(1): no batch is made again

The invariant: the rows before a state and those after restoring it are the rows of an uninterrupted
run, and a step has the same rows for every number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slam_model.packing import PADDING, Pack, chunk_table, deal, flat_pack, padding
from slam_model.tokens import Tokens, check_same_units
from unitcorpus.errors import UnitcorpusError
from unitcorpus.seeds import seed_of


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    `packs` are this process's micro-batches, as many for every process; `tokens`, `targets`
    (positions that predict a token) and `rows` (chunks) are counts over all processes.
    """

    packs: list[Pack]
    tokens: int
    targets: int
    rows: int


class Loader(Iterator[Step]):
    """Steps of at most `tokens_per_step` tokens (of all processes, and at least one chunk).

    One epoch is every chunk of every corpus once, or `repeats` times where given (one number a
    corpus; 0.5 is one half in the first epoch and the other in the second), in an order drawn from
    (seed, epoch). The data end after `epochs`, or never. `pad` fills every pack to `micro_tokens`
    with chunks that predict nothing, for compiled models that want one shape.
    """

    def __init__(
        self,
        corpora: Sequence[Tokens],
        *,
        context: int,
        tokens_per_step: int,
        micro_tokens: int,
        seed: int,
        epochs: float | None = None,
        repeats: Sequence[float] | None = None,
        process: int = 0,
        processes: int = 1,
        pad: bool = False,
    ) -> None:
        if micro_tokens < context:
            raise UnitcorpusError(
                f"micro-batches of {micro_tokens} tokens cannot hold a context of {context}"
            )
        check_same_units(corpora)
        self.corpora = list(corpora)
        self.context, self.micro_tokens = context, micro_tokens
        self.tokens_per_step = tokens_per_step
        self.seed, self.epochs, self.pad = seed, epochs, pad
        self.repeats = list(repeats) if repeats is not None else [1.0] * len(self.corpora)
        self.process, self.processes = process, processes
        self._chunks = [chunk_table(corpus.offsets, context) for corpus in self.corpora]
        self._lengths = np.concatenate([length for _, length in self._chunks])
        self._first = np.cumsum([0] + [len(start) for start, _ in self._chunks])
        self.epoch = self.cursor = 0
        self._enter(0, 0)

    @property
    def ended(self) -> bool:
        """Whether there is no next step."""
        return self.cursor >= self._stop and self._last_epoch

    def state(self) -> dict[str, int]:
        """Where the next step begins; JSON-able, the same on every process."""
        return {"seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state of a loader with the same corpora and arguments."""
        if state["seed"] != self.seed:
            raise UnitcorpusError(
                f"the data were shuffled with seed {state['seed']}, not {self.seed}: set it back"
            )
        self._enter(int(state["epoch"]), int(state["cursor"]))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Step:
        if self.ended:
            raise StopIteration
        rows = self._take()
        lengths = self._lengths[rows]
        dealt = deal(lengths, self.micro_tokens, self.processes)
        mine = dealt[self.process :: self.processes]
        tokens = int(lengths.sum())
        return Step([self._pack(rows[one]) for one in mine], tokens, tokens - len(rows), len(rows))

    def key(self, row: int) -> str:
        """What a row of a pack is, in words: its corpus, sample and place."""
        number = int(np.searchsorted(self._first, row, "right")) - 1
        corpus, (start, length) = self.corpora[number], self._chunks[number]
        chunk = row - int(self._first[number])
        document = int(np.searchsorted(corpus.offsets, start[chunk], "right")) - 1
        at = int(start[chunk] - corpus.offsets[document])
        return f"{corpus.name} {corpus.key(document)}, tokens {at} to {at + int(length[chunk])}"

    def _pack(self, rows: NDArray[np.int64]) -> Pack:
        numbers = np.searchsorted(self._first, rows, "right") - 1
        pieces = []
        for number, chunk in zip(numbers, rows - self._first[numbers], strict=True):
            start, length = self._chunks[number]
            pieces.append(self.corpora[number].tokens[start[chunk] : start[chunk] + length[chunk]])
        missing = self.micro_tokens - sum(map(len, pieces)) if self.pad else 0
        filling = padding(missing or 2 * (not pieces), self.context)
        return flat_pack([*pieces, *filling], [*rows.tolist(), *[PADDING] * len(filling)])

    def _take(self) -> NDArray[np.int64]:
        """The rows of the next step; fewer where the data end."""
        taken: list[NDArray[np.int64]] = []
        room = self.tokens_per_step
        while self.cursor < self._stop or self._next_epoch():
            done = int(self._ends[self.cursor - 1]) if self.cursor else 0
            stop = min(int(np.searchsorted(self._ends, done + room, "right")), self._stop)
            if stop == self.cursor and not taken:
                stop += 1  # one chunk may be more than a step
            taken.append(self._order[self.cursor : stop])
            room -= int(self._ends[stop - 1]) - done if stop else 0
            at_end, self.cursor = stop == self._stop, stop
            if not at_end:
                break
        return np.concatenate([np.zeros(0, np.int64), *taken])

    def _next_epoch(self) -> bool:
        if self._last_epoch:
            return False
        self._enter(self.epoch + 1, 0)
        return True

    @property
    def _last_epoch(self) -> bool:
        return self.epochs is not None and self.epoch + 1 >= self.epochs

    def _enter(self, epoch: int, cursor: int) -> None:
        """Draws the order of an epoch and goes to a place in it."""
        rng = np.random.default_rng(seed_of(self.seed, "epoch", str(epoch)))
        self._order = rng.permutation(np.concatenate(self._of_epoch(epoch)))
        self._ends = self._lengths[self._order].cumsum(dtype=np.int64)
        left = 1.0 if self.epochs is None else min(1.0, self.epochs - epoch)
        self._stop = min(len(self._order), max(1, round(left * len(self._order))))
        self.epoch, self.cursor = epoch, cursor

    def _of_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each corpus in an epoch: a window on endless repetitions of one permutation,
        so that after any number of epochs no row has been seen two times more than another."""
        windows = []
        for number, (corpus, repeats) in enumerate(zip(self.corpora, self.repeats, strict=True)):
            count = len(self._chunks[number][0])
            begin, end = (round(past * repeats * count) for past in (epoch, epoch + 1))
            place = np.arange(begin, end) % count
            if repeats % 1:
                rng = np.random.default_rng(seed_of(self.seed, "subset", corpus.fingerprint))
                place = rng.permutation(count)[place]
            windows.append(self._first[number] + place)
        return windows
