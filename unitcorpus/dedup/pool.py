"""Work spread over processes, with results in the order of the tasks, however many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import Any, Generic, TypeVar

from unitcorpus.errors import UnitcorpusError

Given = TypeVar("Given")
State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4
"""Tasks of each process that may be under way or waiting to be collected."""


class Pool(Generic[State]):
    """`workers` processes, or this one where it is one, each with a `begin(given)` of its own to
    work with. Use as a context manager.

    Processes are started anew, not forked: libraries with threads of their own survive no fork.
    """

    def __init__(self, workers: int, begin: Callable[[Given], State], given: Given) -> None:
        self._ahead = workers * AHEAD
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _begin, (begin, given))
        else:
            self._state = begin(given)

    def __enter__(self) -> Pool[State]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self, function: Callable[[State, Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """`function` of each task, in order; tasks are taken as they are needed."""
        if self._pool is None:
            for task in tasks:
                yield function(self._state, task)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(_run, function, task))
                if len(waiting) == self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UnitcorpusError(
                "a worker was killed, perhaps for want of memory; run the same command again to go "
                "on, with fewer --workers"
            ) from None


# --- in a worker --------------------------------------------------------------------------------

_state: Any = None


def _begin(begin: Callable[[Given], object], given: Given) -> None:
    """A worker ends with the process that started it, and leaves Ctrl-C to it."""
    global _state
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
    _state = begin(given)


def _run(function: Callable[[Any, Task], Result], task: Task) -> Result:
    return function(_state, task)
