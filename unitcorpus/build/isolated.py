"""Building a shard that ended the process it was built in: in another one, watched from here.

The process at work says what it gives to the models before it does. Where it dies, all that it was
at is suspected, and made again one at a time; what it dies of then, alone, is left out of the shard
as a reject. The rest of the shard is built as it would have been, in the same chunks. So an input
that crashes an engine costs itself, and what is left out does not hang on who builds, or where.

    worker = IsolatedWorker(plan, root); worker.build(shard); worker.close()
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path

from unitcorpus.build.deadline import patience
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.worker import Place, Progress, exhaust
from unitcorpus.shards.receipt import Receipt

ENOUGH = 2
"""Deaths at a place, the last of them alone, that make it a killer: one may be an accident. And
deaths that cannot be explained, after which the shard fails."""


@dataclass(frozen=True)
class Order:
    """A shard to build, or, where `alone` names places, to try these one at a time."""

    shard: ShardPlan
    attempt: int
    killers: Mapping[Place, str]
    alone: Sequence[Place] = ()


@dataclass(frozen=True)
class Begun:
    """What the process gives to the models next: about `due` seconds of audio."""

    places: tuple[Place, ...]
    due: float


@dataclass(eq=False)
class Died(Exception):  # noqa: N818 - it happened; nobody failed
    """The process died of `how` (a signal's name, or `silence`) at `places`."""

    how: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        if not self.places:
            return f"its process died of {self.how} before it began"
        return (
            f"its process died of {self.how} at {len(self.places)} inputs together, though of none "
            "alone: it may want more memory, or a smaller compute.batch_seconds"
        )


class Inquest:
    """What is known of the deaths in a shard. `killers`: the places that are guilty, each with how
    the process died."""

    def __init__(self) -> None:
        self.killers: dict[Place, str] = {}
        self._deaths: Counter[Place] = Counter()
        self._unexplained = 0

    def suspects(self, death: Died) -> tuple[Place, ...]:
        """The places to be tried alone after a death; none where it is clear who was guilty."""
        self._deaths.update(death.places)
        if len(death.places) == 1 and self._deaths[death.places[0]] >= ENOUGH:
            self.killers[death.places[0]] = death.how
            return ()
        return death.places

    def close(self, death: Died) -> None:
        """Nobody was found guilty of a death: raises it where it is not the first such."""
        self._unexplained += 1
        if self._unexplained >= ENOUGH:
            raise death


class IsolatedWorker:
    """Builds shards as a Worker does, in a process of its own that may die. Raises Died where one
    does that cannot be laid to an input."""

    def __init__(self, plan: Plan, root: Path, device: str = "cpu") -> None:
        self._arguments = plan, root, device
        self._process: subprocess.Popen[bytes] | None = None

    def build(
        self,
        shard: ShardPlan,
        report: Callable[[Progress], None] = lambda _: None,
        attempt: int = 1,
    ) -> Receipt:
        return exhaust(self.steps(shard, attempt), report)

    def steps(self, shard: ShardPlan, attempt: int = 1) -> Generator[Progress, None, Receipt]:
        """As those of a Worker: yields progress, returns the receipt."""
        inquest = Inquest()
        while True:
            try:
                receipt = yield from self._carry_out(Order(shard, attempt, inquest.killers))
            except Died as death:
                known = len(inquest.killers)
                yield from self._find(shard, attempt, inquest, death)
                if len(inquest.killers) == known:
                    inquest.close(death)
            else:
                assert receipt is not None
                return receipt

    def _find(
        self, shard: ShardPlan, attempt: int, inquest: Inquest, death: Died
    ) -> Generator[Progress, None, None]:
        """Finds who was guilty of a death in the shard, if anybody was."""
        suspects = inquest.suspects(death)
        while suspects:
            try:
                yield from self._carry_out(Order(shard, attempt, inquest.killers, suspects))
            except Died as again:
                suspects = inquest.suspects(again)
            else:
                return

    def _carry_out(self, order: Order) -> Generator[Progress, None, Receipt | None]:
        """Has an order carried out. Raises Died, or what the process raised."""
        if self._process is None:
            self._start()
        begun, last = Begun((), 0.0), Progress(order.shard.name, 0, 0, 0.0, {})
        try:
            self._link.send(order)
        except ConnectionError:
            raise Died(self._end(), ()) from None
        while True:
            try:
                # Half of what is allowed to this process itself, where another watches it.
                if not self._link.poll(patience(begun.due) / 2):
                    raise Died(self._end("silence"), begun.places)
                news = self._link.recv()
            except (EOFError, ConnectionError):
                raise Died(self._end(), begun.places) from None
            if isinstance(news, Begun):
                begun = news
                yield replace(last, due=begun.due)
            elif isinstance(news, Progress):
                last = news
                yield news
            elif isinstance(news, BaseException):
                self.close()  # what broke may have left the models broken
                raise news
            else:
                receipt: Receipt | None = news
                return receipt

    def _start(self) -> None:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "unitcorpus.build.isolated_process", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._link = ours
        self._link.send(self._arguments)

    def _end(self, how: str | None = None) -> str:
        """What the process died of; it is dead then."""
        assert self._process is not None
        if how is not None:
            self._process.kill()
        code = self._process.wait()
        self.close()
        return how or (signal.Signals(-code).name if code < 0 else f"exit status {code}")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._link.close()
            self._process = None
