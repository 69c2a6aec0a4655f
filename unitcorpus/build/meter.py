"""Running totals of a build, and how they read."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from unitcorpus.build.worker import Progress
from unitcorpus.shards.receipt import Receipt

BAR = 20
"""Characters of the progress bar."""


@dataclass
class Meter:
    """Totals over what was there before (`skipped` rows, `skipped_audio`), what was built since
    and what is in hand. `rate` is that of the extractor in Hz (0 for published units),
    `frame_rate` of the units in Hz; audio and times are in seconds."""

    shards: int
    rows: int
    rate: int
    frame_rate: float
    skipped: int = 0
    skipped_audio: float = 0.0
    shards_done: int = 0
    rows_done: int = 0
    rejected: int = 0
    audio: float = 0.0
    failures: int = 0
    aside: dict[str, str] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    in_hand: dict[str, Progress] = field(default_factory=dict)

    def skip(self, receipts: list[Receipt]) -> None:
        """Counts what earlier runs built; rates and the ETA leave it out."""
        for receipt in receipts:
            self.finish(receipt)
        self.stages.clear()
        self.skipped, self.skipped_audio = self.rows_done, self.audio

    def advance(self, progress: Progress) -> None:
        if self.rows_seen == self.skipped:  # the start of Ray and of the models is over
            self.started = time.monotonic() - sum(progress.timings.values())
        self.in_hand[progress.shard] = progress

    def finish(self, receipt: Receipt) -> None:
        self.in_hand.pop(receipt.shard, None)
        rejected = sum(receipt.rejected.values())
        self.shards_done += 1
        self.rows_done += receipt.rows
        self.rejected += rejected
        if self.rate:
            self.audio += receipt.num_samples / self.rate
        else:
            self.audio += receipt.frames / self.frame_rate
        self.stages.update({k: v for k, v in receipt.timings.items() if k != "all"})

    def fail(self, shard: str, error: str, final: bool) -> None:
        self.failures += 1
        self.in_hand.pop(shard, None)
        if final:
            self.aside[shard] = error

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
    def speed(self) -> float:
        """Seconds of speech a second, since the start."""
        return (self.audio_seen - self.skipped_audio) / self.elapsed

    @property
    def eta(self) -> float | None:
        """Seconds to go, by the rows built since the start; None before the first."""
        fresh = self.rows_seen - self.skipped
        return (self.rows - self.rows_seen) * self.elapsed / fresh if fresh > 0 else None

    @property
    def bottleneck(self) -> tuple[str, float] | None:
        """The stage that takes longest, and its share of the time."""
        total = Counter(self.stages)
        for progress in self.in_hand.values():
            total.update(progress.timings)
        if not total:
            return None
        stage, seconds = total.most_common(1)[0]
        return stage, seconds / max(sum(total.values()), 1e-9)

    def snapshot(self) -> dict[str, Any]:
        """The totals as `unitcorpus status` reads them."""
        return {
            "updated": time.time(),
            "elapsed": self.elapsed,
            "rows_seen": self.rows_seen,
            "audio_seen": self.audio_seen,
            "speech_per_second": self.speed,
            "eta": self.eta,
            "bottleneck": self.bottleneck,
            "in_hand": {name: p.rows for name, p in self.in_hand.items()},
            "failed_tries": self.failures,
            "aside": self.aside,
        }

    def bar(self) -> str:
        share = self.rows_seen / max(self.rows, 1)
        full = round(BAR * share)
        return f"{'━' * full}{'╌' * (BAR - full)} {100 * share:3.0f}%"

    def counts(self) -> str:
        """`12/18 shards  1,148/1,728 rows  ETA 58 s`."""
        shards = f"{self.shards_done}/{self.shards} shards"
        return f"{shards}  {self.rows_seen:,}/{self.rows:,} rows  ETA {duration(self.eta)}"

    def details(self) -> str:
        """`15 h 51 min of speech  9.57 h/min  65% of the time in speech`."""
        parts = [f"{duration(self.audio_seen)} of speech", f"{self.speed / 60:.2f} h/min"]
        if self.bottleneck is not None:
            stage, share = self.bottleneck
            parts.append(f"{100 * share:.0f}% of the time in {stage}")
        if rejected := self.rejected + sum(p.rejected for p in self.in_hand.values()):
            parts.append(f"{rejected:,} rejected")
        if self.failures:
            parts.append(f"{self.failures:,} failed tries")
        return "  ".join(parts)


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `42 s`."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
