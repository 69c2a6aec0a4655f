"""How a build on Ray behaves as shards and workers grow, with workers that die:

    python tests/bench/scale.py [--seconds 0.25] [--deaths 0.02] [--json FILE]

Everything is real but the engine, which sleeps: Ray, actors, the driver, plan, shards, receipts. So
what is seen is what the machinery costs, on fewer cores than workers. `useful` is the share of
the workers' time, from the first shard's begin to the last one's end, in which engines slept over
shards that were committed; `overhead` is the rest, a shard.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from unitcorpus.build import ray as executor
from unitcorpus.build.cluster import ray_session
from unitcorpus.build.executor import Failure
from unitcorpus.build.plan import Plan, ShardPlan, write_plan
from unitcorpus.build.request import resolve
from unitcorpus.build.run import split_pending
from unitcorpus.build.stages import Encoded, Item, PublishedStages
from unitcorpus.build.worker import Progress
from unitcorpus.errors import Reject
from unitcorpus.recipe.models import PublishedUnits, Recipe, Shards
from unitcorpus.recipe.sources import UnitsSource
from unitcorpus.seeds import fraction
from unitcorpus.shards.receipt import Receipt

WORKERS = (1, 2, 4, 8)
SHARDS = (100, 300, 1000)
MIDDLE = 300
"""Shards of the runs in which workers grow."""

MOST = 8
"""Workers of the runs in which shards grow."""


class Sleeping(PublishedStages):
    """The engine: sleeps over each chunk."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]:
        time.sleep(self.seconds)
        return super().__call__(items)


class FakeWorker(executor.RemoteWorker):
    """A worker with that engine, that dies in the middle of some shards: of which is drawn by the
    shard and the try. What it is told comes with the root, since the driver starts it."""

    def load(self) -> None:
        super().load()
        told = json.loads((self.arguments[1] / "told.json").read_text())
        self.seconds, self.deaths = told["seconds"], told["deaths"]
        self.worker.stages = Sleeping(self.seconds)

    def build(
        self, shard: ShardPlan, attempt: int, careful: bool
    ) -> Generator[Progress | Receipt, None, None]:
        if fraction(0, shard.name, str(attempt)) < self.deaths:
            time.sleep(self.seconds / 2)
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().build(shard, attempt, careful)


class Watch:
    """A Listener that knows when the first shard was begun and the last one was done."""

    def __init__(self) -> None:
        self.begun = float("inf")
        self.ended = 0.0
        self.deaths = 0

    def progress(self, progress: Progress) -> None:
        self.begun = min(self.begun, time.perf_counter())

    def done(self, receipt: Receipt) -> None:
        self.ended = time.perf_counter()

    def failed(self, failure: Failure) -> None:
        self.deaths += 1


def planned(root: Path, shards: int) -> Plan:
    """A plan of shards of one row."""
    root.mkdir()
    rows = root.with_suffix(".jsonl")
    rows.write_text("".join(json.dumps({"units": [n % 500, 500]}) + "\n" for n in range(shards)))
    recipe = Recipe(
        name="scale",
        source=UnitsSource(path=str(rows)),
        units=PublishedUnits(name="made up", size=501, frame_rate=25),
        shards=Shards(samples=1),
        validation=0,
        dedup={"exact": False},
    )
    return write_plan(resolve(recipe), root)


def measure(
    root: Path, plan: Plan, workers: int, seconds: float, deaths: float
) -> dict[str, float]:
    """Builds all shards of a plan; what it cost."""
    for name in ("data", "rejects", "receipts"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "told.json").write_text(json.dumps({"seconds": seconds, "deaths": deaths}))
    watch, cpu = Watch(), time.process_time()
    aside = executor.run_ray(plan, root, plan.shards, watch, workers=workers)
    cpu = time.process_time() - cpu
    assert not aside
    assert not split_pending(plan, root)[1]
    count, wall = len(plan.shards), watch.ended - watch.begun
    work = count * seconds
    return {
        "shards": count,
        "workers": workers,
        "deaths": watch.deaths,
        "seconds": wall,
        "useful": work / (workers * wall),
        "overhead_ms": 1000 * (workers * wall - work) / count,
        "driver_ms": 1000 * cpu / count,
    }


def line(found: dict[str, float]) -> str:
    return (
        f"{found['shards']:6.0f} {found['workers']:8.0f} {found['deaths']:7.0f} "
        f"{found['seconds']:8.1f} {100 * found['useful']:7.1f}% {found['overhead_ms']:12.0f} "
        f"{found['driver_ms']:10.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how builds on Ray scale")
    parser.add_argument("--seconds", type=float, default=0.25, help="of the engine, for a shard")
    parser.add_argument("--deaths", type=float, default=0.02, help="share of tries that die")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    executor.RemoteWorker = FakeWorker  # type: ignore[misc]
    runs = [(MIDDLE, workers, 0.0) for workers in WORKERS]
    runs += [(shards, MOST, deaths) for shards in SHARDS for deaths in (0.0, given.deaths)]
    print("shards  workers  deaths  seconds  useful  overhead, ms  driver, ms", flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="scale-") as home, ray_session(MOST, None):
        plans = {n: planned(Path(home) / str(n), n) for n in SHARDS}
        for shards, workers, deaths in runs:
            root = Path(home) / str(shards)
            found = measure(root, plans[shards], workers, given.seconds, deaths)
            results.append(found)
            print(line(found), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
