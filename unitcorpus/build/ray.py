"""The Ray executor: an actor per worker, one task per shard, retries counted here.

An actor holds the speech engine and the extractor together, so that waveforms never leave its
process; what travels is a plan, shard names and receipts. At most two shards are in flight per
actor: one at work and one waiting, so that none is idle between two. If an actor dies, the shard it
was at is charged with a try, the waiting one is not, and a new actor takes its place.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unitcorpus.build.executor import TRIES, Failure, Listener, describe, hopeless
from unitcorpus.build.plan import Plan, ShardPlan
from unitcorpus.build.worker import Progress, Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.receipt import Receipt

IN_FLIGHT = 2
EVERY = 0.5
"""Seconds between two words of progress from an actor."""

OBJECT_STORE = 128 << 20
"""Bytes; only plans and receipts pass through it."""


class RemoteWorker:
    """A Worker inside a Ray actor."""

    def __init__(self, plan: Plan, root: str, device: str) -> None:
        self.arguments = plan, Path(root), device

    def load(self) -> None:
        """Loads the models: a task of its own, so that its error comes back as itself."""
        self.worker = Worker(*self.arguments)

    def build(self, shard: ShardPlan, attempt: int) -> Generator[Progress | Receipt, None, None]:
        """Yields progress, then the receipt."""
        steps, told = self.worker.steps(shard, attempt), time.monotonic()
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
    """A shard at an actor: `stream` yields what the actor says of it."""

    shard: ShardPlan
    attempt: int
    stream: Any


@dataclass
class Slot:
    """A place for an actor. `loading` is the task that loads its models, until it is done."""

    actor: Any
    loading: Any | None
    jobs: deque[Job] = field(default_factory=deque)


def run_ray(
    plan: Plan,
    root: Path,
    shards: Sequence[ShardPlan],
    listener: Listener,
    device: str = "cpu",
    workers: int = 1,
    address: str | None = None,
) -> list[Failure]:
    """Builds `shards` on `workers` actors, here or on the cluster at `address`; returns the ones
    set aside. Raises UnitcorpusError where the models cannot be loaded or there is no cluster."""
    with ray_session(workers * plan.recipe.compute.threads, address):
        driver = _Driver(plan, root, shards, listener, device, workers)
        try:
            return driver.run()
        finally:
            driver.close()


@contextmanager
def ray_session(cpus: int, address: str | None) -> Iterator[None]:
    """A connection to a cluster, or a local one for the block; a caller's own is kept."""
    try:
        import ray
    except ImportError:
        raise UnitcorpusError("several workers need Ray: pip install 'unitcorpus[ray]'") from None
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        check_reachable(address)
        ray.init(address=address or "local", **options)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray puts its own in their place
                signal.signal(number, handler)
    except (OSError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        hint = "" if address is None else "; a cluster with tokens wants RAY_AUTH_MODE=token"
        raise UnitcorpusError(f"cannot reach Ray at {where}: {describe(error)}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


def check_reachable(address: str | None) -> None:
    """Raises OSError where nothing listens at HOST:PORT, which Ray would wait for in silence."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


class _Driver:
    def __init__(
        self,
        plan: Plan,
        root: Path,
        shards: Sequence[ShardPlan],
        listener: Listener,
        device: str,
        workers: int,
    ) -> None:
        import ray

        self.listener = listener
        self.aside: list[Failure] = []
        self.lost_while_loading = 0
        self.pending = deque((shard, 1) for shard in shards)
        self.arguments = ray.put(plan), str(root.absolute()), device
        self.remote = ray.remote(
            num_cpus=plan.recipe.compute.threads,
            num_gpus=1 if device.startswith("cuda") else 0,
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
        return self.aside

    def close(self) -> None:
        import ray

        for slot in self.slots:
            ray.kill(slot.actor)

    def _submit(self) -> None:
        """One shard for every idle actor first; a second each while that leaves none idle."""
        for depth in range(IN_FLIGHT):
            for slot in self.slots:
                spare = depth == 0 or len(self.pending) >= len(self.slots)
                if self.pending and spare and len(slot.jobs) == depth:
                    shard, attempt = self.pending.popleft()
                    stream = slot.actor.build.options(num_returns="streaming").remote(
                        shard, attempt
                    )
                    slot.jobs.append(Job(shard, attempt, stream))

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
            self._replace(slot, charge=f"the worker died: {describe(error)[:200]}")
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if hopeless(cause):
                raise cause from None
            if slot.loading is not None:
                raise UnitcorpusError(f"the models cannot be loaded: {describe(cause)}") from None
            self._replace(
                slot, charge=describe(cause)
            )  # what broke may have left the models broken
        else:
            self._take(slot, news)

    def _take(self, slot: Slot, news: Progress | Receipt) -> None:
        if isinstance(news, Progress):
            self.listener.progress(news)
        else:
            slot.jobs.popleft()
            self.listener.done(news)

    def _replace(self, slot: Slot, charge: str | None) -> None:
        """A new actor for a lost one. `charge`: the error that the shard at work is charged with;
        None takes it as a pause of the network and charges nobody."""
        import ray

        ray.kill(slot.actor)
        jobs = list(slot.jobs)
        if charge is not None and slot.loading is not None:
            self._lost_while_loading(charge)
        elif charge is not None:
            self._fail(jobs.pop(0), charge)
        self.pending.extendleft((job.shard, job.attempt) for job in reversed(jobs))
        fresh = self._slot()
        slot.actor, slot.loading = fresh.actor, fresh.loading
        slot.jobs.clear()

    def _lost_while_loading(self, error: str) -> None:
        self.lost_while_loading += 1
        if self.lost_while_loading >= TRIES:
            raise UnitcorpusError(f"workers die while loading the models: {error}")

    def _fail(self, job: Job, error: str) -> None:
        final = job.attempt >= TRIES
        failure = Failure(job.shard.name, job.attempt, error, final)
        self.listener.failed(failure)
        if final:
            self.aside.append(failure)
        else:
            self.pending.append((job.shard, job.attempt + 1))
