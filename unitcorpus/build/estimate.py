"""`unitcorpus plan`: what a build would make and cost, measured on a few of its own rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from unitcorpus.build.chunks import chunks, seconds_of
from unitcorpus.build.plan import Plan, Tick
from unitcorpus.build.request import resolve
from unitcorpus.build.run import plan_or_resume
from unitcorpus.build.stages import Encoded, items_of, load_stages
from unitcorpus.errors import Reject
from unitcorpus.recipe.models import Recipe
from unitcorpus.shards.inputs import Input, PlannedPart, read_inputs

TAR_BYTES = 4 * 512 + 3 * 256 + 128
"""Headers, padding and .npy headers of a sample's three members, on average."""


@dataclass(frozen=True)
class Estimate:
    """A build before it is run. `hours` of speech, `units` collapsed, `bytes` of shards and
    `work_hours` on one worker are extrapolated by text length from `measured` rows."""

    plan: Plan
    splits: dict[str, int]
    characters: int
    measured: int
    hours: float
    units: int
    bytes: int
    work_hours: float


def estimate(
    recipe: Recipe, rows: int, device: str = "cpu", tick: Tick = lambda *_: None
) -> Estimate:
    """Plans into a temporary folder, builds `rows` rows there, and keeps neither."""
    with TemporaryDirectory(prefix="unitcorpus-plan-") as folder:
        root = Path(folder)
        plan = plan_or_resume(resolve(recipe), root, tick)
        splits = {s.split: 0 for s in plan.shards}
        step = max(1, plan.rows // rows)
        weight = characters = seen = 0
        sample: list[Input] = []
        for shard in plan.shards:
            splits[shard.split] += shard.rows
            inputs = read_inputs(root, shard.name, plan.layout)
            weight += sum(size(row) for row in inputs)
            characters += sum(len(p.text) for row in inputs for p in row.parts.values())
            sample += [row for n, row in enumerate(inputs, seen) if n % step == 0]
            seen += len(inputs)
        sample = sample[:rows]
        tick("measuring", len(sample))
        results, seconds = _measure(plan, root, sample, device)
    done = sum(size(row) for row in sample) or 1
    scale = weight / done
    made = [r for r in results if isinstance(r, Encoded)]
    units = sum(len(r.units) for r in made)
    frames = sum(int(r.durations.sum()) for r in made if r.durations is not None)
    payload = sum(
        2 * len(r.units) + (4 * len(r.units) if r.durations is not None else 0) for r in made
    )
    parts = plan.rows * len(plan.layout.parts)
    if getattr(plan.recipe.source, "segments", None) is not None:
        parts = round(len(made) * scale)  # a file gives many
    return Estimate(
        plan,
        splits,
        characters,
        len(sample),
        frames / plan.units["frame_rate"] / 3600 * scale,
        round(units * scale),
        round(payload * scale) + parts * TAR_BYTES + characters,
        seconds / 3600 * scale,
    )


def size(row: Input) -> int:
    """What a row's cost grows with: characters, or units, or milliseconds of audio, about."""
    return sum(_part_size(part) for part in row.parts.values())


def _part_size(part: PlannedPart) -> int:
    if part.units is not None:
        return len(part.units)
    return round(1000 * seconds_of(part)) if part.audio else len(part.text)


def _measure(
    plan: Plan, root: Path, sample: list[Input], device: str
) -> tuple[list[object], float]:
    """Runs the stages over a few rows; the first call warms up and is not timed."""
    if not sample:
        return [], 0.0
    stages = load_stages(plan, root, device)
    try:
        seed = plan.recipe.seed
        if not isinstance(first := stages.cut(sample[0]), Reject):
            stages(items_of(first[0], seed))
        start = time.perf_counter()
        cuts = [cut for row in sample if not isinstance(cut := stages.cut(row), Reject)]
        items = [item for cut in cuts for row in cut for item in items_of(row, seed)]
        results: list[object] = [
            result
            for chunk in chunks([item.part for item in items], stages.batch_seconds)
            for result in stages([items[i] for i in chunk])
        ]
        return results, time.perf_counter() - start
    finally:
        stages.close()
