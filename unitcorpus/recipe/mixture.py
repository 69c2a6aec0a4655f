"""Mixtures: several corpora of the same units, and how much of each a model sees.

    corpora:                                            # MIXTURE.yaml
      - {path: corpora/stinystories, weight: 0.4}
      - {path: "hf://datasets/user/librilight-units", weight: 0.6}

`unitcorpus plan MIXTURE` tells what it holds, `python -m slam_model.train RECIPE --data MIXTURE`
trains on it. Weights are shares of the tokens that are learnt, and an epoch then has as many as the
corpora together; with `epochs` in their place a corpus is seen so often in an epoch, while one
without is seen once. A path is read from the folder that the file is in, that of a shipped mixture
from the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.loading import find_recipe, list_recipes, load_section, read_yaml
from unitcorpus.recipe.section import Section

SUFFIXES = (".yaml", ".yml")


class Ingredient(Section):
    """One corpus of a mixture. `recipe` stands for it until it is built: null is the shipped recipe
    with the name of its folder."""

    path: str = Field(..., min_length=1, description="a folder, or any URL of fsspec")
    recipe: str | None = Field(None, description="of a corpus that may not be built yet")
    weight: float | None = Field(None, gt=0, description="share of the tokens; any scale")
    epochs: float | None = Field(None, gt=0, le=1e6, description="times in an epoch of the run")

    @model_validator(mode="after")
    def _is_a_corpus(self) -> Ingredient:
        if self.path.endswith(SUFFIXES):
            raise ValueError(
                f"{self.path} is no corpus: a mixture holds no mixtures, and the recipe of a "
                "corpus goes into `recipe`"
            )
        if self.weight is not None and self.epochs is not None:
            raise ValueError("give weights or epochs, not both")
        return self

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class Mixture(Section):
    """Every corpus has a weight, or none has. None stands there twice."""

    name: str = ""
    description: str = ""
    corpora: list[Ingredient] = Field(..., min_length=1)

    @classmethod
    def recognises(cls, data: dict[str, Any]) -> bool:
        return isinstance(data.get("corpora"), list)

    @model_validator(mode="before")
    @classmethod
    def _is_a_mixture(cls, data: Any) -> Any:
        if isinstance(data, dict) and "corpora" not in data:
            raise ValueError("this is no mixture of corpora for --data: it has no list 'corpora'")
        return data

    @model_validator(mode="after")
    def _fits(self) -> Mixture:
        weighted = [one.weight is not None for one in self.corpora]
        if any(weighted) and not all(weighted):
            missing = self.corpora[weighted.index(False)].path
            raise ValueError(f"give every corpus a weight, or none: {missing} has none")
        paths = [_tidy(one.path) for one in self.corpora]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} stands there twice: once, with its weight or epochs")
        return self

    def repeats(self, tokens: Sequence[int]) -> list[float]:
        """How often each corpus is seen in an epoch, by the tokens that are learnt of each."""
        weights = [one.weight for one in self.corpora if one.weight is not None]
        if not weights:
            return [one.epochs or 1.0 for one in self.corpora]
        unit = sum(tokens) / sum(weights)
        return [weight * unit / own for weight, own in zip(weights, tokens, strict=True)]


def load_mixture(name: str) -> Mixture:
    """A mixture by its shipped name (`mixtures/libri`) or the path of a YAML file, with paths as
    they are read from here. Raises UnitcorpusError, in one line."""
    mixture = load_section(Mixture, name)
    if not name.endswith(SUFFIXES):
        return mixture
    folder = Path(name).expanduser().parent
    placed = [one.model_copy(update={"path": _placed(one.path, folder)}) for one in mixture.corpora]
    return mixture.model_copy(update={"corpora": placed})


def _tidy(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.normpath(path)


def _placed(path: str, folder: Path) -> str:
    return path if "://" in path else str(folder / Path(path).expanduser())


def is_mixture(name: str) -> bool:
    """Whether `name`, of a recipe or of a mixture, is a mixture's."""
    if name.endswith(SUFFIXES):
        keys = read_yaml(find_recipe(name, Mixture)).keys()
        return "corpora" in keys and "source" not in keys
    return name in list_recipes(Mixture)


def mixture_of(locations: Sequence[str]) -> Mixture | None:
    """The mixture that `--data` names, or None where it names corpora. Raises UnitcorpusError."""
    shipped = list_recipes(Mixture)
    files = [
        one
        for one in locations
        if one.endswith(SUFFIXES) or (one in shipped and not Path(one).is_dir())
    ]
    if not files:
        return None
    if len(locations) > 1:
        raise UnitcorpusError(f"--data {files[0]} is a mixture: name all corpora in it, or none")
    if files[0] not in shipped and not Path(files[0]).expanduser().is_file():
        raise UnitcorpusError(f"--data {files[0]}: there is no such mixture file")
    return load_mixture(files[0])
