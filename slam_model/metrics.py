"""What a run says while it goes on: out/metrics.jsonl, trackers, a line on the terminal.

metrics.jsonl has one object per logged step, each step once: after a resume the lines beyond the
checkpoint are cut off, since their steps are trained again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from transformers import PreTrainedModel

from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.writer import write_atomic

QUIET_SECONDS = 30.0

PEAK_FLOPS = {
    "A5000": 111e12,
    "A6000": 155e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}
"""Dense bfloat16 with float32 accumulation, FLOP/s (NVIDIA's data sheets); the first that fits."""


def peak_flops(device: torch.device) -> float | None:
    """The peak of a device in bfloat16 FLOP/s, or None where it is not known."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device)
    fits = (peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}\b", words))
    return next(fits, None)


class Flops:
    """Training FLOPs of a model: 6 per weight and token, and the attention that is needed.

    Weights: all but the input embedding (a lookup), and the output head once, tied or not.
    Attention: 12 · layers · width · n² / 2 for a document of n tokens (causal, never across
    documents), forward and backward; recomputation is not counted (PaLM, arXiv 2204.02311, B).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings().weight
        lookup = model.get_input_embeddings().weight
        total = sum(p.numel() for p in model.parameters())
        self.weights = total - (0 if head is lookup else lookup.numel())
        config = model.config
        self.attention = 6 * config.num_hidden_layers * config.hidden_size

    def of(self, lengths: NDArray[np.int64]) -> float:
        """FLOPs of training on documents of these lengths in tokens."""
        n = lengths.astype(np.float64)
        return float(6 * self.weights * n.sum() + self.attention * (n * n).sum())


class Log:
    """The metrics file and the terminal; only the main process writes."""

    def __init__(self, path: Path, main: bool, resumed_at: int = 0) -> None:
        self._main = main
        self._started = self._said = time.monotonic()
        self._progress: Progress | None = None
        if not main:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_after(path, resumed_at)
        self._stream = path.open("a", encoding="utf-8")
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>5.1f} %"),
            )
            self._progress = Progress(*columns, console=Console(stderr=True))
            self._bar = self._progress.add_task("starting", total=1.0)

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.stop()
        if self._main:
            with suppress(OSError):  # what a full disk did not take was told when it was written
                self._stream.close()

    def write(self, metrics: Mapping[str, float | int]) -> None:
        """One line of metrics.jsonl, out of this process at once. Raises UnitcorpusError."""
        if not self._main:
            return
        try:
            self._stream.write(json.dumps(dict(metrics)) + "\n")
            self._stream.flush()
        except OSError as error:
            raise UnitcorpusError(
                f"cannot write {self._stream.name}: {error.strerror}; the checkpoints are kept. "
                "Make room and run the same command again"
            ) from error

    def show(self, metrics: Mapping[str, float | int], fraction: float) -> None:
        """The state of the run: a bar on a terminal, else a line every half minute."""
        if not self._main:
            return
        if self._progress:
            self._progress.update(self._bar, completed=fraction, description=line(metrics))
        elif time.monotonic() - self._said >= QUIET_SECONDS:
            self.say(f"{100 * fraction:5.1f} %  {line(metrics)}")

    def say(self, text: str) -> None:
        """A message on standard error, above the bar where there is one."""
        if not self._main:
            return
        self._said = time.monotonic()
        if self._progress:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def line(metrics: Mapping[str, float | int]) -> str:
    """`step 120  loss 3.4121  lr 9.8e-04  182k tok/s  MFU 41 %  0:12:04 left`"""
    parts = [f"step {metrics['step']}  loss {metrics['loss']:.4f}  lr {metrics['lr']:.1e}"]
    parts.append(f"{metrics['tokens_per_s'] / 1000:.1f}k tok/s")
    if "mfu" in metrics:
        parts.append(f"MFU {100 * metrics['mfu']:.0f} %")
    if "left" in metrics:
        parts.append(f"{duration(metrics['left'])} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`1:02:03`"""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def cut_after(path: Path, step: int) -> None:
    """Removes the lines of metrics.jsonl that belong to steps after `step`, or are not whole."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text("utf-8").splitlines():
        try:
            if json.loads(text)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(text + "\n")
    write_atomic(path, "".join(kept).encode())
