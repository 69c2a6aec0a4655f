"""Runs the cells of a grid, each once, whoever else does the same.

A cell is locked by its folder's .lock, which its commands inherit: a second runner (another GPU,
another machine on the same disk) takes other cells, and waits at the end for those that are not its
own. Killing a runner leaves its command to end by itself; the next runner goes on from there.
A cell that fails is told and the others go on.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slam_model.grid.board import Board
from slam_model.grid.cells import Cell
from slam_model.grid.jobs import Job, Place, is_done, jobs
from slam_model.grid.recipe import Grid
from slam_model.process import Signals

POLL = 0.2
"""Seconds between looks at a command, and at cells of other runners."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """The runner was asked to end by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@dataclass
class Runner:
    """`failed` maps a cell's name to its reason."""

    grid: Grid
    cells: Sequence[Cell]
    place: Place
    board: Board
    failed: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Runs every cell that is not done. Raises Stopped."""
        with Signals() as self._signals:
            waiting = list(self.cells)
            first = True
            while waiting:
                waiting = [cell for cell in waiting if not self._take(cell, first)]
                first = False
                if waiting:
                    self.board.show(f"waiting for {waiting[0].words}, run by another process")
                    self._rest()

    def _take(self, cell: Cell, first: bool) -> bool:
        """Whether the cell is settled: done, or failed here. False: another process has it."""
        if is_done(self.grid, cell, self.place):
            return True
        with _locked(self.place.folder(cell)) as lock:
            if lock is None:
                if first:
                    self.board.say(f"· {cell.words}: another process runs it")
                return False
            started = time.monotonic()
            reason = self._run(cell, lock)
        took = time.monotonic() - started
        if reason:
            self.failed[cell.name] = reason
        self.board.ended(cell, took, reason)
        return True

    def _run(self, cell: Cell, lock: int) -> str | None:
        """Runs the cell's commands; the reason of the first that fails, or None."""
        for job in jobs(self.grid, cell, self.place):
            if job.done():
                continue
            job.prepare()
            log = self.place.folder(cell) / "log.txt"
            code = self._command(job, cell, log, lock)
            if code:
                return f"{job.name}: {_reason(code, log)} ({log})"
            if not job.done():
                return f"{job.name}: it ended without its result ({log})"
        return None

    def _command(self, job: Job, cell: Cell, log: Path, lock: int) -> int:
        """The exit code of a job. Raises Stopped once it has ended after a signal to us."""
        with log.open("ab") as stream:
            stream.write(f"$ {' '.join(job.command)}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                job.command, stdout=stream, stderr=stream, pass_fds=[lock], stdin=subprocess.DEVNULL
            )
        told = False
        while (code := process.poll()) is None:
            if self._signals.received and not told:
                process.terminate()  # training saves its state
                self.board.say(f"stopping {job.name} of {cell.words}")
                told = True
            self.board.show(f"{cell.words}: {job.name}")
            time.sleep(POLL)
        if self._signals.received:
            raise Stopped(self._signals.received)
        return code

    def _rest(self) -> None:
        time.sleep(POLL)
        if self._signals.received:
            raise Stopped(self._signals.received)


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """The descriptor of a cell's lock, or None where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)


def _reason(code: int, log: Path) -> str:
    """Why a command ended with `code`: the last line that it said, or the signal."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    said = next((line for line in reversed(lines) if line), "")
    return said.removeprefix("slam_model: ") or f"exit code {code}"
