"""`unitcorpus kmeans`: codebooks of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unitcorpus.cli.options import (
    Device,
    Limit,
    RecipeName,
    Settings,
    read_device,
    read_recipe,
)

kmeans = typer.Typer(no_args_is_help=True, help="Fit a codebook, or import a published one.")


@kmeans.callback()
def _group() -> None:
    """Codebooks."""


@kmeans.command()
def fit(
    recipe: RecipeName,
    clusters: Annotated[int, typer.Option(min=2, max=65_536, help="Number of units.")],
    out: Annotated[Path, typer.Option(help="The codebook to write (.npy).")],
    limit: Limit = None,
    settings: Settings = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames to use, at most.")] = 1_000_000,
    device: Device = "auto",
) -> None:
    """Fit a codebook on the features of a recipe's source.

    Example: unitcorpus kmeans fit demo/stinystories --clusters 100 --limit 100 --out my.npy
    """
    from unitcorpus.build.codebook import fit_codebook

    resolved = read_recipe(recipe, settings, limit)
    fitted = fit_codebook(resolved, clusters, frames, read_device(device), out)
    print(
        f"{out}: {clusters} clusters of width {fitted.width} fitted on {fitted.frames:,} frames of "
        f"{fitted.utterances:,} utterances; inertia {fitted.inertia:.4f} a frame"
    )
    print(f"sha256 {fitted.sha256}")
