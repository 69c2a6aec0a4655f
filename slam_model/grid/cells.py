"""The cells of a grid: one run folder each, with every recipe resolved and checked.

    cells = expand(load_grid("paper/figure4"), profile=None, seeds=None, overrides=[])

A cell's name is made of its choices and seed, so that it stays the same when cells are added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from slam_model.grid.recipe import Choice, Grid, Profile, Score, Stage
from slam_model.recipe import TrainRecipe, load_train_recipe
from unitcorpus.errors import UnitcorpusError

PRETRAINED = "@pretrained"
"""Stands for the cell's own pretrained model as the base of its preference run."""

BASE = "@data/"
"""Stands before a base that a profile gives as a folder below --data."""


@dataclass(frozen=True)
class Cell:
    """`labels` are its choices, an axis each; `recipes` and `data` are its runs in their order."""

    labels: dict[str, str]
    seed: int
    recipes: dict[Stage, TrainRecipe]
    data: dict[Stage, tuple[str, ...]]
    processes: int
    renamed: dict[str, str]

    @property
    def name(self) -> str:
        return "_".join([*map(_slug, self.labels.values()), f"seed{self.seed}"])

    @property
    def words(self) -> str:
        return f"{', '.join(self.labels.values())}, seed {self.seed}"

    @property
    def hours(self) -> float | None:
        """Of training, where every budget is in hours."""
        limits = [recipe.budget.hours for recipe in self.recipes.values()]
        return None if None in limits else sum(filter(None, limits))

    @property
    def share(self) -> float:
        """Of the budget (hours, or else steps), what the preference run has."""
        limits = {s: r.budget.hours or r.budget.steps or 0 for s, r in self.recipes.items()}
        return limits.get("dpo", 0) / sum(limits.values())

    def scores(self, grid: Grid) -> dict[str, Score]:
        """The grid's columns, of the corpora that this cell's profile has for them."""
        return {
            name: score.model_copy(update={"data": self.renamed.get(score.data, score.data)})
            for name, score in grid.scores.items()
        }

    def record(self) -> dict[str, Any]:
        """Everything that decides its results."""
        recipes = {stage: one.model_dump(mode="json") for stage, one in self.recipes.items()}
        for one in recipes.values():
            del one["description"]
        return {
            "labels": self.labels,
            "seed": self.seed,
            "recipes": recipes,
            "data": {stage: list(names) for stage, names in self.data.items()},
            "processes": self.processes,
        }


def expand(
    grid: Grid,
    profile: Profile | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """Every choice of every axis with every other, for each seed; `overrides` (key=value) act on
    all pretraining recipes, last. Raises UnitcorpusError for a recipe that is none."""
    chosen = tuple(seeds or (profile and profile.seeds) or grid.seeds)
    cells = []
    for picks in product(*(axis.items() for axis in grid.axes.values())):
        labels = {axis: label for axis, (label, _) in zip(grid.axes, picks, strict=True)}
        choices = [choice for _, choice in picks]
        cells += [_cell(grid, labels, choices, seed, profile, overrides) for seed in chosen]
    names = [cell.name for cell in cells]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UnitcorpusError(f"{grid.name}: two cells are called {min(twice)}: rename a choice")
    return cells


def _cell(
    grid: Grid,
    labels: dict[str, str],
    choices: Sequence[Choice],
    seed: int,
    profile: Profile | None,
    overrides: Sequence[str],
) -> Cell:
    where = f"{grid.name}, {', '.join(labels.values())}"
    own = [choice.data for choice in choices if choice.data]
    data = [*(own[-1] if own else grid.data), *(name for one in choices for name in one.add)]
    sets = _merged(grid.set, *(one.set for one in choices))
    recipe = next((one.recipe for one in reversed(choices) if one.recipe), grid.recipe)
    pretrain = _recipe(where, recipe, {**sets, "seed": seed}, profile, overrides)
    recipes: dict[Stage, TrainRecipe] = {"pretrained": pretrain}
    corpora: dict[Stage, tuple[str, ...]] = {"pretrained": _corpora(data, profile)}
    if grid.preference and all(choice.dpo for choice in choices):
        sets = _merged(grid.preference.set, *(one.dpo_set for one in choices))
        sets |= {"seed": seed, "model.base": PRETRAINED}
        recipes["dpo"] = _recipe(where, grid.preference.recipe, sets, profile, ())
        corpora["dpo"] = _corpora(grid.preference.data, profile)
    own_processes = [choice.processes for choice in choices if choice.processes]
    processes = own_processes[-1] if own_processes else grid.processes
    processes = (profile and profile.processes) or processes
    return Cell(labels, seed, recipes, corpora, processes, profile.corpora if profile else {})


def _recipe(
    where: str,
    name: str,
    sets: Mapping[str, Any],
    profile: Profile | None,
    overrides: Sequence[str],
) -> TrainRecipe:
    try:
        recipe = load_train_recipe(name, _words(sets))
        if profile is not None:
            first = profile.dpo_set if recipe.dpo else profile.set
            sets = {**first, **sets, **_sized(recipe, profile)}
        return load_train_recipe(name, [*_words(sets), *overrides])
    except UnitcorpusError as error:
        raise UnitcorpusError(f"{where}: {error}") from None


def _sized(recipe: TrainRecipe, profile: Profile) -> dict[str, Any]:
    """What makes a recipe's base and budget those of the profile."""
    sets: dict[str, Any] = {}
    base, budget = recipe.model.base, recipe.budget
    if isinstance(base, str) and base in profile.bases:
        sets["model.base"] = BASE + profile.bases[base]
    pace = profile.dpo_steps_per_hour if recipe.dpo else profile.steps_per_hour
    if budget.hours and pace:
        sets |= {"budget.hours": None, "budget.steps": max(1, round(budget.hours * pace))}
    elif budget.steps:
        sets["budget.steps"] = max(1, round(budget.steps * profile.step_share))
    if budget.tokens:
        sets["budget.tokens"] = max(1, round(budget.tokens * profile.token_share))
    return sets


def _words(sets: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in sets.items()]


def _corpora(names: Sequence[str], profile: Profile | None) -> tuple[str, ...]:
    """Folders below --data, each once."""
    renamed = profile.corpora if profile else {}
    return tuple(dict.fromkeys(renamed.get(name, name) for name in names))


def _merged(*sets: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for one in sets for key, value in one.items()}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "x"
