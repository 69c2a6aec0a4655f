"""`unitcorpus build` and `unitcorpus plan`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from unitcorpus.build.meter import duration
from unitcorpus.cli.options import (
    Counter,
    Device,
    Limit,
    RecipeName,
    Settings,
    read_device,
    read_recipe,
)
from unitcorpus.errors import UnitcorpusError


def build(
    recipe: RecipeName,
    out: Annotated[
        Path | None, typer.Option(help="The corpus's folder. Default: corpora/NAME.")
    ] = None,
    limit: Limit = None,
    settings: Settings = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again if the folder holds a corpus.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="auto, local (this process) or ray. auto: ray for several workers.")
    ] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Workers, one per device slot.")] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster, e.g. auto. Default: Ray on this machine."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Build a corpus, or go on with a build that was stopped.

    Example: unitcorpus build demo/stinystories --limit 50 --out corpora/demo
    """
    from unitcorpus.build.run import Execution, build_corpus

    if executor not in ("auto", "local", "ray"):
        raise UnitcorpusError(f"there is no executor '{executor}'; give auto, local or ray")
    resolved = read_recipe(recipe, settings, limit)
    root = (out or Path("corpora") / resolved.name).expanduser()
    start = time.monotonic()
    with Counter() as counter:
        execution = Execution(executor, workers, ray_address, read_device(device))
        outcome = build_corpus(
            resolved, root, overwrite=overwrite, execution=execution, tick=counter.tick
        )
    if outcome.corpus is None:
        for failure in outcome.failures:
            print(f"{failure.shard}: {failure.error}", file=sys.stderr)
        print(
            f"unitcorpus: {len(outcome.failures)} of {len(outcome.plan.shards)} shards failed; the "
            "others are built. Run the same command to try them again",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    from unitcorpus.cli.summary import summary

    print(summary(outcome.corpus, root))
    fresh = len(outcome.plan.shards) - outcome.resumed
    took = duration(time.monotonic() - start)
    print(f"{fresh} shards built, {outcome.resumed} were there already, in {took}")


def plan(
    recipe: RecipeName,
    limit: Limit = None,
    settings: Settings = None,
    measure: Annotated[
        int, typer.Option(min=1, help="Rows to build, and forget, for the estimate.")
    ] = 8,
    device: Device = "auto",
) -> None:
    """What a build would make and cost: rows, hours, units, bytes, time. Writes nothing.

    Example: unitcorpus plan demo/stinystories --set source.path=stories.jsonl
    """
    from unitcorpus.build.estimate import estimate

    resolved = read_recipe(recipe, settings, limit)
    target = read_device(device)
    with Counter() as counter:
        found = estimate(resolved, measure, target, counter.tick)
    splits = ", ".join(f"{n:,} {split}" for split, n in found.splits.items())
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in found.plan.rejected.items()) or "none"
    print(f"recipe    {resolved.name}  (plan {found.plan.fingerprint[:12]})")
    print(f"rows      {found.plan.rows:,}  ({splits}), {found.characters:,} characters")
    print(f"left out  {dropped}")
    print(f"shards    {len(found.plan.shards):,} of up to {resolved.shards.samples:,} samples")
    print(f"from {found.measured} rows built on {target}, about")
    hours = f"{found.hours:,.2f} hours, " if found.hours else ""
    print(f"speech    {hours}{found.units:,} units")
    print(f"on disk   {found.bytes / 1e6:,.1f} MB of shards")
    print(f"work      {duration(found.work_hours * 3600)} on one worker")
