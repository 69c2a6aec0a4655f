"""The rows of a grid as table.md, table.csv and table.json, and on the terminal.

A score is the mean over seeds, with the lowest and highest where there are several; beside it what
the paper reports, where it does. What was not run says so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from slam_model.grid.recipe import Grid
from slam_model.grid.results import Range, Row
from unitcorpus.shards.format import canonical
from unitcorpus.shards.writer import write_atomic

NOT_RUN = "not run"
STAGES = {"pretrained": "pretrained", "dpo": "+ DPO"}


def write_tables(grid: Grid, rows: Sequence[Row], out: Path, profile: str | None) -> list[Path]:
    """Writes the three files into `out`; returns their paths."""
    table = {"grid": grid.name, "profile": profile, "rows": [_record(grid, row) for row in rows]}
    files = {
        "table.md": markdown(grid, rows, profile).encode(),
        "table.csv": _csv(grid, rows).encode(),
        "table.json": canonical(table),
    }
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def markdown(grid: Grid, rows: Sequence[Row], profile: str | None) -> str:
    """The table, with what is to be known about it."""
    head, *body = _cells(grid, rows)
    lines = [f"# {grid.title}", ""]
    if profile:
        size = f"Made with the profile `{profile}`: not the paper's size, nor its data."
        lines += [f"{size} Its scores are not to be compared with the paper's.", ""]
    if grid.note:
        lines += [grid.note.strip(), ""]
    lines += [_line(head), _line(["---"] * len(head)), *map(_line, body), ""]
    lines += [f"{one}" for one in _remarks(grid, rows)]
    return "\n".join(lines) + "\n"


def terminal(grid: Grid, rows: Sequence[Row]) -> Table:
    head, *body = _cells(grid, rows)
    table = Table(*head, title=grid.title, box=SIMPLE)
    for line in body:
        table.add_row(*line)
    return table


def _cells(grid: Grid, rows: Sequence[Row]) -> list[list[str]]:
    """Head and lines. A column of the paper's numbers stands where there are any."""
    reported = [s for s in grid.scores if any(row.paper(s) is not None for row in rows)]
    several = len({row.stage for row in rows}) > 1
    head = [*grid.axes, *(["stage"] if several else []), "seeds", "params", "tokens", "FLOPs", "h"]
    for name, score in grid.scores.items():
        head += [f"{name} {score.better}", *(["paper"] if name in reported else [])]
    lines = [head]
    for row in rows:
        line = [*row.labels.values(), *([STAGES[row.stage]] if several else [])]
        line += [f"{row.of}/{row.seeds}", _count(row.parameters), _size(row.tokens)]
        line += [f"{row.flops.mean:.2e}" if row.flops else "", _hours(row.hours)]
        for name in grid.scores:
            line.append(_shown(row.scores.get(name)))
            if name in reported:
                paper = row.paper(name)
                line.append("" if paper is None else f"{paper:g}")
        lines.append(line)
    return lines


def _remarks(grid: Grid, rows: Sequence[Row]) -> list[str]:
    """Below the table: how to read it, where the paper's numbers are from, what was not run."""
    said = ["Scores: mean (lowest to highest) over the seeds that were run. FLOPs: of training."]
    places = dict.fromkeys(one.where for row in rows for one in row.published)
    if places:
        said.append(f"paper: arXiv 2502.15814, {', '.join(places)}.")
    for name, score in grid.scores.items():
        without = sum(name not in row.scores for row in rows)
        if without:
            of = "every row" if without == len(rows) else f"{without} of {len(rows)} rows"
            why = "needs --vocoder and its readers" if score.generated else f"needs {score.data}"
            said.append(f"{name}: not run in {of} ({why}).")
    return said


def _csv(grid: Grid, rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    names = [f"{s}{end}" for s in grid.scores for end in ("", " low", " high", " paper")]
    sizes = ["params", "tokens", "flops", "hours"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*grid.axes, "stage", "seeds", *sizes, *names])
    for row in rows:
        means = [one.mean if one else "" for one in (row.tokens, row.flops, row.hours)]
        line: list[Any] = [*row.labels.values(), row.stage, row.of, row.parameters or "", *means]
        for score in grid.scores:
            found, paper = row.scores.get(score), row.paper(score)
            line += [found.mean, found.low, found.high] if found else ["", "", ""]
            line.append("" if paper is None else paper)
        writer.writerow(line)
    return stream.getvalue()


def _record(grid: Grid, row: Row) -> dict[str, Any]:
    """A row for table.json; null where something was not run or is not reported."""
    return {
        "labels": row.labels,
        "stage": row.stage,
        "seeds": row.seeds,
        "trained": row.of,
        "params": row.parameters,
        "tokens": _range(row.tokens),
        "flops": _range(row.flops),
        "hours": _range(row.hours),
        "scores": {name: _range(row.scores.get(name)) for name in grid.scores},
        "paper": {name: row.paper(name) for name in grid.scores},
    }


def _range(found: Range | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"mean": found.mean, "min": found.low, "max": found.high, "values": list(found.values)}


def _shown(found: Range | None) -> str:
    if found is None:
        return NOT_RUN
    several = len(found.values) > 1
    return f"{found.mean:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if several else "")


def _count(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value / 1e6:.0f}M" if value >= 1e7 else f"{value / 1e3:.0f}k"


def _size(found: Range | None) -> str:
    if found is None:
        return ""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if found.mean >= size:
            return f"{found.mean / size:.3g}{unit}"
    return f"{found.mean:.0f}"


def _hours(found: Range | None) -> str:
    return f"{found.mean:.2g}" if found else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
