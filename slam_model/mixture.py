"""The corpora of a run, and how much of each: `--data` of slam_model.train.

    python -m slam_model.train slam --data MIXTURE.yaml --out runs/slam

What a mixture is: unitcorpus.recipe.mixture. Its numbers become the recipe's own, data.weights or
data.repeats, and are recorded with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slam_model.recipe import TrainRecipe
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.mixture import Mixture, mixture_of


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
    """What `--data` was given: corpora, or one mixture. Raises UnitcorpusError."""
    mixture = mixture_of(locations)
    if mixture is None:
        return Sources(list(locations))
    return Sources([one.path for one in mixture.corpora], mixture)
