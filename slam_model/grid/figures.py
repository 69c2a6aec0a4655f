"""The figure of a grid, figure.png and figure.svg, over cumulative training FLOPs.

`curves` shows validation perplexity while training, the mean over seeds in a band from the lowest
to the highest; the first axis of the grid has the colours, the second the line styles. `scatter`
shows a score at the end, with the paper's where it reports one and the tokens it took; `shares` the
scores over the preference run's share of the budget.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from slam_model.grid.recipe import Grid
from slam_model.grid.results import Row
from unitcorpus.shards.writer import write_atomic

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#999999",
    "#7a5195",
)
"""Okabe and Ito's, told apart by colour-blind readers, and one more."""
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
POINTS = 200
FLOPS_LABEL = "training FLOPs (log scale)"


def draw(grid: Grid, rows: Sequence[Row], out: Path, profile: str | None) -> list[Path]:
    """Draws what there is into `out`; returns the paths, none where nothing is trained yet."""
    trained = [row for row in rows if row.of]
    if not trained:
        return []
    figure = Figure(figsize=(7.2, 4.6), layout="constrained", dpi=110)
    {"curves": _curves, "scatter": _scatter, "shares": _shares}[grid.picture.kind](
        figure, grid, trained, profile is None
    )
    figure.suptitle(grid.title + (f" (profile {profile})" if profile else ""), fontsize=11)
    paths = [out / "figure.png", out / "figure.svg"]
    with mpl.rc_context({"svg.hashsalt": grid.name, "svg.fonttype": "path"}):
        for path in paths:
            _save(figure, path)
    return paths


def _save(figure: Figure, path: Path) -> None:
    """Whole or not at all; without dates, so that the same rows give the same file."""
    stream = io.BytesIO()
    kind = path.suffix[1:]
    figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_atomic(path, stream.getvalue())


def _curves(figure: Figure, grid: Grid, rows: Sequence[Row], _paper: bool) -> None:
    axes = figure.add_subplot()
    first, second = _styles(grid)
    for row in rows:
        if row.stage != "pretrained" or not all(row.curves):
            continue
        colour, style = _look(row, first, second)
        flops, curves = _common([curve for curve in row.curves if curve])
        axes.plot(flops, curves.mean(0), color=colour, linestyle=style, alpha=0.8)
        if len(curves) > 1:
            axes.fill_between(flops, curves.min(0), curves.max(0), color=colour, alpha=0.15)
        axes.plot(flops[-1], curves.mean(0)[-1], marker="o", color=colour, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel=FLOPS_LABEL)
    axes.set_ylabel("validation perplexity per token (log scale)")
    _plain_ticks(axes.yaxis)
    _few_ticks(axes.xaxis)
    _legend(axes, grid, first, second)


def _common(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[Any, Any]:
    """FLOPs [n] that all curves cover, and their perplexities [curves, n], straight between points
    on log scales."""
    low = max(curve[0][0] for curve in curves)
    high = min(curve[-1][0] for curve in curves)
    flops = np.geomspace(low, high, POINTS) if high > low else np.array([high])
    found = []
    for curve in curves:
        x, y = np.log(np.array(curve)).T
        found.append(np.exp(np.interp(np.log(flops), x, y)))
    return flops, np.stack(found)


def _scatter(figure: Figure, grid: Grid, rows: Sequence[Row], paper: bool) -> None:
    axes = figure.add_subplot()
    name = grid.picture.score
    groups = list(dict.fromkeys(tuple(row.labels.values()) for row in rows))
    for row in rows:
        colour = COLOURS[groups.index(tuple(row.labels.values())) % len(COLOURS)]
        marker = "o" if row.stage == "pretrained" else "^"
        score, flops = row.scores.get(name), row.flops
        if score and flops:
            size = 40 + 160 * (row.parameters or 0) / max(one.parameters or 1 for one in rows)
            axes.scatter(flops.mean, score.mean, size, color=colour, marker=marker, alpha=0.85)
            axes.vlines(flops.mean, score.low, score.high, color=colour, linewidth=1.5)
        for one in row.published if paper else ():
            if one.tokens and name in one.scores and row.parameters:
                x = 6 * row.parameters * one.tokens
                axes.scatter(
                    x, one.scores[name], 90, facecolors="none", edgecolors=colour, marker=marker
                )
    axes.set(xscale="log", xlabel=FLOPS_LABEL, ylabel=f"{name} {grid.scores[name].better}")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 2, high * 2)
    _few_ticks(axes.xaxis)
    if grid.scores[name].metric == "accuracy":
        axes.set_ylabel(f"{name}, accuracy in % {grid.scores[name].better}")
    handles = [
        Line2D(
            [], [], color=COLOURS[i % len(COLOURS)], marker="o", linestyle="", label=", ".join(g)
        )
        for i, g in enumerate(groups)
    ]
    stages = {"pretrained": ("o", "pretrained"), "dpo": ("^", "after DPO")}
    if len({row.stage for row in rows}) > 1:
        handles += [_grey(marker=m, linestyle="", label=text) for m, text in stages.values()]
    if paper and any(one.tokens for row in rows for one in row.published):
        handles.append(
            _grey(marker="o", fillstyle="none", linestyle="", label="the paper (6·N·tokens)")
        )
    _place_legend(axes, handles)


def _shares(figure: Figure, grid: Grid, rows: Sequence[Row], paper: bool) -> None:
    """A panel a score; a run without a preference run has the share 0."""
    last = {tuple(row.labels.values()): row for row in rows}  # the last stage of each choice
    names = [name for name in grid.scores if any(name in row.scores for row in last.values())]
    columns = min(2, max(1, len(names)))
    panels = figure.subplots(-(-max(1, len(names)) // columns), columns, squeeze=False).flat
    for panel in list(panels)[len(names) :]:
        panel.set_visible(False)
    figure.set_size_inches(7.2, 2.4 + 2.2 * (-(-len(names) // columns)) - 0.6)
    for panel, name, colour in zip(list(figure.axes), names, COLOURS, strict=False):
        points = [(row.share, row.scores[name]) for row in last.values() if name in row.scores]
        points.sort(key=lambda point: point[0])
        x = [100 * share for share, _ in points]
        panel.plot(x, [r.mean for _, r in points], color=colour, marker="o")
        low, high = ([getattr(r, end) for _, r in points] for end in ("low", "high"))
        panel.fill_between(x, low, high, color=colour, alpha=0.15)
        score = grid.scores[name]
        panel.set_ylabel(f"{name}{', %' if score.metric == 'accuracy' else ''} {score.better}")
        panel.set_xlabel("DPO's share of the budget, %")
        panel.grid(alpha=0.25)
        for row in last.values() if paper else ():
            value = row.paper(name)
            if value is not None:
                panel.plot(
                    100 * row.share, value, color=colour, marker="o", fillstyle="none",
                    markersize=9, linestyle="", label="the paper",
                )  # fmt: skip
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)


def _styles(grid: Grid) -> tuple[dict[str, str], dict[str, str]]:
    """A colour for each choice of the first axis, a line style for each of the second."""
    axes = list(grid.axes.values())
    first = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(axes[0])}
    second = axes[1] if len(axes) > 1 else {}
    return first, {label: STYLES[i % len(STYLES)] for i, label in enumerate(second)}


def _look(row: Row, first: dict[str, str], second: dict[str, str]) -> tuple[str, str]:
    labels = list(row.labels.values())
    return first[labels[0]], second[labels[1]] if second else "-"


def _legend(axes: Any, grid: Grid, first: dict[str, str], second: dict[str, str]) -> None:
    handles = [Line2D([], [], color=colour, label=label) for label, colour in first.items()]
    handles += [_grey(linestyle=style, label=label) for label, style in second.items()]
    _place_legend(axes, handles)


def _grey(**how: Any) -> Line2D:
    return Line2D([], [], color="#555555", **how)


def _place_legend(axes: Any, handles: list[Line2D]) -> None:
    """Beside the axes, where it hides no point."""
    axes.legend(
        handles=handles, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False
    )
    axes.grid(alpha=0.25, which="both")


def _plain_ticks(axis: Any) -> None:
    """A log scale with numbers as people write them."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def _few_ticks(axis: Any) -> None:
    """A log scale whose numbers do not run into each other within a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_formatter(NullFormatter())
