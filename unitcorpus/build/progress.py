"""What a person sees of a running build: a live line on a terminal, else one every 30 seconds."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from unitcorpus.build.executor import Failure
from unitcorpus.build.worker import Progress
from unitcorpus.shards.receipt import Receipt

EVERY = 30.0
"""Seconds between lines where the output is not a terminal."""

STATE = ".progress.json"
"""What a running build says of itself in its folder, for `unitcorpus status`."""


@dataclass
class Meter:
    """Running totals of a build. `skipped` rows were there before; `audio` is in seconds."""

    shards: int
    rows: int
    skipped: int = 0
    shards_done: int = 0
    rows_done: int = 0
    rejected: int = 0
    audio: float = 0.0
    units: int = 0
    failures: int = 0
    aside: dict[str, str] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    in_hand: dict[str, Progress] = field(default_factory=dict)

    def advance(self, progress: Progress) -> None:
        self.in_hand[progress.shard] = progress

    def finish(self, receipt: Receipt, rate: int, frame_rate: float) -> None:
        self.in_hand.pop(receipt.shard, None)
        rejected = sum(receipt.rejected.values())
        self.shards_done += 1
        self.rows_done += receipt.samples + rejected
        self.rejected += rejected
        self.units += receipt.units
        self.audio += receipt.num_samples / rate if rate else receipt.frames / frame_rate
        self.stages.update({k: v for k, v in receipt.timings.items() if k != "all"})

    @property
    def rows_seen(self) -> int:
        return self.rows_done + sum(p.rows for p in self.in_hand.values())

    @property
    def audio_seen(self) -> float:
        return self.audio + sum(p.audio for p in self.in_hand.values())

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def eta(self) -> float | None:
        """Seconds to go, by the rows built since the start."""
        fresh = self.rows_seen - self.skipped
        return (self.rows - self.rows_seen) * self.elapsed / fresh if fresh > 0 else None

    @property
    def bottleneck(self) -> str | None:
        """The stage that takes longest, with its share."""
        total = Counter(self.stages)
        for progress in self.in_hand.values():
            total.update(progress.timings)
        if not total:
            return None
        stage, seconds = total.most_common(1)[0]
        return f"{stage} {100 * seconds / max(sum(total.values()), 1e-9):.0f}%"

    def snapshot(self, fresh_audio: float) -> dict[str, Any]:
        """The totals as `unitcorpus status` reads them. Times are seconds."""
        return {
            "updated": time.time(),
            "elapsed": self.elapsed,
            "rows_seen": self.rows_seen,
            "audio_seen": self.audio_seen,
            "speech_per_second": fresh_audio / self.elapsed,
            "eta": self.eta,
            "bottleneck": self.bottleneck,
            "in_hand": {name: p.rows for name, p in self.in_hand.items()},
            "failed_tries": self.failures,
            "aside": self.aside,
        }

    def line(self, fresh_audio: float) -> str:
        rejected = self.rejected + sum(p.rejected for p in self.in_hand.values())
        parts = [
            f"{self.shards_done}/{self.shards} shards",
            f"{self.rows_seen:,}/{self.rows:,} rows",
            f"{duration(self.audio_seen)} of speech",
            f"{fresh_audio / 60 / self.elapsed:.2f} h/min",
        ]
        if rejected:
            parts.append(f"{rejected:,} rejected")
        if self.failures:
            parts.append(f"{self.failures} failed tries")
        if self.bottleneck:
            parts.append(self.bottleneck)
        parts.append(f"ETA {duration(self.eta)}" if self.eta is not None else "ETA -")
        return "  ".join(parts)


class Display:
    """A Listener that shows a Meter. Use as a context manager around a run."""

    def __init__(self, meter: Meter, rate: int, frame_rate: float, state: Path) -> None:
        self.meter, self.rate, self.frame_rate, self.state = meter, rate, frame_rate, state
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.audio_before = meter.audio
        self._live = Live(console=self.console, transient=True, auto_refresh=False)
        self._next = time.monotonic() + EVERY
        self._drawn = self._told = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(self.meter.snapshot(self.meter.audio_seen - self.audio_before))
        if self.console.is_terminal:
            self._live.stop()

    def progress(self, progress: Progress) -> None:
        self.meter.advance(progress)
        self._show()

    def done(self, receipt: Receipt) -> None:
        self.meter.finish(receipt, self.rate, self.frame_rate)
        self._show()

    def failed(self, failure: Failure) -> None:
        self.meter.failures += 1
        self.meter.in_hand.pop(failure.shard, None)
        if failure.final:
            self.meter.aside[failure.shard] = failure.error
        verdict = "set aside" if failure.final else "trying again"
        self.console.print(
            f"{failure.shard}: try {failure.attempt} failed, {verdict}: {failure.error}",
            markup=False,
        )
        self._show()

    def _tell(self, snapshot: dict[str, Any]) -> None:
        """Replaces the state file at once, so that a reader never sees half of it."""
        temporary = self.state.with_name(f"{self.state.name}.tmp-0")
        temporary.write_text(json.dumps(snapshot))
        temporary.replace(self.state)

    def _show(self) -> None:
        now = time.monotonic()
        fresh = self.meter.audio_seen - self.audio_before
        if now - self._told > 1.0:
            self._tell(self.meter.snapshot(fresh))
            self._told = now
        line = self.meter.line(fresh)
        if self.console.is_terminal:
            if now - self._drawn > 0.2:
                self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
                self._drawn = now
        elif now >= self._next:
            self.console.print(line, markup=False)
            self._next = now + EVERY


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `42 s`."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.0f} s"
