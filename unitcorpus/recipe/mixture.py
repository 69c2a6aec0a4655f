"""Mixtures: several corpora of the same units, and how much of each a model sees.

    mixture = load_mixture("mixtures/libri_synthetic")     # or the path of a YAML file
    mixture.repeats({"librilight": 3_500_000_000, …})      # how often each is seen in an epoch

`unitcorpus plan` tells what a mixture holds, `python -m slam_model.train RECIPE --data MIXTURE`
trains on it. Corpora have either `epochs`, how often each sample is seen in an epoch of the mixture
(1 where nothing is said), or `weight`, the share of the tokens relative to the other weights; then
an epoch has as many tokens as the corpora hold together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.loading import list_recipes, load_section, recipe_keys
from unitcorpus.recipe.section import Section


class Ingredient(Section):
    """One corpus. `path` is a folder or URL (null: the mixture's folder and the corpus's name);
    `recipe` stands for it until it is built (null: the shipped recipe of its name)."""

    path: str | None = None
    recipe: str | None = None
    epochs: float | None = Field(None, gt=0, le=1e6, description="times a sample is seen an epoch")
    weight: float | None = Field(None, gt=0, description="share of the tokens, relative to others")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Ingredient:
        if self.epochs is not None and self.weight is not None:
            raise ValueError("give epochs or a weight, not both")
        if self.path is not None and self.path.endswith((".yaml", ".yml")):
            raise ValueError(
                f"path is {self.path}, not a corpus: a mixture holds no mixtures, and the recipe "
                "of a corpus that is not built goes into recipe"
            )
        return self


class Mixture(Section):
    """`folder` is where the corpora lie, relative to the working directory, or a URL."""

    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    description: str = ""
    folder: str = "corpora"
    corpora: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], Ingredient] = (
        Field(..., min_length=1)
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_names(cls, data: Any) -> Any:
        """`librilight:` with nothing behind it is the corpus once an epoch."""
        if isinstance(data, dict) and isinstance(data.get("corpora"), dict):
            filled = {name: one or {} for name, one in data["corpora"].items()}
            return {**data, "corpora": filled}
        return data

    @model_validator(mode="after")
    def _fits(self) -> Mixture:
        weighted = [name for name, one in self.corpora.items() if one.weight is not None]
        plain = [name for name in self.corpora if name not in weighted]
        if weighted and plain:
            raise ValueError(
                f"corpora.{weighted[0]} has a weight and corpora.{plain[0]} none: give all a "
                "weight, or none"
            )
        seen: dict[str, str] = {}
        for name in self.corpora:
            place = _place(self.location(name))
            if place in seen:
                raise ValueError(f"corpora {seen[place]} and {name} are both {self.location(name)}")
            seen[place] = name
        return self

    def location(self, name: str) -> str:
        """The folder or URL of a corpus."""
        return self.corpora[name].path or f"{self.folder.rstrip('/')}/{name}"

    @property
    def locations(self) -> list[str]:
        return [self.location(name) for name in self.corpora]

    def repeats(self, tokens: Mapping[str, int]) -> dict[str, float]:
        """How often each corpus is seen in an epoch, by its number of tokens."""
        weights = {name: one.weight for name, one in self.corpora.items() if one.weight is not None}
        if not weights:
            return {name: one.epochs or 1.0 for name, one in self.corpora.items()}
        whole = sum(tokens[name] for name in weights) / sum(weights.values())
        return {name: weight * whole / tokens[name] for name, weight in weights.items()}


def load_mixture(name: str, overrides: Sequence[str] = ()) -> Mixture:
    """A mixture by its shipped name (`mixtures/libri`) or the path of a YAML file. Raises
    UnitcorpusError, in one line, for whatever is wrong in it."""
    return load_section(Mixture, name, overrides)


def is_mixture(name: str) -> bool:
    """Whether a name is a mixture's rather than that of a recipe or of a corpus's folder: the path
    of a YAML file that lists corpora, or a shipped mixture's."""
    if name.endswith((".yaml", ".yml")):
        keys = recipe_keys(name)
        return "corpora" in keys and "source" not in keys
    return name in list_recipes(Mixture) and not Path(name).expanduser().is_dir()


def open_mixture(data: Sequence[str]) -> Mixture | None:
    """The mixture that `--data` names, or None where it names corpora."""
    named = [one for one in data if one.endswith((".yaml", ".yml")) or is_mixture(one)]
    if not named:
        return None
    if len(data) > 1:
        raise UnitcorpusError(
            f"--data {named[0]} is a mixture and goes alone; put the other corpora into it"
        )
    return load_mixture(named[0])


def _place(location: str) -> str:
    if "://" in location:
        return location.rstrip("/")
    return str(Path(location).expanduser().resolve())
