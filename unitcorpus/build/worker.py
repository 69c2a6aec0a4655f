"""One worker: models loaded once, shards built one after another.

The same class runs in the driver's process and in a Ray actor. A shard's files appear in the order
data, audio, rejects, receipt; whatever is killed before the receipt is built again, to the same
bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from unitcorpus.build.output import Output, Totals
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.sample import sample_rate
from unitcorpus.build.stages import Encoded, items_of, load_stages
from unitcorpus.errors import Reject, within
from unitcorpus.shards.inputs import Input, read_inputs
from unitcorpus.shards.receipt import Receipt, write_receipt

CHUNK = 8
"""Rows that go through the stages together. Their composition never leaves the shard."""


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
    """Builds shards of one plan into one corpus directory."""

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self.plan, self.root = plan, root
        self.stages = load_stages(plan, root, device)
        self.rate = sample_rate(plan.units)

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
        """`build` as a generator: yields after every chunk of rows, returns the receipt."""
        self.stages.clock.seconds.clear()
        start = time.perf_counter()
        rows = read_inputs(self.root, shard.name, self.plan.layout)
        with Output(self.plan, self.root, shard) as output:
            for first in range(0, len(rows), CHUNK):
                chunk = rows[first : first + CHUNK]
                results = self._encode(chunk)
                with self.stages.clock.measure("writing"):
                    for row, result in zip(chunk, results, strict=True):
                        output.write(row, result)
                yield self._progress(shard, first + len(chunk), output.totals)
            with self.stages.clock.measure("writing"):
                output.close()
        timings = {**self.stages.clock.seconds, "all": time.perf_counter() - start}
        receipt = output.receipt(timings, attempt)
        write_receipt(self.root, receipt)
        return receipt

    def _encode(self, rows: list[Input]) -> list[list[Encoded] | Reject]:
        """The encoded parts of each row, or why it is none: a row stands or falls as a whole."""
        items = [item for row in rows for item in items_of(row, self.plan.recipe.seed)]
        results = iter(self.stages(items))
        return [self._whole(list(islice(results, len(row.parts)))) for row in rows]

    def _whole(self, results: list[Encoded | Reject]) -> list[Encoded] | Reject:
        layout = self.plan.layout
        for part, result in zip(layout.parts, results, strict=True):
            if isinstance(result, Reject):
                return result if layout.plain else within(result, part)
        return [result for result in results if isinstance(result, Encoded)]

    def close(self) -> None:
        self.stages.close()

    def _progress(self, shard: ShardPlan, rows: int, totals: Totals) -> Progress:
        audio = (
            totals.num_samples / self.rate
            if self.rate
            else totals.frames / self.plan.units["frame_rate"]
        )
        rejected = sum(totals.rejected.values())
        return Progress(shard.name, rows, rejected, audio, dict(self.stages.clock.seconds))
