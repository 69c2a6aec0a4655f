"""Connections to Ray: a cluster at an address, or one on this machine for as long as needed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unitcorpus.build.executor import describe
from unitcorpus.errors import UnitcorpusError

OBJECT_STORE = 128 << 20
"""Bytes; only plans and receipts pass through it."""


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
