"""What a running grid says: cells that end, the one that runs, how far all of them are, the ETA.

On a terminal a bar below the lines; else a line every half minute.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from slam_model.budget import Budget
from slam_model.grid.cells import Cell
from slam_model.grid.jobs import Place, is_done
from slam_model.grid.recipe import Grid
from slam_model.metrics import duration

QUIET_SECONDS = 30.0
LOOK_SECONDS = 1.0
SCORES = 0.02
"""What scoring counts of a cell, beside its training."""


class Board:
    """Progress over `cells`, those that other runners work on included."""

    def __init__(self, grid: Grid, cells: Sequence[Cell], place: Place) -> None:
        self._grid, self._cells, self._place = grid, cells, place
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._done: set[str] = set()
        self._started = self._said = time.monotonic()
        self._looked = 0.0
        self._origin = self._work = self._look()
        self._failed = 0
        self._progress: Progress | None = None
        if sys.stderr.isatty():
            columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"))
            self._progress = Progress(*columns, console=self._console)
            self._bar = self._progress.add_task("", total=sum(map(_weight, cells)))

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.stop()

    @property
    def done(self) -> int:
        """Cells that are done now."""
        self._work = self._look()
        return len(self._done)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)
        self._said = time.monotonic()

    def ended(self, cell: Cell, seconds: float, reason: str | None) -> None:
        if reason:
            self._failed += 1
            self.say(f"✗ {cell.words}: {reason}")
        else:
            self.say(f"✓ {cell.words}  {duration(seconds)}")
        self._work = self._look()

    def show(self, words: str) -> None:
        """What goes on now; called often."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._work, self._looked = self._look(), now
        text = f"{self._counts()}  {words}  {self._eta()}".rstrip()
        if self._progress:
            self._progress.update(self._bar, completed=self._work, description=text)
        elif now - self._said >= QUIET_SECONDS:
            share = self._work / sum(map(_weight, self._cells))
            self.say(f"{100 * share:3.0f} %  {text}")

    def _counts(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{len(self._done)} of {len(self._cells)} cells{failed}"

    def _eta(self) -> str:
        """From the work done since the start, by all runners; before any, what budgets say."""
        left = sum(map(_weight, self._cells)) - self._work
        gained, spent = self._work - self._origin, time.monotonic() - self._started
        if gained > 0:
            return f"ETA {duration(left * spent / gained)}"
        if all(cell.hours for cell in self._cells):
            return f"ETA {duration(left * 3600)}"
        return ""

    def _look(self) -> float:
        """The work that is done, in weights of cells."""
        work = 0.0
        for cell in self._cells:
            if cell.name not in self._done and is_done(self._grid, cell, self._place):
                self._done.add(cell.name)
            share = 1.0 if cell.name in self._done else (1 - SCORES) * self._trained(cell)
            work += _weight(cell) * share
        return work

    def _trained(self, cell: Cell) -> float:
        """The share of a cell's training that is done, in [0, 1]."""
        shares = {"dpo": cell.share, "pretrained": 1 - cell.share}
        done = 0.0
        for stage, recipe in cell.recipes.items():
            file = self._place.folder(cell) / stage / "metrics.jsonl"
            lines = file.read_text("utf-8").splitlines(keepends=True) if file.is_file() else []
            whole = [line for line in lines if line.endswith("\n")]
            if whole:
                last = json.loads(whole[-1])
                used = Budget(recipe.budget, last["step"], last["tokens"], last["elapsed"])
                done += shares[stage] * used.fraction
        return done


def _weight(cell: Cell) -> float:
    return cell.hours or 1.0
