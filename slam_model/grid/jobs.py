"""What a cell runs, in its folder: pretraining, the preference run, scores, generation.

    OUT/cells/NAME/pretrained.yaml, dpo.yaml      the resolved recipes
                   pretrained/, dpo/              folders of slam_model.train
                   scores.json, generated-*.json  of slam_model.eval
                   log.txt                        what all of them said

Each is a command of its own, so that a crash costs no more than it, and each knows whether it is
done; a training run that was interrupted resumes by itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from slam_model.grid.cells import BASE, PRETRAINED, Cell
from slam_model.grid.recipe import Grid, Stage
from slam_model.recipe import TrainRecipe
from unitcorpus.shards.writer import write_atomic

PROMPTS = 1000
DPO_PENALTY = 1.1
"""Repetition penalty of the paper's preference model when it generates; 1 before."""

SAID: dict[Stage, str] = {"pretrained": "pretraining", "dpo": "DPO"}


@dataclass(frozen=True)
class Place:
    """Where things are: the grid's folder, the corpora's (a folder or URL), and the models that
    speak and transcribe (`readers`: options of slam_model.eval; no vocoder: nothing is spoken)."""

    out: Path
    data: str
    device: str = "auto"
    vocoder: str | None = None
    readers: tuple[str, ...] = ()

    def folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.name

    def corpus(self, name: str) -> str:
        return f"{self.data.rstrip('/')}/{name}"

    def has(self, name: str) -> bool:
        """Whether that corpus is at hand; of one behind a URL this shows only when it is read."""
        return "://" in self.data or Path(self.corpus(name), "corpus.json").is_file()


@dataclass(frozen=True)
class Job:
    """One command. `prepare` is called before it; `done` says whether there is nothing to do."""

    name: str
    command: list[str]
    done: Callable[[], bool]
    prepare: Callable[[], object] = lambda: None


def jobs(grid: Grid, cell: Cell, place: Place) -> Iterator[Job]:
    """What the cell is made of, in order; scores of the test sets that are at hand."""
    folder = place.folder(cell)
    for stage in cell.recipes:
        yield _training(cell, stage, place)
    sets = [name for name in score_sets(grid, cell) if place.has(name)]
    models = [str(folder / stage / "final") for stage in cell.recipes]
    context = ["--context", str(cell.recipes["pretrained"].data.context)]
    if sets:
        data = [place.corpus(name) for name in sets]
        file = folder / "scores.json"
        command = _eval(place, models, data, file, context)
        yield Job("scores", command, partial(_scored, file, sets))
    spoken = [name for name in score_sets(grid, cell, generated=True) if place.has(name)]
    if spoken and place.vocoder:
        for stage, model in zip(cell.recipes, models, strict=True):
            file = folder / f"generated-{stage}.json"
            command = _generation(place, stage, model, [place.corpus(n) for n in spoken], file)
            yield Job("generation", command, partial(_scored, file, spoken))


def score_sets(grid: Grid, cell: Cell, generated: bool = False) -> list[str]:
    """Folders below --data that the scores are of, each once."""
    wanted = [s for s in cell.scores(grid).values() if s.generated == generated]
    return list(dict.fromkeys(score.data for score in wanted))


def is_done(grid: Grid, cell: Cell, place: Place) -> bool:
    return all(job.done() for job in jobs(grid, cell, place))


def resolved(cell: Cell, stage: Stage, place: Place) -> TrainRecipe:
    """The recipe of a stage with the place of its base filled in."""
    recipe = cell.recipes[stage]
    base = recipe.model.base
    if base == PRETRAINED:
        base = (place.folder(cell) / "pretrained" / "final").as_posix()
    elif isinstance(base, str) and base.startswith(BASE):
        base = place.corpus(base.removeprefix(BASE))
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": base})})


def training_corpora(cell: Cell) -> list[str]:
    return list(dict.fromkeys(name for names in cell.data.values() for name in names))


def read_results(file: Path) -> list[dict[str, Any]]:
    """The figures that slam_model.eval wrote to `file`; none where it has not."""
    return list(json.loads(file.read_bytes())["results"]) if file.is_file() else []


def folder_of(result: dict[str, Any]) -> str:
    """The folder's name of what a result is of: a cell's data may be moved."""
    return str(result["location"]).rstrip("/").rsplit("/", 1)[-1]


def _training(cell: Cell, stage: Stage, place: Place) -> Job:
    folder = place.folder(cell)
    file = folder / f"{stage}.yaml"
    module = ["-m", "slam_model.train"]
    if cell.processes > 1 and stage == "pretrained":
        launch = ["-m", "accelerate.commands.launch", "--num_processes", str(cell.processes)]
        module = [*launch, *module]
    data = [place.corpus(name) for name in cell.data[stage]]
    command = [sys.executable, *module, str(file), "--data", *data, "--out", str(folder / stage)]
    recipe = resolved(cell, stage, place).model_dump(mode="json")
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).encode()
    return Job(
        SAID[stage],
        [*command, "--device", place.device],
        (folder / stage / "final" / "config.json").is_file,
        partial(write_atomic, file, text),
    )


def _eval(
    place: Place, models: list[str], data: list[str], file: Path, more: list[str]
) -> list[str]:
    command = [sys.executable, "-m", "slam_model.eval", *models, "--data", *data]
    device = [] if place.device == "auto" else ["--device", place.device]
    return [*command, "--json", str(file), *device, *more]


def _generation(place: Place, stage: Stage, model: str, data: list[str], file: Path) -> list[str]:
    penalty = ["--repetition-penalty", str(DPO_PENALTY)] if stage == "dpo" else []
    more = ["--generate", "--vocoder", str(place.vocoder), "--limit", str(PROMPTS)]
    return _eval(place, [model], data, file, [*more, *place.readers, *penalty])


def _scored(file: Path, sets: list[str]) -> bool:
    return set(sets) <= {folder_of(result) for result in read_results(file)}
