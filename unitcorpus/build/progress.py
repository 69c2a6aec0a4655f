"""What a person sees of a running build: two live lines, or off a terminal one every 30 s."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from unitcorpus.build.executor import Failure
from unitcorpus.build.meter import Meter
from unitcorpus.build.worker import Progress
from unitcorpus.shards.receipt import Receipt
from unitcorpus.shards.writer import write_atomic

EVERY = 30.0
"""Seconds between lines where the output is not a terminal."""

STATE = ".progress.json"
"""What a running build says of itself in its folder, for `unitcorpus status`."""

STATE_EVERY = 1.0
"""Seconds between two of its words there."""


class Display:
    """A Listener that shows a Meter. Use as a context manager around a run."""

    def __init__(self, meter: Meter, state: Path) -> None:
        self.meter, self.state = meter, state
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)
        self._next = time.monotonic() + EVERY
        self._drawn = self._told = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()
        if self.console.is_terminal:
            self._live.stop()

    def progress(self, progress: Progress) -> None:
        self.meter.advance(progress)
        self._show()

    def done(self, receipt: Receipt) -> None:
        self.meter.finish(receipt)
        self._show()

    def failed(self, failure: Failure) -> None:
        self.meter.fail(failure.shard, failure.error, failure.final)
        verdict = "set aside" if failure.final else "trying again"
        self.console.print(
            f"{failure.shard}: try {failure.attempt} failed, {verdict}: {failure.error}",
            markup=False,
        )
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._told > STATE_EVERY:
            self._tell()
            self._told = now
        if self.console.is_terminal:
            if now - self._drawn > 0.2:
                self._live.update(self._drawing(), refresh=True)
                self._drawn = now
        elif now >= self._next:
            self.console.print(f"{self.meter.counts()}  {self.meter.details()}", markup=False)
            self._next = now + EVERY

    def _drawing(self) -> Group:
        lines = (f"{self.meter.bar()}  {self.meter.counts()}", self.meter.details())
        return Group(*(Text(line, overflow="ellipsis", no_wrap=True) for line in lines))

    def _tell(self) -> None:
        """Replaces the state file at once, so that a reader never sees half of it."""
        snapshot: dict[str, Any] = self.meter.snapshot()
        write_atomic(self.state, json.dumps(snapshot).encode(), durable=False)
