"""What a grid would run and cost: `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table

from slam_model.grid.cells import Cell
from slam_model.grid.jobs import Place, is_done, resolved, score_sets, training_corpora
from slam_model.grid.recipe import Grid
from slam_model.recipe import Budget


def outlook(grid: Grid, cells: Sequence[Cell], place: Place) -> Group:
    """A line a cell, the hours of all, and which corpora are missing."""
    table = Table("cell", "base", "data", "training", "DPO", "", title=grid.title, box=SIMPLE)
    for cell in cells:
        recipe = resolved(cell, "pretrained", place)
        base = recipe.model.base if isinstance(recipe.model.base, str) else "inline"
        second = cell.recipes["dpo"].budget if "dpo" in cell.recipes else None
        state = "done" if is_done(grid, cell, place) else ""
        data = " + ".join(cell.data["pretrained"])
        first = _words(recipe.budget) + (f" × {cell.processes}" if cell.processes > 1 else "")
        table.add_row(cell.name, base, data, first, _words(second) if second else "none", state)
    return Group(table, *_below(grid, cells, place))


def _below(grid: Grid, cells: Sequence[Cell], place: Place) -> list[str]:
    hours = [cell.hours * cell.processes for cell in cells if cell.hours]
    others = len(cells) - len(hours)
    lines = []
    if hours:
        lines.append(f"{sum(hours):g} GPU-hours of training in {len(hours)} cells")
    if others:
        lines.append(f"{others} of the cells with a budget in steps or tokens")
    named = [
        *(s for c in cells for s in training_corpora(c)),
        *(s for c in cells for s in score_sets(grid, c)),
    ]
    missing = [name for name in dict.fromkeys(named) if not place.has(name)]
    if missing:
        lines.append(f"missing in {place.data}: {', '.join(missing)}")
    if any(score.generated for score in grid.scores.values()) and not place.vocoder:
        lines.append("GenPPL and Auto-BLEU are left out: they need --vocoder")
    return lines


def _words(budget: Budget) -> str:
    parts = {"h": budget.hours, "steps": budget.steps, "tokens": budget.tokens}
    return " or ".join(f"{value:g} {unit}" for unit, value in parts.items() if value)
