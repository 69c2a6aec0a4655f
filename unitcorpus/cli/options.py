"""Options that several commands share, and what they mean."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import Recipe, load_recipe

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a path to a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. shards.samples=500."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N rows of the source (of each split).")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def read_recipe(name: str, settings: list[str] | None, limit: int | None) -> Recipe:
    overrides = [*(settings or []), *([f"source.limit={limit}"] if limit else [])]
    return load_recipe(name, overrides)


def a_folder(name: str, command: str) -> Path:
    """The folder (or file) of an argument, for a command that cannot work at a URL."""
    from unitcorpus.shards.store import folder_of, is_url

    if is_url(name):
        raise UnitcorpusError(
            f"unitcorpus {command} wants a path of this machine, and {name} is a URL"
        )
    return folder_of(name)


def read_device(name: str) -> str:
    """The torch device of a `--device`: auto takes CUDA where there is one."""
    from unitcorpus.build.device import choose_device

    return choose_device(name)


class Counter:
    """One changing line on a terminal while a plan is made; silent elsewhere."""

    def __init__(self) -> None:
        self.visible = sys.stderr.isatty()
        self.shown = 0.0

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def tick(self, what: str, rows: int) -> None:
        if self.visible and time.monotonic() - self.shown > 0.2:
            print(f"\r\x1b[K{what}: {rows:,} rows", end="", file=sys.stderr, flush=True)
            self.shown = time.monotonic()

    def _clear(self) -> None:
        if self.visible and self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
