"""Benchmarks of the build, on the offline recipe: `make bench`, or

    python tests/bench/build.py [worker ray shards memory plan] [--json FILE]

Every figure is a ratio inside one run where it can be, repeated, given as median and spread.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import webdataset

import unitcorpus
from unitcorpus.build.executor import Failure
from unitcorpus.build.plan import Plan, write_plan
from unitcorpus.build.request import resolve
from unitcorpus.build.stages import items_of, load_stages
from unitcorpus.build.worker import Progress, Worker
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.format import npy_bytes
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.receipt import Receipt
from unitcorpus.shards.writer import ShardWriter

Row = tuple[str, str]
"""What was measured, and the figure."""


def spread(values: list[float], unit: str = "", digits: int = 2) -> str:
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f}{unit} ({low:,.{digits}f}-{high:,.{digits}f})"


def planned(root: Path, *overrides: str) -> Plan:
    return write_plan(resolve(load_recipe("demo/stinystories", overrides)), root)


# --- one worker against the bare loop ---------------------------------------------------------


def bench_worker(root: Path, repeats: int = 3) -> Iterator[Row]:
    """A worker's shard (inputs read, samples packed, digests, fsync) against its stages alone."""
    plan = planned(root, "source.count=200", "shards.samples=200", "validation=0")
    shard = plan.shards[0]
    rows = read_inputs(root, shard.name, plan.layout)
    worker = Worker(plan, root)
    stages = load_stages(plan, root)
    items = [item for row in rows for item in items_of(row, plan.recipe.seed)]
    stages(items[:4])
    bare, built, seconds = [], [], 0.0
    for _ in range(repeats):
        bare.append(timed(lambda: [stages([item]) for item in items]))
        start = time.perf_counter()
        seconds = worker.build(shard).num_samples / 16_000
        built.append(time.perf_counter() - start)
    worker.close()
    stages.close()
    yield "hours of speech per hour, one worker", spread([seconds / t for t in built], digits=0)
    yield "hours of speech per hour, bare loop", spread([seconds / t for t in bare], digits=0)
    yield "worker / bare loop (>= 0.90)", spread([b / w for b, w in zip(bare, built, strict=True)])


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# --- Ray --------------------------------------------------------------------------------------


class Stopwatch:
    """A Listener that knows when the first shard was begun and the last one was done."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended = 0.0
        self.speech = 0.0

    def progress(self, progress: Progress) -> None:
        pass

    def done(self, receipt: Receipt) -> None:
        self.ended = time.perf_counter()
        self.begun.append(self.ended - receipt.timings["all"])
        self.speech += receipt.num_samples / 16_000

    def failed(self, failure: Failure) -> None:
        raise RuntimeError(failure.error)

    @property
    def speed(self) -> float:
        return self.speech / (self.ended - min(self.begun))


def bench_ray(root: Path, repeats: int = 3) -> Iterator[Row]:
    """Two workers against one, from the first shard's begin to the last one's end."""
    from unitcorpus.build.cluster import ray_session
    from unitcorpus.build.ray import run_ray

    plan = planned(root, "source.count=400", "shards.samples=20", "validation=0")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    start = time.perf_counter()
    with ray_session(2, None):
        startup = time.perf_counter() - start
        for _ in range(repeats):
            for workers, found in speeds.items():
                watch = Stopwatch()
                run_ray(plan, root, plan.shards, watch, workers=workers)
                found.append(watch.speed)
    yield "start of Ray, seconds", f"{startup:.1f}"
    yield "hours of speech per hour, one Ray worker", spread(speeds[1], digits=0)
    yield "hours of speech per hour, two Ray workers", spread(speeds[2], digits=0)
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    yield "two workers / one (>= 1.6)", spread(ratios)


# --- shards -----------------------------------------------------------------------------------


def bench_shards(root: Path, repeats: int = 5) -> Iterator[Row]:
    """Writing and reading samples of 400 units with durations."""
    samples = make_samples(20_000)
    path = root / "data" / "train-000000.tar"
    writing = []
    for _ in range(repeats):
        writing.append(timed(lambda: write_shard(path, samples)))
    size = path.stat().st_size / 1e6
    ours = [timed(lambda: read_ours(path)) for _ in range(repeats)]
    theirs = [timed(lambda: read_webdataset(path)) for _ in range(repeats)]
    count = len(samples)
    yield "writing, samples a second", spread([count / t for t in writing], digits=0)
    yield "writing, MB a second", spread([size / t for t in writing], digits=0)
    yield "reading units, samples a second", spread([count / t for t in ours], digits=0)
    yield "reading units, MB a second", spread([size / t for t in ours], digits=0)
    yield "webdataset's loop, samples a second", spread([count / t for t in theirs], digits=0)
    ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
    yield "our reader / webdataset's loop (>= 3)", spread(ratios, digits=1)


def make_samples(count: int) -> list[dict[str, bytes]]:
    draw = np.random.default_rng(0)
    units = draw.integers(0, 500, (count, 400), dtype=np.uint16)
    durations = draw.integers(1, 4, (count, 400), dtype=np.uint32)
    meta = json.dumps(
        {"id": "x" * 16, "text": "word " * 80, "voice": "v", "seconds": 20.0}
    ).encode()
    return [
        {"units.npy": npy_bytes(u), "durations.npy": npy_bytes(d), "json": meta}
        for u, d in zip(units, durations, strict=True)
    ]


def write_shard(path: Path, samples: list[dict[str, bytes]]) -> None:
    with ShardWriter(path) as writer:
        for row, members in enumerate(samples):
            writer.sample(f"train-000000-{row:06d}", members)


def read_ours(path: Path) -> int:
    import mmap

    from unitcorpus.shards.reader import Sample
    from unitcorpus.shards.tar import scan

    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        total = sum(len(Sample(key, members).units) for key, members in scan(view))
        view.release()
    return total


def read_webdataset(path: Path) -> int:
    loop = webdataset.WebDataset(str(path), shardshuffle=False)
    return sum(len(np.load(io.BytesIO(sample["units.npy"]))) for sample in loop)


# --- memory and large plans -------------------------------------------------------------------


def peak_of(code: str, *arguments: str) -> tuple[float, float]:
    """(peak MiB, seconds) of a Python process that runs `code`."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the measured process failed with status {status}")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


BUILD = """
import sys; from pathlib import Path
from unitcorpus.build.run import build_corpus; from unitcorpus.recipe import load_recipe
settings = ["source.count=500", "validation=0", f"shards.samples={500 // int(sys.argv[2])}"]
build_corpus(load_recipe("demo/stinystories", settings), Path(sys.argv[1]))
"""
PLAN = """
import sys; from pathlib import Path
from unitcorpus.build.plan import write_plan; from unitcorpus.build.request import resolve
from unitcorpus.recipe import load_recipe
recipe = load_recipe("demo/stinystories", ["shards.samples=1000", f"source.count={sys.argv[2]}"])
write_plan(resolve(recipe), Path(sys.argv[1]))
"""


def bench_memory(root: Path) -> Iterator[Row]:
    """A build of 500 stories in 10 and in 500 shards."""
    peaks = {n: peak_of(BUILD, str(root / str(n)), str(n))[0] for n in (10, 500)}
    yield "peak memory of 10 shards, MiB", f"{peaks[10]:,.0f}"
    yield "peak memory of 500 shards, MiB", f"{peaks[500]:,.0f}"


def bench_plan(root: Path) -> Iterator[Row]:
    """A plan of a million rows."""
    small, _ = peak_of(PLAN, str(root / "small"), "1000")
    peak, seconds = peak_of(PLAN, str(root / "large"), "1000000")
    yield "plan of 1,000,000 rows, seconds", f"{seconds:,.0f}"
    yield "peak memory, MiB (< 4096)", f"{peak:,.0f}"
    yield "of it for the rows, bytes a row", f"{(peak - small) * 2**20 / 1e6:,.0f}"


BENCHES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "worker": bench_worker,
    "ray": bench_ray,
    "shards": bench_shards,
    "memory": bench_memory,
    "plan": bench_plan,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("benches", nargs="*", default=list(BENCHES), metavar="|".join(BENCHES))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, unitcorpus {unitcorpus.__version__}"
    figures: dict[str, Any] = {"machine": machine, "versions": versions}
    print(f"{machine}, {versions}")
    for name in arguments.benches:
        with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as folder:
            for label, figure in BENCHES[name](Path(folder)):
                print(f"{name:<8}{label:<45}{figure}", flush=True)
                figures[f"{name}: {label}"] = figure
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
