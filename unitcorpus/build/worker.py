"""One worker: models loaded once, shards built one after another.

The same class runs in the driver's process and in a Ray actor. The utterances of a shard go through
the stages by length (`chunks`), never with those of another shard; rows are written in the plan's
order once all are done, for what is kept of them is small. A shard's files appear in the order
data, audio, rejects, receipt; whatever is killed before the receipt is built again, to the same
bytes. What ends the process itself is found by `isolated`, which says here what to leave out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from unitcorpus.build.agreement import require_agreement
from unitcorpus.build.chunks import chunks, seconds_of
from unitcorpus.build.memory import out_of_memory, release
from unitcorpus.build.output import Output
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.remote import Remote
from unitcorpus.build.sample import sample_rate
from unitcorpus.build.stages import Encoded, Item, items_of, load_stages
from unitcorpus.errors import Reject, within
from unitcorpus.shards.inputs import Input, read_inputs
from unitcorpus.shards.receipt import Receipt, write_receipt

KILLER = "killed_worker"
KILLED = Reject(KILLER, "speaking or encoding it ends the process, even alone")

Place = tuple[str, int]
"""Where a worker is in a shard: ("cut", planned row) or ("encode", utterance)."""


@dataclass(frozen=True)
class Progress:
    """What a worker has done of a shard so far: rows, of them rejected, audio in seconds, and the
    time by stage in seconds. `due`: about how many seconds of audio it begins with now."""

    shard: str
    rows: int
    rejected: int
    audio: float
    timings: dict[str, float]
    due: float = 0.0


@dataclass(frozen=True)
class Care:
    """How a shard that ended its process is built. `killers` are left out, each with what it died
    of; `before` is called with the places that the models are about to be given, and about how many
    seconds of audio they are."""

    killers: Mapping[Place, str] = field(default_factory=dict)
    before: Callable[[Sequence[Place], float], None] = lambda *_: None


NO_CARE = Care()

T = TypeVar("T")


class Worker:
    """Builds shards of one plan into one corpus directory, and sends them on to the plan's URL.

    Raises UnitcorpusError where a model cannot be loaded, or options of the recipe change units.
    """

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self.plan, self.root = plan, root
        self._remote = Remote(plan.url, root) if plan.url else None
        if self._remote is not None:
            self._remote.bring_codebook(plan)
            self._remote.bring_input(plan.shards[0])  # `require_agreement` may read it
        self.stages = load_stages(plan, root, device)
        require_agreement(plan, root, self.stages, device)

    def build(
        self,
        shard: ShardPlan,
        report: Callable[[Progress], None] = lambda _: None,
        attempt: int = 1,
    ) -> Receipt:
        """Builds one shard and commits it. Raises whatever broke it; then nothing is committed."""
        return exhaust(self.steps(shard, attempt), report)

    def steps(
        self, shard: ShardPlan, attempt: int = 1, care: Care = NO_CARE
    ) -> Generator[Progress, None, Receipt]:
        """`build` as a generator: yields before every chunk of utterances and after the last,
        returns the receipt."""
        self.stages.clock.seconds.clear()
        start = time.perf_counter()
        planned = self._planned(shard)
        cuts = yield from self._cut(shard, planned, care)
        results, run = yield from self._encode_within_memory(shard, cuts, care)
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
        if care.killers:
            run["killers"] = {f"{stage} {n}": how for (stage, n), how in care.killers.items()}
        receipt = output.receipt(timings, {"attempt": attempt, **run}, segments)
        write_receipt(self.root, receipt)
        if self._remote is not None:
            self._remote.commit(receipt)
        return receipt

    def alone(self, shard: ShardPlan, places: Sequence[Place], care: Care) -> None:
        """Makes what lies at `places` one at a time, and forgets it: whichever ends the process
        has been told to `care` before."""
        planned = self._planned(shard)
        cuts = exhaust(self._cut(shard, planned, care))
        items = self._items(cuts)
        for place in places:
            stage, number = place
            if stage == "encode" and place not in care.killers:
                care.before([place], _seconds([items[number]]))
                self.stages.ahead([items[number]])
                self.stages([items[number]])

    def _planned(self, shard: ShardPlan) -> list[Input]:
        if self._remote is not None:
            self._remote.bring_input(shard)
        return read_inputs(self.root, shard.name, self.plan.layout)

    def _items(self, cuts: list[list[Input] | Reject]) -> list[Item]:
        rows = [row for cut in cuts if not isinstance(cut, Reject) for row in cut]
        return [item for row in rows for item in items_of(row, self.plan.recipe.seed)]

    def _cut(
        self, shard: ShardPlan, planned: list[Input], care: Care
    ) -> Generator[Progress, None, list[list[Input] | Reject]]:
        """The rows that each planned one becomes; in most corpora itself."""
        cuts: list[list[Input] | Reject] = []
        for number, row in enumerate(planned):
            if ("cut", number) in care.killers:
                cuts.append(KILLED)
                continue
            care.before([("cut", number)], sum(map(seconds_of, row.parts.values())))
            cuts.append(self.stages.cut(row))
            if self.stages.clock.seconds:  # it took a while
                yield Progress(shard.name, 0, 0, 0.0, dict(self.stages.clock.seconds))
        return cuts

    def _encode_within_memory(
        self, shard: ShardPlan, cuts: list[list[Input] | Reject], care: Care
    ) -> Generator[Progress, None, tuple[list[list[Encoded] | Reject], dict[str, Any]]]:
        """The encoded parts of each row of `cuts`, or why it is none, and what the receipt says of
        the run.

        Where memory runs out all of the shard starts again with half the batch budget: which
        utterances go together depends on the budget alone. Raises when even the shortest of them
        went alone.
        """
        items = self._items(cuts)
        if not items:  # no recording holds speech
            return [], {}
        shortest = min(seconds_of(item.part) for item in items)
        planned = budget = self.plan.recipe.compute.batch_seconds
        while True:
            try:
                tally = _Tally(self.plan, cuts)
                results = iter((yield from self._encode(shard, items, budget, tally, care)))
                break
            except Exception as error:
                if not out_of_memory(error) or budget <= shortest:
                    raise
            release()
            budget /= 2
        width = len(self.plan.layout.parts)
        whole = [self._whole(list(islice(results, width))) for _ in range(len(items) // width)]
        return whole, {} if budget == planned else {"batch_seconds": budget}

    def _encode(
        self, shard: ShardPlan, items: list[Item], budget: float, tally: _Tally, care: Care
    ) -> Generator[Progress, None, list[Encoded | Reject]]:
        """What becomes of each utterance, in chunks of this budget. One that is left out leaves the
        others together as they were."""
        found: dict[int, Encoded | Reject] = {
            number: KILLED for stage, number in care.killers if stage == "encode"
        }
        for i, reject in found.items():
            tally.add(i, reject)
        self.stages.batch_seconds = budget
        planned = chunks([item.part for item in items], budget)
        left = [[i for i in chunk if i not in found] for chunk in planned]
        cut = [chunk for chunk in left if chunk]
        for chunk, following in zip(cut, [*cut[1:], []], strict=True):
            due = _seconds([items[i] for i in chunk])
            yield tally.progress(shard.name, self.stages.clock.seconds, due)
            care.before([("encode", i) for i in (*chunk, *following)], due)
            self.stages.ahead([items[i] for i in (*chunk, *following)])
            for i, result in zip(chunk, self.stages([items[i] for i in chunk]), strict=True):
                found[i] = result
                tally.add(i, result)
        yield tally.progress(shard.name, self.stages.clock.seconds)
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


def exhaust(
    steps: Generator[Progress, None, T], report: Callable[[Progress], None] = lambda _: None
) -> T:
    """What a generator returns in the end; `report` gets what it yields."""
    while True:
        try:
            report(next(steps))
        except StopIteration as end:
            value: T = end.value
            return value


def _seconds(items: list[Item]) -> float:
    """About how much audio they are."""
    return sum(seconds_of(item.part) for item in items)


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

    def progress(self, shard: str, timings: dict[str, float], due: float = 0.0) -> Progress:
        return Progress(shard, self.rows, self.rejected, self.audio, dict(timings), due)

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
