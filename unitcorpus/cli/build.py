"""`unitcorpus build`, `unitcorpus pairs` and `unitcorpus plan`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

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
from unitcorpus.recipe import Recipe

if TYPE_CHECKING:
    from unitcorpus.cli.mixture import Training

Out = Annotated[
    str | None,
    typer.Option(help="The folder, or fsspec URL, to build in. Default: corpora/NAME."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start again if the folder holds a corpus.")
]
Executor = Annotated[
    str, typer.Option(help="auto, local (this process) or ray. auto: ray for several workers.")
]
Workers = Annotated[int, typer.Option(min=1, help="Workers, one per device slot.")]
RayAddress = Annotated[
    str | None, typer.Option(help="A running Ray cluster, e.g. auto. Default: Ray on this machine.")
]
Share = Annotated[
    float,
    typer.Option(min=0.01, max=1, help="Of a GPU, for each worker: with 0.5, two work on one."),
]


def build(
    recipe: RecipeName,
    out: Out = None,
    limit: Limit = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    executor: Executor = "auto",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    devices_per_worker: Share = 1,
    device: Device = "auto",
) -> None:
    """Build a corpus, or go on with a build that was stopped.

    Example: unitcorpus build demo/stinystories --limit 50 --out corpora/demo
    """
    resolved = read_recipe(recipe, settings, limit)
    if resolved.layout != "utterances":
        raise UnitcorpusError(f"recipe {recipe} makes pairs: run unitcorpus pairs {recipe}")
    _run(resolved, out, overwrite, (executor, workers, ray_address, device, devices_per_worker))


def pairs(
    recipe: RecipeName,
    out: Out = None,
    limit: Limit = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    executor: Executor = "auto",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    devices_per_worker: Share = 1,
    device: Device = "auto",
) -> None:
    """Build preference pairs or a likelihood test set, or go on with a build that was stopped.

    Example: unitcorpus pairs demo/spokenswag --set source.path=val.csv --out corpora/pairs
    """
    resolved = read_recipe(recipe, settings, limit)
    if resolved.layout == "utterances":
        raise UnitcorpusError(f"recipe {recipe} makes no pairs: run unitcorpus build {recipe}")
    _run(resolved, out, overwrite, (executor, workers, ray_address, device, devices_per_worker))


def _run(
    recipe: Recipe,
    out: str | None,
    overwrite: bool,
    how: tuple[str, int, str | None, str, float],
) -> None:
    """Builds, and tells how it ended. Exits with 1 where shards were set aside."""
    from unitcorpus.build.run import Execution, build_corpus
    from unitcorpus.cli.summary import summary
    from unitcorpus.shards.store import folder_of, is_url

    executor, workers, address, device, share = how
    if executor not in ("auto", "local", "ray"):
        raise UnitcorpusError(f"there is no executor '{executor}'; give auto, local or ray")
    root = out if out and is_url(out) else folder_of(out or f"corpora/{recipe.name}")
    start = time.monotonic()
    with Counter() as counter:
        if address is None or device == "auto":  # else it is the cluster's affair
            device = read_device(device)
        execution = Execution(executor, workers, address, device, share)
        outcome = build_corpus(
            recipe, root, overwrite=overwrite, execution=execution, tick=counter.tick
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
    print(summary(outcome.corpus, root))
    fresh = len(outcome.plan.shards) - outcome.resumed
    took = duration(time.monotonic() - start)
    there = f", {outcome.resumed:,} there already" if outcome.resumed else ""
    print(f"{fresh:,} shard{'' if fresh == 1 else 's'} built{there}, in {took}")


def plan(
    recipe: RecipeName,
    limit: Limit = None,
    settings: Settings = None,
    measure: Annotated[
        int, typer.Option(min=1, help="Rows to build, and forget, for the estimate.")
    ] = 8,
    tokens: Annotated[
        float | None, typer.Option(min=1, help="Of a mixture: the tokens to be trained on.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="In place of tokens. Default: 23.5.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=1, help="Tokens a second of training. Default: 16550.")
    ] = None,
    device: Device = "auto",
) -> None:
    """What a build would make and cost: rows, hours, units, bytes, time; of a mixture what it
    holds, and how far that goes. Writes nothing.

    Example: unitcorpus plan demo/stinystories --set source.path=stories.jsonl
    """
    from unitcorpus.build.estimate import estimate
    from unitcorpus.cli.mixture import Training
    from unitcorpus.recipe.mixture import is_mixture

    training = Training(tokens, hours, speed)
    if is_mixture(recipe):
        if settings or limit is not None:
            raise UnitcorpusError("--set and --limit are for recipes: change the mixture's file")
        _plan_mixture(recipe, training, measure, read_device(device))
        return
    if training != Training():
        raise UnitcorpusError(
            f"--tokens, --hours and --speed are for mixtures, and {recipe} is a recipe"
        )
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
    length = f"{found.hours:,.2f} hours, " if found.hours else ""
    print(f"speech    {length}{found.units:,} units")
    print(f"on disk   {found.bytes / 1e6:,.1f} MB of shards")
    print(f"work      {duration(found.work_hours * 3600)} on one worker")


def _plan_mixture(name: str, training: Training, rows: int, device: str) -> None:
    from unitcorpus.build.mixture import survey
    from unitcorpus.cli.mixture import Training, describe
    from unitcorpus.recipe.mixture import load_mixture

    if training.tokens is not None and training != Training(training.tokens):
        raise UnitcorpusError("give --tokens, or --hours and --speed, not both")
    mixture = load_mixture(name)
    with Counter() as counter:
        found = survey(mixture, rows, device, counter.tick)
    print(describe(mixture, found, training))
