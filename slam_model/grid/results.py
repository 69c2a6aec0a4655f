"""What the cells of a grid gave: rows of a table, and the curves of its figure.

A row is the cells of one choice after one stage, over their seeds. FLOPs, tokens and hours of a
preference run include its pretraining's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from slam_model.grid.cells import Cell
from slam_model.grid.jobs import Place, folder_of, read_results
from slam_model.grid.recipe import Grid, Published, Score, Stage


@dataclass(frozen=True)
class Range:
    """A figure over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Row:
    """`scores` lacks what was not run; `of` counts the seeds that are trained, `seeds` all.

    `curves` are validation perplexities over FLOPs, of each trained seed; `published` is what the
    paper has of this row.
    """

    labels: dict[str, str]
    stage: Stage
    share: float
    seeds: int
    of: int
    parameters: int | None
    tokens: Range | None
    flops: Range | None
    hours: Range | None
    scores: dict[str, Range]
    curves: list[list[tuple[float, float]]]
    published: tuple[Published, ...]

    def paper(self, score: str) -> float | None:
        return next((p.scores[score] for p in self.published if score in p.scores), None)


@dataclass(frozen=True)
class _Trained:
    """The end of one training run, pretraining included, and its validation perplexities."""

    flops: float
    tokens: float
    hours: float
    curve: list[tuple[float, float]]


def collect(grid: Grid, cells: Sequence[Cell], place: Place) -> list[Row]:
    """The rows in the order of the grid, each stage of its own."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.labels.values()), []).append(cell)
    return [
        _row(grid, group, stage, place) for group in groups.values() for stage in group[0].recipes
    ]


def _row(grid: Grid, cells: Sequence[Cell], stage: Stage, place: Place) -> Row:
    first = cells[0]
    ready = [c for c in cells if (place.folder(c) / stage / "final" / "config.json").is_file()]
    runs = [_trained(place.folder(cell), cell, stage) for cell in ready]
    scores = {}
    for name in grid.scores:
        found = [_score(place.folder(c), stage, c.scores(grid)[name]) for c in ready]
        values = tuple(value for value in found if value is not None)
        if values:
            scores[name] = Range(values)
    weights = place.folder(ready[0]) / stage / "final" if ready else None
    published = [
        p for p in grid.published if p.stage == stage and p.of.items() <= first.labels.items()
    ]
    return Row(
        labels=first.labels,
        stage=stage,
        share=first.share,
        seeds=len(cells),
        of=len(ready),
        parameters=_parameters(weights) if weights else None,
        tokens=Range(tuple(run.tokens for run in runs)) if runs else None,
        flops=Range(tuple(run.flops for run in runs)) if runs else None,
        hours=Range(tuple(run.hours for run in runs)) if runs else None,
        scores=scores,
        curves=[run.curve for run in runs],
        published=tuple(published),
    )


def _trained(folder: Path, cell: Cell, stage: Stage) -> _Trained:
    before = _trained(folder, cell, "pretrained") if stage == "dpo" else _Trained(0, 0, 0, [])
    text = (folder / stage / "metrics.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    curve = [
        (line["flops"], line["validation_perplexity"])
        for line in lines
        if "validation_perplexity" in line
    ]
    last = lines[-1]
    return _Trained(
        before.flops + last["flops"],
        before.tokens + last["tokens"],
        before.hours + last["elapsed"] / 3600,
        curve,
    )


def _score(folder: Path, stage: Stage, score: Score) -> float | None:
    """The value of one model, as the paper prints it, or None where it was not run."""
    file = f"generated-{stage}.json" if score.generated else "scores.json"
    for result in read_results(folder / file):
        if (folder_of(result), result["metric"], result["group"]) != (score.data, score.metric, ""):
            continue
        for checkpoint in result["checkpoints"]:
            if Path(checkpoint["name"]).parent.name == stage:
                return float(checkpoint["value"]) * score.scale
    return None


def _parameters(final: Path) -> int:
    """The number of weights of a saved model, tied ones once; only headers are read."""
    total = 0
    for file in sorted(final.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
            total += sum(map(math.prod, shapes))
    return total
