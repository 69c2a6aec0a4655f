"""Small plots as SVG paths, which the page only places. Coordinates: x in bars, y from 0 (top) to
100."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.report.stats import PartStatistics
from unitcorpus.report.tally import Tally

BARS = 48
"""Bars of a histogram, at most."""

GAP = 0.14
"""Between two bars, as a share of one."""

CELLS = 512
"""Bars of unit usage, at most: beyond, neighbours in rank are drawn as one."""


@dataclass(frozen=True)
class Row:
    """One series: `path` (or `cells`: colour and path each), `bars` wide; `summary` in words."""

    label: str
    summary: str
    bars: int
    path: str = ""
    cells: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """Series over one axis. `ticks` and `marks` are (percent of the width, label)."""

    title: str
    note: str
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...] = ()


def histogram(
    title: str, unit: str, series: dict[str, Tally], marks: dict[str, float] | None = None
) -> Figure:
    """Tallies over a common axis; `marks` are values to point out, by what to call them."""
    tallies = [tally for tally in series.values() if tally.total]
    finest = max((tally.width for tally in tallies), default=1.0)
    low = min((tally.quantile(0.001) for tally in tallies), default=0.0)
    high = max([tally.quantile(0.998) for tally in tallies] + list((marks or {}).values()))
    low = 0.0 if low < 0.4 * high else low
    width = finest * max(ceil((high - low) / finest / BARS), 1)
    low = floor(low / width) * width
    number = max(ceil((high - low) / width), 1)
    high = low + number * width
    rows = tuple(
        Row(label, _summary(tally), number, bars(tally.bars(low, high, width)))
        for label, tally in series.items()
    )
    place = 100 / (high - low)
    return Figure(
        title,
        unit,
        rows,
        tuple(((tick - low) * place, f"{tick:g}") for tick in nice_ticks(low, high)),
        tuple(((value - low) * place, name) for name, value in (marks or {}).items()),
    )


def run_lengths(parts: dict[str, PartStatistics], frame_rate: float) -> Figure:
    """How long units last, in frames."""
    reach = max(_reach(part.runs, 0.997) for part in parts.values())
    rows = []
    for label, part in parts.items():
        counts = np.append(part.runs[1:reach], part.runs[reach:].sum())
        longest = int(np.flatnonzero(part.runs)[-1]) / frame_rate
        mean = part.mean_run
        summary = (
            f"mean {mean:.2f} frames ({1000 * mean / frame_rate:.0f} ms), longest {longest:.3g} s"
        )
        rows.append(Row(label, summary, reach, bars(counts)))
    steps = [1, *(tick for tick in nice_ticks(1, reach) if tick >= 2 and tick == int(tick))]
    ticks = tuple(((tick - 0.5) / reach * 100, f"{tick:g}") for tick in steps)
    return Figure("Run lengths", "frames", tuple(rows), ticks)


def usage(parts: dict[str, PartStatistics], colours: list[str]) -> Figure:
    """How often each unit occurs, the commonest first, in the unit's own colour."""
    size = len(colours)
    rows = tuple(Row(label, _usage(part), *_cells(part, colours)) for label, part in parts.items())
    ticks = ((0.0, "commonest"), (100.0, "rarest"))
    return Figure("Unit usage", f"{size} units by rank", rows, ticks)


def _cells(
    part: PartStatistics, colours: list[str]
) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    """(bars, no single path, one coloured bar a unit)."""
    order = np.argsort(-part.usage, kind="stable")
    groups = np.array_split(order, min(len(order), CELLS))
    heights = np.array([part.usage[group].mean() for group in groups])
    paths = [_bar(i, h, 0.0) for i, h in enumerate(100 * heights / max(heights.max(), 1e-9))]
    cells = [(colours[int(group[0])], path) for group, path in zip(groups, paths, strict=True)]
    return len(groups), "", tuple(cells)


def _usage(part: PartStatistics) -> str:
    share = np.sort(part.usage)[::-1][:10].sum() / max(part.units, 1)
    most = np.log2(len(part.usage))
    used = f"{part.used:,} of {len(part.usage):,} used"
    entropy = f"entropy {part.entropy:.2f} of {most:.2f} bits"
    return f"{used}, {entropy}, the ten commonest are {100 * share:.0f} %"


def bars(counts: NDArray[Any]) -> str:
    """Counts as bars, the highest 100 high; what is not zero is seen."""
    heights = 100 * counts / max(int(counts.max(initial=0)), 1)
    heights = np.where((counts > 0) & (heights < 1.5), 1.5, heights)
    return "".join(_bar(i, h, GAP) for i, h in enumerate(heights.tolist()) if h > 0)


def _bar(position: int, height: float, gap: float) -> str:
    left = f"{position + gap / 2:g}"
    return f"M{left} 100V{100 - height:.4g}h{1 - gap:g}V100z"


def _summary(tally: Tally) -> str:
    values = [tally.quantile(q) for q in (0.5, 0.05, 0.95)]
    median, low, high = (f"{round(value, 3):.3g}" for value in values)
    return f"median {median}, middle 90 %: {low} to {high}"


def _reach(runs: NDArray[np.int64], share: float) -> int:
    """The run length, at least 2, up to which a share of all runs go."""
    reached = np.cumsum(runs)
    return int(min(max(np.searchsorted(reached, share * reached[-1]), 2), BARS))


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, a round distance apart, at most `most` or so."""
    rough = max(high - low, 1e-9) / (most - 1)
    scale = 10.0 ** floor(log10(rough))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= rough)
    first = ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, floor(high / step + 1e-9) + 1)]
