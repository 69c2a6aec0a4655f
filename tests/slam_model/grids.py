"""A grid of runs of a second, and grids written by hand, for the tests of slam_model.grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from runs import write_pairs, write_recipe, write_stories
from slam_model.grid.cells import Cell, expand
from slam_model.grid.jobs import Place
from slam_model.grid.recipe import Grid, Stage


def grid(root: Path, **changes: Any) -> dict[str, Any]:
    """The text of a grid of one axis, with its recipes in `root`; pretraining, DPO, two scores."""
    recipe = write_recipe(root / "tiny.yaml")
    preference = write_recipe(
        root / "tiny_dpo.yaml", dpo={"pairs_per_step": 4}, budget={"steps": 4}, name="tiny_dpo"
    )
    return {
        "name": "test",
        "title": "A test",
        "recipe": str(recipe),
        "data": ["stories"],
        "preference": {"recipe": str(preference), "data": ["pairs"]},
        "axes": {"width": {"narrow": {}, "wide": {"set": {"model.base.hidden_size": 64}}}},
        "scores": {
            "ppl": {"data": "stories", "metric": "perplexity"},
            "acc": {"data": "pairs"},
            "spoken": {"data": "pairs", "metric": "GenPPL"},
        },
        "picture": {"kind": "scatter", "score": "acc"},
    } | changes


def write_grid(root: Path, **changes: Any) -> Path:
    """The grid as a file, and its corpora in root/data."""
    write_stories(root / "data" / "stories")
    write_pairs(root / "data" / "pairs")
    path = root / "grid.yaml"
    path.write_text(yaml.safe_dump(grid(root, **changes), sort_keys=False), "utf-8")
    return path


def finish(cell: Cell, place: Place, scores: Mapping[Stage, Mapping[str, float]]) -> None:
    """Writes what a finished cell leaves: scores (shares, as of eval) by stage and column."""
    folder, results = place.folder(cell), []
    for number, stage in enumerate(cell.recipes):
        final = folder / stage / "final"
        final.mkdir(parents=True)
        (final / "config.json").write_text("{}")
        save_file({"weight": torch.zeros(3, 5)}, final / "model.safetensors")
        lines = [
            {"step": 1, "tokens": 10, "elapsed": 36.0, "flops": 1e6, "validation_perplexity": 9.0},
            {"step": 2, "tokens": 20, "elapsed": 72.0, "flops": 4e6 + number},
        ]
        lines[1]["validation_perplexity"] = 5.0 + cell.seed
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / stage / "metrics.jsonl").write_text(text)
        for data, value in scores[stage].items():
            metric = "perplexity" if data == "stories" else "accuracy"
            one = {"name": str(final), "value": value}
            where = {"data": "x", "location": f"elsewhere/{data}", "group": "", "metric": metric}
            results.append({**where, "checkpoints": [one]})
    (folder / "scores.json").write_text(json.dumps({"results": results}))


def finished(
    root: Path, values: Mapping[int, float], **changes: Any
) -> tuple[Grid, list[Cell], Place]:
    """A grid whose `narrow` cells are finished, with the accuracy `values[seed]` after
    pretraining and 0.1 more after DPO; its `wide` cells have not begun."""
    made = Grid.model_validate(grid(root, seeds=list(values), **changes))
    cells, place = expand(made), Place(root / "out", str(root / "data"))
    for cell in cells:
        if cell.labels["width"] == "narrow":
            acc = values[cell.seed]
            before, after = {"stories": 7.0, "pairs": acc}, {"stories": 8.0, "pairs": acc + 0.1}
            finish(cell, place, {"pretrained": before, "dpo": after})
    return made, cells, place
