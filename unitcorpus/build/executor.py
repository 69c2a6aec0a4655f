"""Executors: the same worker, here or elsewhere. They pull shards and tell a listener what happens.

A shard that fails is tried again, `TRIES` times in all, then set aside; the others go on.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unitcorpus.build.local import LocalWorkers
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.worker import Progress
from unitcorpus.errors import UnitcorpusError, redacted
from unitcorpus.shards.receipt import Receipt

TRIES = 3
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Failure:
    """A try that failed: the error in one line, and whether the shard is set aside."""

    shard: str
    attempt: int
    error: str
    final: bool


class Listener(Protocol):
    """Who watches a build."""

    def progress(self, progress: Progress) -> None: ...

    def done(self, receipt: Receipt) -> None: ...

    def failed(self, failure: Failure) -> None: ...


def run_local(
    plan: Plan, root: Path, shards: Sequence[ShardPlan], listener: Listener, device: str = "cpu"
) -> list[Failure]:
    """Builds `shards` in this process (one that ended it before: beside it), in order; returns the
    ones set aside.

    Raises UnitcorpusError where a model cannot be loaded: every shard would fail of it.
    """
    aside: list[Failure] = []
    with LocalWorkers(plan, root, device) as workers:
        for shard in shards:
            for attempt in range(1, TRIES + 1):
                worker = workers.worker(shard)
                try:
                    with workers.marked(shard):
                        receipt = worker.build(shard, listener.progress, attempt)
                    listener.done(receipt)
                    break
                except Exception as error:
                    if hopeless(error):
                        raise
                    failure = Failure(shard.name, attempt, describe(error), attempt == TRIES)
                    listener.failed(failure)
                    if failure.final:
                        aside.append(failure)
                    workers.close()
    return aside


def hopeless(error: BaseException | None) -> bool:
    """Whether any other try and any other shard would meet the same: damaged input, a full disk."""
    return isinstance(error, UnitcorpusError) or (
        isinstance(error, OSError) and error.errno in HOPELESS
    )


def describe(error: BaseException) -> str:
    """An exception in one line, without secrets."""
    text = " ".join(str(error).split())
    return redacted(f"{type(error).__name__}: {text}")[:500]
