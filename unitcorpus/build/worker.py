"""One worker: models loaded once, shards built one after another.

The same class runs in the driver's process and in a Ray actor. The utterances of a shard go through
the stages by length (`chunks`), never with those of another shard; rows are written in the plan's
order once all are done, for what is kept of them is small. A shard's files appear in the order
data, audio, rejects, receipt; whatever is killed before the receipt is built again, to the same
bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from unitcorpus.build.agreement import require_agreement
from unitcorpus.build.chunks import chunks, seconds_of
from unitcorpus.build.memory import out_of_memory, release
from unitcorpus.build.output import Output
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.sample import sample_rate
from unitcorpus.build.stages import Encoded, Item, items_of, load_stages
from unitcorpus.errors import Reject, within
from unitcorpus.shards.inputs import Input, read_inputs
from unitcorpus.shards.receipt import Receipt, write_receipt


@dataclass(frozen=True)
class Progress:
    """What a worker has done of a shard so far: rows, of them rejected, audio in seconds, and the
    time by stage in seconds."""

    shard: str
    rows: int
    rejected: int
    audio: float
    timings: dict[str, float]


class Worker:
    """Builds shards of one plan into one corpus directory.

    Raises UnitcorpusError where a model cannot be loaded, or options of the recipe change units.
    """

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self.plan, self.root = plan, root
        self.stages = load_stages(plan, root, device)
        require_agreement(plan, root, self.stages, device)

    def build(
        self,
        shard: ShardPlan,
        report: Callable[[Progress], None] = lambda _: None,
        attempt: int = 1,
    ) -> Receipt:
        """Builds one shard and commits it. Raises whatever broke it; then nothing is committed."""
        steps = self.steps(shard, attempt)
        while True:
            try:
                report(next(steps))
            except StopIteration as end:
                receipt: Receipt = end.value
                return receipt

    def steps(self, shard: ShardPlan, attempt: int = 1) -> Generator[Progress, None, Receipt]:
        """`build` as a generator: yields after every chunk of utterances, returns the receipt."""
        self.stages.clock.seconds.clear()
        start = time.perf_counter()
        planned = read_inputs(self.root, shard.name, self.plan.layout)
        cuts = yield from self._cut(shard, planned)
        results, run = yield from self._encode_within_memory(shard, cuts)
        made = iter(results)
        with self.stages.clock.measure("writing"), Output(self.plan, self.root, shard) as output:
            for row, cut in zip(planned, cuts, strict=True):
                if isinstance(cut, Reject):
                    output.write(row, cut)
                    continue
                for one in cut:
                    output.write(one, next(made))
            output.close()
        timings = {**self.stages.clock.seconds, "all": time.perf_counter() - start}
        segments = [0 if isinstance(cut, Reject) else len(cut) for cut in cuts]
        receipt = output.receipt(timings, {"attempt": attempt, **run}, segments)
        write_receipt(self.root, receipt)
        return receipt

    def _cut(
        self, shard: ShardPlan, planned: list[Input]
    ) -> Generator[Progress, None, list[list[Input] | Reject]]:
        """The rows that each planned one becomes; in most corpora itself."""
        cuts = []
        for row in planned:
            cuts.append(self.stages.cut(row))
            if self.stages.clock.seconds:  # it took a while
                yield Progress(shard.name, 0, 0, 0.0, dict(self.stages.clock.seconds))
        return cuts

    def _encode_within_memory(
        self, shard: ShardPlan, cuts: list[list[Input] | Reject]
    ) -> Generator[Progress, None, tuple[list[list[Encoded] | Reject], dict[str, Any]]]:
        """The encoded parts of each row of `cuts`, or why it is none, and what the receipt says of
        the run.

        Where memory runs out all of the shard starts again with half the batch budget: which
        utterances go together depends on the budget alone. Raises when even the shortest of them
        went alone.
        """
        rows = [row for cut in cuts if not isinstance(cut, Reject) for row in cut]
        if not rows:  # no recording holds speech
            return [], {}
        items = [item for row in rows for item in items_of(row, self.plan.recipe.seed)]
        shortest = min(seconds_of(item.part) for item in items)
        planned = budget = self.plan.recipe.compute.batch_seconds
        while True:
            try:
                tally = _Tally(self.plan, cuts)
                results = iter((yield from self._encode(shard, items, budget, tally)))
                break
            except Exception as error:
                if not out_of_memory(error) or budget <= shortest:
                    raise
            release()
            budget /= 2
        width = len(self.plan.layout.parts)
        whole = [self._whole(list(islice(results, width))) for _ in rows]
        return whole, {} if budget == planned else {"batch_seconds": budget}

    def _encode(
        self, shard: ShardPlan, items: list[Item], budget: float, tally: _Tally
    ) -> Generator[Progress, None, list[Encoded | Reject]]:
        """What becomes of each utterance, in chunks of this budget."""
        found: dict[int, Encoded | Reject] = {}
        self.stages.batch_seconds = budget
        cut = chunks([item.part for item in items], budget)
        for chunk, following in zip(cut, [*cut[1:], []], strict=True):
            self.stages.ahead([items[i] for i in (*chunk, *following)])
            for i, result in zip(chunk, self.stages([items[i] for i in chunk]), strict=True):
                found[i] = result
                tally.add(i, result)
            timings = dict(self.stages.clock.seconds)
            yield Progress(shard.name, tally.rows, tally.rejected, tally.audio, timings)
        return [found[i] for i in range(len(items))]

    def _whole(self, results: list[Encoded | Reject]) -> list[Encoded] | Reject:
        """The parts of a row: it stands or falls as a whole."""
        layout = self.plan.layout
        for part, result in zip(layout.parts, results, strict=True):
            if isinstance(result, Reject):
                return result if layout.plain else within(result, part)
        return [result for result in results if isinstance(result, Encoded)]

    def close(self) -> None:
        self.stages.close()


class _Tally:
    """What is done of a shard, utterance by utterance: planned rows, and of them or of their
    segments the rejected ones."""

    def __init__(self, plan: Plan, cuts: list[list[Input] | Reject]) -> None:
        self._rate, self._frame_rate = sample_rate(plan.units), plan.units["frame_rate"]
        self._width = len(plan.layout.parts)
        sizes = [0 if isinstance(cut, Reject) else len(cut) * self._width for cut in cuts]
        self._row = [row for row, size in enumerate(sizes) for _ in range(size)]
        self._due = Counter(self._row)
        self._lost = sizes.count(0)
        self._spoilt: set[int] = set()
        self.rows, self.audio = self._lost, 0.0

    @property
    def rejected(self) -> int:
        return self._lost + len(self._spoilt)

    def add(self, index: int, result: Encoded | Reject) -> None:
        row = self._row[index]
        self._due[row] -= 1
        self.rows += not self._due[row]
        if isinstance(result, Reject):
            self._spoilt.add(index // self._width)
        elif self._rate:
            self.audio += result.num_samples / self._rate
        elif result.durations is not None:
            self.audio += float(result.durations.sum() / self._frame_rate)
