"""What a computation asks of a machine, and what the machine can give: for the other benchmarks.

Operations are those of matrix products and convolutions (torch's own counter), bytes what every
kernel that ran reads and writes, kernels how many were launched. A machine's peaks are measured on
the spot, with one large product and one large copy. The larger of the two times is the limit of the
computation as it runs; less traffic, by fusing, moves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Work:
    """Of one run: operations, bytes, kernels."""

    operations: float
    bytes: float
    kernels: int


@dataclass(frozen=True)
class Peaks:
    """Of a machine, a second: operations of a matrix product, bytes read and written by a copy."""

    operations: float
    bytes: float

    def seconds(self, work: Work) -> float:
        """The least that a work takes."""
        return max(work.operations / self.operations, work.bytes / self.bytes)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes, self.kernels = 0.0, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view and not any(a.alias_info for a in function._schema.returns[:1]):
            self._count(args, kwargs, out)
        elif function._schema.is_mutable:
            self._count(args, kwargs, ())
        return out

    def _count(self, *values: Any) -> None:
        tensors = [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]
        self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        self.kernels += 1


def measure_work(run: Callable[[], object]) -> Work:
    """What one run of it asks for."""
    with FlopCounterMode(display=False) as operations:
        run()
    with _Traffic() as traffic:
        run()
    return Work(operations.get_total_flops(), traffic.bytes, traffic.kernels)


def measure_peaks(device: str, dtype: torch.dtype = torch.float32) -> Peaks:
    size = 2048 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    product = _seconds(lambda: a @ a, device)
    large = torch.empty(1 << (27 if device == "cpu" else 30), dtype=torch.uint8, device=device)
    other = torch.empty_like(large)
    copy = _seconds(lambda: other.copy_(large), device)
    return Peaks(2 * size**3 / product, 2 * large.numel() / copy)


def _seconds(run: Callable[[], object], device: str, repeats: int = 12) -> float:
    """The fastest of the repeats: a peak. On a CPU of the process, which has one thread."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    taken = []
    for _ in range(repeats):
        start = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return min(taken)


def describe(work: Work, peaks: Peaks, audio: float, took: float) -> str:
    """A few lines: the work per second of speech, the limit, and how near `took` comes to it."""
    limit = peaks.seconds(work)
    bound = "operations" if limit == work.operations / peaks.operations else "bytes moved"
    return (
        f"  a second of speech: {work.operations / audio / 1e9:.1f} G operations, "
        f"{work.bytes / audio / 1e9:.2f} GB moved, {work.kernels / audio:.0f} kernels\n"
        f"  the machine: {peaks.operations / 1e9:,.0f} G operations/s in a matrix product, "
        f"{peaks.bytes / 1e9:,.0f} GB/s in a copy\n"
        f"  limit: {audio / limit:,.1f} × real time ({bound}); reached: {took and limit / took:.0%}"
    )
