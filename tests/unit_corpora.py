"""Small corpora of given unit sequences, built as any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.build.run import build_corpus
from unitcorpus.recipe.models import PublishedUnits, Recipe, Shards
from unitcorpus.recipe.sources import UnitsSource

SIZE = 500


def build_units(
    root: Path,
    rows: Sequence[dict[str, Any]],
    *,
    name: str = "units",
    layout: Any = "utterances",
    samples: int = 7,
    validation: float = 0.0,
    frame_rate: float = 25.0,
) -> Path:
    """A corpus of published rows; a list of units is a row of itself."""
    root.parent.mkdir(parents=True, exist_ok=True)
    path = root.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe(
        name=name,
        source=UnitsSource(path=str(path), layout=layout),
        units=PublishedUnits(name="made up", size=SIZE, frame_rate=frame_rate),
        shards=Shards(samples=samples),
        validation=validation,
    )
    assert build_corpus(recipe, root).corpus is not None
    return root


def random_units(rng: np.random.Generator, length: int, size: int = SIZE) -> list[int]:
    """Units of which no two neighbours are equal."""
    steps = rng.integers(1, size, length)
    return np.mod(np.cumsum(steps), size).tolist()  # type: ignore[no-any-return]


def changed(rng: np.random.Generator, units: list[int], changes: int) -> list[int]:
    """The units with some replaced, left out or added; no two neighbours are equal."""
    units = list(units)
    for _ in range(changes):
        place = int(rng.integers(len(units)))
        new = [random_units(rng, 1), [], [units[place], *random_units(rng, 1)]]
        units[place : place + 1] = new[rng.integers(3)]
    return [u for i, u in enumerate(units) if not i or u != units[i - 1]]
