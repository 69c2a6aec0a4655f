"""The Ray executor: an actor per worker, one task per shard, retries counted here.

An actor holds the speech engine and the extractor together, so that waveforms never leave its
process; what travels is a plan, shard names and receipts. At most two shards are in flight per
actor: one at work and one waiting, so that none is idle between two. An actor gets shards once its
models are loaded, so that none waits for one that a cluster has no place for yet. If an actor dies,
or says nothing for too long (`deadline`), the shard it was at is charged with a try, the waiting
one is not, and a new actor takes its place. The last try of a shard of which an actor died is made
in a process beside the actor (`isolated`), which finds out the input that it dies of.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unitcorpus.build.cluster import ray_session
from unitcorpus.build.deadline import patience
from unitcorpus.build.executor import TRIES, Failure, Listener, describe, hopeless
from unitcorpus.build.isolated import IsolatedWorker
from unitcorpus.build.memory import release
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.remote import workplace
from unitcorpus.build.worker import Progress, Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.receipt import Receipt

IN_FLIGHT = 2
EVERY = 0.5
"""Seconds between two words of progress from an actor."""


class RemoteWorker:
    """A Worker inside a Ray actor."""

    def __init__(self, plan: Plan, root: str, device: str) -> None:
        # Another machine may have its folder elsewhere.
        self.arguments = plan, workplace(plan.url) if plan.url else Path(root), device

    def load(self) -> None:
        """Loads the models: a task of its own, so that its error comes back as itself."""
        self.worker = Worker(*self.arguments)

    def build(
        self, shard: ShardPlan, attempt: int, careful: bool
    ) -> Generator[Progress | Receipt, None, None]:
        """Yields progress, then the receipt."""
        worker: Worker | IsolatedWorker = self.worker
        if careful:
            release()  # the other process needs the device
            worker = IsolatedWorker(*self.arguments)
        try:
            yield from self._build(worker.steps(shard, attempt))
        finally:
            if worker is not self.worker:
                worker.close()

    def _build(
        self, steps: Generator[Progress, None, Receipt]
    ) -> Generator[Progress | Receipt, None, None]:
        told = 0.0
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                yield end.value
                return
            if time.monotonic() - told > EVERY:
                yield progress
                told = time.monotonic()


@dataclass
class Job:
    """A shard to build. `died`: an actor died of it, or at it. Once it is at an actor, `stream`
    yields what that says of it."""

    shard: ShardPlan
    attempt: int = 1
    died: bool = False
    stream: Any = None


@dataclass
class Slot:
    """A place for an actor. `loading` is the task that loads its models, until it is done. It was
    last heard of its first job at `heard`, when it began with `due` seconds of audio."""

    actor: Any
    loading: Any | None
    jobs: deque[Job] = field(default_factory=deque)
    heard: float = 0.0
    due: float = 0.0

    def listen(self, due: float = 0.0) -> None:
        self.heard, self.due = time.monotonic(), due


def run_ray(
    plan: Plan,
    root: Path,
    shards: Sequence[ShardPlan],
    listener: Listener,
    device: str = "cpu",
    workers: int = 1,
    address: str | None = None,
    share: float = 1.0,
) -> list[Failure]:
    """Builds `shards` on `workers` actors, here or on the cluster at `address`; returns the ones
    set aside. `share` is that of a GPU that an actor takes.

    Raises UnitcorpusError where the models cannot be loaded or there is no cluster.
    """
    with ray_session(workers * plan.recipe.compute.threads, address):
        driver = _Driver(plan, root, shards, listener, device, workers, share)
        try:
            return driver.run()
        finally:
            driver.close()


class _Driver:
    def __init__(
        self,
        plan: Plan,
        root: Path,
        shards: Sequence[ShardPlan],
        listener: Listener,
        device: str,
        workers: int,
        share: float,
    ) -> None:
        import ray

        self.listener = listener
        self.aside: list[Failure] = []
        self.lost_while_loading = 0
        self.pending = deque(Job(shard) for shard in shards)
        self.arguments = ray.put(plan), str(root.absolute()), device
        self.remote = ray.remote(
            num_cpus=plan.recipe.compute.threads,
            num_gpus=share if device.startswith("cuda") else 0,
            max_restarts=0,
            max_task_retries=0,
        )(RemoteWorker)
        self.slots = [self._slot() for _ in range(min(workers, len(shards)))]

    def _slot(self) -> Slot:
        actor = self.remote.remote(*self.arguments)
        return Slot(actor, actor.load.remote())

    def run(self) -> list[Failure]:
        import ray

        while self.pending or any(slot.jobs for slot in self.slots):
            self._submit()
            waiting: dict[Any, Slot] = {}
            for slot in self.slots:
                if slot.loading is not None:
                    waiting[slot.loading] = slot
                elif slot.jobs:
                    waiting[slot.jobs[0].stream] = slot
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=5.0, fetch_local=False)
            for item in ready:
                self._advance(waiting[item])
            for slot in self.slots:
                self._give_up_on_silence(slot)
        return self.aside

    def close(self) -> None:
        import ray

        for slot in self.slots:
            ray.kill(slot.actor)

    def _submit(self) -> None:
        """One shard for every idle actor first; a second each while that leaves none idle."""
        loaded = [slot for slot in self.slots if slot.loading is None]
        for depth in range(IN_FLIGHT):
            for slot in loaded:
                spare = depth == 0 or len(self.pending) >= len(loaded)
                if self.pending and spare and len(slot.jobs) == depth:
                    job = self.pending.popleft()
                    careful = job.died and job.attempt == TRIES
                    build = slot.actor.build.options(num_returns="streaming")
                    job.stream = build.remote(job.shard, job.attempt, careful)
                    slot.jobs.append(job)
                    if depth == 0:
                        slot.listen()

    def _give_up_on_silence(self, slot: Slot) -> None:
        """Replaces an actor that is stopped, hangs or cannot be reached."""
        import ray

        silent = time.monotonic() - slot.heard
        if slot.loading is not None or not slot.jobs or silent <= patience(slot.due):
            return
        if not ray.wait([slot.jobs[0].stream], timeout=0, fetch_local=False)[0]:
            self._replace(slot, charge=f"the worker said nothing for {silent:.0f} s", died=True)

    def _advance(self, slot: Slot) -> None:
        """Takes in what an actor has to say next."""
        import ray

        try:
            if slot.loading is not None:
                ray.get(slot.loading)
                slot.loading, self.lost_while_loading = None, 0
                return
            news = ray.get(next(slot.jobs[0].stream))
        except ray.exceptions.ActorUnavailableError:
            self._replace(slot, charge=None)
        except ray.exceptions.RayActorError as error:
            self._replace(slot, charge=f"the worker died: {_death(error)}", died=True)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if hopeless(cause):
                raise cause from None
            if slot.loading is not None:
                raise UnitcorpusError(f"the models cannot be loaded: {describe(cause)}") from None
            # What broke may have left the models broken.
            self._replace(slot, charge=describe(cause))
        else:
            self._take(slot, news)

    def _take(self, slot: Slot, news: Progress | Receipt) -> None:
        if isinstance(news, Progress):
            slot.listen(news.due)
            self.listener.progress(news)
        else:
            slot.listen()
            slot.jobs.popleft()
            self.listener.done(news)

    def _replace(self, slot: Slot, charge: str | None, died: bool = False) -> None:
        """A new actor for a lost one. `charge`: the error that the shard at work is charged with;
        None takes it as a pause of the network and charges nobody."""
        import ray

        ray.kill(slot.actor)
        jobs = list(slot.jobs)
        if charge is not None and slot.loading is not None:
            self._lost_while_loading(charge)
        elif charge is not None:
            self._fail(jobs.pop(0), charge, died)
        self.pending.extendleft(reversed(jobs))
        fresh = self._slot()
        slot.actor, slot.loading = fresh.actor, fresh.loading
        slot.jobs.clear()

    def _lost_while_loading(self, error: str) -> None:
        self.lost_while_loading += 1
        if self.lost_while_loading >= TRIES:
            raise UnitcorpusError(f"workers die while loading the models: {error}")

    def _fail(self, job: Job, error: str, died: bool) -> None:
        final = job.attempt >= TRIES
        failure = Failure(job.shard.name, job.attempt, error, final)
        self.listener.failed(failure)
        if final:
            self.aside.append(failure)
        else:
            self.pending.append(Job(job.shard, job.attempt + 1, job.died or died))


def _death(error: Exception) -> str:
    """What Ray says of a dead actor, in a line: its own first one, or the last of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[-1 if "creation task" in lines[0] else 0][:200]
