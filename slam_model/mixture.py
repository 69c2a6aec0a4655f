"""A mixture: which corpora a run is trained on, and how much of each.

    python -m slam_model.train slam --data MIXTURE.yaml --out runs/slam

    corpora:                                  # MIXTURE.yaml
      - {path: corpora/stinystories, weight: 0.4}
      - {path: "hf://datasets/user/librilight-units", weight: 0.6}

Weights are shares of the tokens that are learnt; with `epochs` in their place a corpus is seen so
often while one without is seen once. A path is read from the folder that the file is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from slam_model.recipe import TrainRecipe
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.loading import load_section
from unitcorpus.recipe.section import Section

SUFFIXES = (".yaml", ".yml")


class Part(Section):
    """One corpus of a mixture."""

    path: str = Field(..., min_length=1, description="a folder, or any URL of fsspec")
    weight: float | None = Field(None, gt=0, description="share of the tokens; any scale")
    epochs: float | None = Field(None, gt=0, le=1e6, description="times in an epoch of the run")


class Mixture(Section):
    """Every corpus has a weight, or none has."""

    name: str = ""
    description: str = ""
    corpora: list[Part] = Field(..., min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _is_a_mixture(cls, data: Any) -> Any:
        if isinstance(data, dict) and "corpora" not in data:
            raise ValueError("this is no mixture of corpora for --data: it has no list 'corpora'")
        return data

    @model_validator(mode="after")
    def _one_measure(self) -> Mixture:
        weighted = [part.weight is not None for part in self.corpora]
        if any(weighted) and not all(weighted):
            missing = self.corpora[weighted.index(False)].path
            raise ValueError(f"give every corpus a weight, or none: {missing} has none")
        if any(weighted) and any(part.epochs is not None for part in self.corpora):
            raise ValueError("give weights or epochs, not both")
        return self


@dataclass(frozen=True)
class Sources:
    """What --data names: the places of the corpora, and the mixture where it is one."""

    locations: list[str]
    mixture: Mixture | None = None

    def mixed(self, recipe: TrainRecipe, names: Sequence[str]) -> TrainRecipe:
        """The recipe with the mixture's numbers for the corpora of these `names`, in the order of
        `locations`. Raises UnitcorpusError where the recipe has its own, or a name is not unique.
        """
        if self.mixture is None:
            return recipe
        parts = self.mixture.corpora
        weights = {n: p.weight for n, p in zip(names, parts, strict=True) if p.weight}
        repeats = {n: p.epochs for n, p in zip(names, parts, strict=True) if p.epochs}
        if not weights and not repeats:
            return recipe
        if recipe.data.weights or recipe.data.repeats:
            raise UnitcorpusError(
                "both the mixture and the recipe (data.weights, data.repeats) say how much of a "
                "corpus is seen: take one of them out"
            )
        twice = next((name for name in names if list(names).count(name) > 1), None)
        if twice is not None:
            raise UnitcorpusError(f"two corpora of the mixture are named '{twice}': rename one")
        data = {**recipe.data.model_dump(), "weights": weights, "repeats": repeats}
        return TrainRecipe.model_validate({**recipe.model_dump(), "data": data})


def find_sources(locations: Sequence[str]) -> Sources:
    """What `--data` was given: corpora, or one mixture file. Raises UnitcorpusError."""
    files = [one for one in locations if one.endswith(SUFFIXES)]
    if not files:
        return Sources(list(locations))
    if len(locations) > 1:
        raise UnitcorpusError(f"--data {files[0]} is a mixture: name all corpora in it, or none")
    path = Path(files[0]).expanduser()
    if not path.is_file():
        raise UnitcorpusError(f"--data {files[0]}: there is no such mixture file")
    mixture = load_section(Mixture, str(path))
    return Sources([_place(part.path, path.parent) for part in mixture.corpora], mixture)


def _place(path: str, folder: Path) -> str:
    return path if "://" in path else str(folder / Path(path).expanduser())
