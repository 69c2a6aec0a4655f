"""`unitcorpus kmeans`: codebooks of one's own."""

from __future__ import annotations

from enum import StrEnum
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


class Init(StrEnum):
    """The frames that centroids start from."""

    RANDOM = "random"
    PLUS_PLUS = "kmeans++"


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
    init: Annotated[Init, typer.Option(help="What centroids start from.")] = Init.RANDOM,
    redos: Annotated[int, typer.Option(min=1, help="Fits, of which the best is kept.")] = 3,
    memory: Annotated[
        float, typer.Option(min=0, help="GiB of features at once; beyond, by mini-batches.")
    ] = 4.0,
    device: Device = "auto",
) -> None:
    """Fit a codebook on the features of a recipe's source, and plot how it is used.

    Example: unitcorpus kmeans fit demo/stinystories --clusters 100 --limit 100 --out my.npy
    """
    from unitcorpus.build.codebook import Fit, fit_codebook

    resolved = read_recipe(recipe, settings, limit)
    how = Fit(clusters, frames, init.value, redos, int(memory * 2**30))
    fitted = fit_codebook(resolved, how, read_device(device), out)
    found, plot = fitted.fitting, fitted.plot
    width = found.centroids.shape[1]
    print(f"{out}: {clusters} clusters of width {width}")
    print(f"sha256      {fitted.sha256}")
    print(f"fitted on   {fitted.frames:,} frames of {fitted.utterances:,} utterances")
    print(f"inertia     {found.inertia:.4f} a frame")
    print(f"usage       entropy {found.entropy:.2f} bits, perplexity {found.perplexity:.1f}")
    print(f"dead        {found.dead} clusters without a frame")
    print(f"plot        {plot}")


@kmeans.command(name="import")
def import_(
    file: Annotated[
        str, typer.Argument(help="A .npy, .safetensors or pickled k-means; a path or a URL.")
    ],
    out: Annotated[Path, typer.Option(help="The codebook to write (.npy).")],
    sha256: Annotated[
        str | None, typer.Option(help="What its authors publish; a pickle from a URL needs it.")
    ] = None,
) -> None:
    """Import a published codebook; nothing in a pickle is ever run.

    Example: unitcorpus kmeans import mhubert_base_25hz_L11_km500.bin --out mhubert.npy
    """
    from unitcorpus.build.codebook import import_codebook

    book = import_codebook(file, sha256, out)
    size, width = book.centroids.shape
    print(f"{out}: {size} clusters of width {width}")
    print(f"sha256      {book.sha256}")
