"""A Ray cluster of several nodes on this machine, whose processes watch for a scene's faults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

HEAD: dict[str, Any] = {
    "num_cpus": 0,
    "include_dashboard": False,
    # A dead node is noticed after 6 s; Ray's own settings take up to 40.
    "_system_config": {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000},
}
MEMORY = 100 << 20
"""Bytes of a node's object store; only plans and receipts pass through it."""


class Nodes:
    """`count` nodes with room for a worker each, and a head with none."""

    def __init__(self, environ: Mapping[str, str], count: int = 2, **more: float) -> None:
        from ray.cluster_utils import Cluster

        self._environ, self._more = environ, {"num_cpus": 1, **more}
        with environment(environ):
            self.cluster = Cluster(
                initialize_head=True, head_node_args={**HEAD, "object_store_memory": MEMORY}
            )
        self.address: str = self.cluster.address
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """One more node."""
        with environment(self._environ):
            self.cluster.add_node(object_store_memory=MEMORY, **self._more)

    def replace_dead(self) -> int:
        """Adds a node for each that is dead; how many there were."""
        dead = [node for node in self.cluster.worker_nodes if node.dead_processes()]
        for node in dead:
            self.cluster.remove_node(node, allow_graceful=False)
            self.add()
        return len(dead)

    def close(self) -> None:
        self.cluster.shutdown()


def on_nodes(nodes: Nodes, workers: int = 2) -> list[str]:
    """The options of a command that builds there."""
    return ["--workers", str(workers), "--ray-address", nodes.address]


@contextmanager
def environment(environ: Mapping[str, str]) -> Iterator[None]:
    """What is started in the block has this environment."""
    old = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def workers() -> list[psutil.Process]:
    """The Ray actors of this machine that build."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if "RemoteWorker" in " ".join(p.info["cmdline"] or [])]


def wait_until_no_worker_is_left(seconds: float = 20) -> None:
    """Ray ends the actors of a dead driver, but not at once."""
    end = time.monotonic() + seconds
    while workers() and time.monotonic() < end:
        time.sleep(0.05)
