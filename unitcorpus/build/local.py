"""Workers of this process: the models are loaded here, and only a shard that is known or feared to
end its process is built in one of its own.

A mark in the folder names the shard at work. A process that dies leaves it, so that the next one,
the rerun, is careful with that shard and lives; a stop that unwinds does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unitcorpus.build.isolated import IsolatedWorker
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.worker import KILLER, Worker
from unitcorpus.shards.receipt import rejects_path
from unitcorpus.shards.writer import write_atomic

MARK = ".building"


class LocalWorkers:
    """Gives the worker for a shard, with its models loaded. Use as a context manager."""

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self._arguments = plan, root, device
        self._root = root
        self._worker: Worker | None = None
        self._isolated: IsolatedWorker | None = None
        self._feared = _marked(root)

    def worker(self, shard: ShardPlan) -> Worker | IsolatedWorker:
        """Raises UnitcorpusError where a model cannot be loaded."""
        if shard.name == self._feared or _killed(self._root, shard.name):
            if self._isolated is None:
                self._isolated = IsolatedWorker(*self._arguments)
            return self._isolated
        if self._isolated is not None:
            self._isolated.close()  # lets go of its models
        if self._worker is None:
            self._worker = Worker(*self._arguments)
        return self._worker

    @contextmanager
    def marked(self, shard: ShardPlan) -> Iterator[None]:
        """The folder names the shard while the block runs, and after that if this process dies."""
        mark = self._root / MARK
        write_atomic(mark, shard.name.encode(), durable=False)  # it outlives the process, no more
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the models: they are loaded again when they are wanted."""
        for worker in (self._worker, self._isolated):
            if worker is not None:
                worker.close()
        self._worker = self._isolated = None


def _marked(root: Path) -> str:
    """The shard that a process died at, or nothing."""
    try:
        return (root / MARK).read_text()
    except (OSError, ValueError):
        return ""


def _killed(root: Path, shard: str) -> bool:
    """Whether an input of the shard ended a process when it was built before."""
    try:
        return f'"{KILLER}"'.encode() in rejects_path(root, shard).read_bytes()
    except OSError:
        return False
