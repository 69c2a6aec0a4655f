"""Training runs in processes of their own, forked so that torch is imported once; several of a run
are started afresh, since gloo's threads may hang where a fork of a process with threads ends.

`finished = train(…)` waits; `start(…)` gives a process to kill.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from slam_model import command
from slam_model.train import main
from tiny import FAMILIES, Row, random_units, stories, write_corpus

FORK = multiprocessing.get_context("fork")
TIMINGS = {"elapsed", "tokens_per_s", "left"}


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its exit code (−9 for SIGKILL) and what it wrote to standard error."""

    code: int
    errors: str


class Started:
    """A run in a process of its own, or in `processes` of them."""

    def __init__(
        self,
        arguments: Sequence[object],
        processes: int = 1,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        words = [str(argument) for argument in arguments]
        self._out = Path(words[words.index("--out") + 1])
        self._errors = self._out.with_suffix(".err")
        port = _free_port()
        self._processes: list[Any] = [
            _Fresh(words, self._errors, rank, processes, port)
            if processes > 1
            else FORK.Process(target=_child, args=(words, self._errors, prepare))
            for rank in range(processes)
        ]
        for process in self._processes:
            process.start()

    def send(self, number: int, only: int | None = None) -> None:
        """A signal to every process of the run, or to one."""
        for process in self._processes if only is None else [self._processes[only]]:
            assert process.pid is not None
            os.kill(process.pid, number)

    def wait_for_step(self, step: int) -> None:
        """Until that step is in metrics.jsonl."""
        end = time.monotonic() + 120
        while not any(line["step"] >= step for line in lines(self._out)):
            alive = all(process.is_alive() for process in self._processes)
            assert alive, self._errors.read_text("utf-8")
            assert time.monotonic() < end, "the run does not get there"
            time.sleep(0.001)

    def wait(self) -> Finished:
        for process in self._processes:
            process.join(120)
        codes = {process.exitcode for process in self._processes}
        for process in self._processes:
            process.kill()  # one that hangs must not keep the tests from ending
        assert len(codes) == 1, codes
        code = codes.pop()
        assert code is not None, "the run hangs"
        return Finished(code, self._errors.read_text("utf-8"))


def train(*arguments: object, **how: Any) -> Finished:
    return Started(arguments, **how).wait()


class _Fresh:
    """One of several processes of a run, in the way that torchrun starts them."""

    def __init__(self, words: list[str], errors: Path, rank: int, world: int, port: int) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        self._env = {
            **os.environ,
            **{name: str(value) for name, value in names.items()},
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self._command = [sys.executable, "-m", "slam_model.train", *words]
        self._errors = errors

    def start(self) -> None:
        with self._errors.open("a", encoding="utf-8") as stream:
            self._process = subprocess.Popen(self._command, env=self._env, stderr=stream)
        self.pid = self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def join(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        self._process.kill()

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()


def _child(words: list[str], errors: Path, prepare: Callable[[], None]) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    sys.stderr = errors.open("a", buffering=1, encoding="utf-8")
    sys.argv = ["slam_model.train", *words]
    prepare()
    command.run(main)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_files() -> None:
    """No file may grow beyond 30,000 bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


# --- what is trained on, and how --------------------------------------------------------------


def write_recipe(path: Path, **sections: Any) -> Path:
    """A recipe for runs of a fraction of a second; `sections` replace or add keys."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "model": {"base": FAMILIES["qwen2"], "twist": False},
        "data": {"context": 64, "tokens_per_step": 512, "micro_tokens": 128},
        "optim": {"lr": 0.003},
        "budget": {"steps": 12},
        "evaluation": {"steps": None},
        "checkpoint": {"steps": 4},
        "log": {"steps": 1},
    }
    recipe.update(sections)
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def write_stories(root: Path, size: int = 50, name: str | None = None) -> Path:
    splits = {"train": stories(60, size), "validation": stories(8, size, seed=1)}
    return write_corpus(root, splits, size=size, name=name)


def write_pairs(root: Path, scores: Sequence[float] | None = None) -> Path:
    rng = np.random.default_rng(0)

    def rows(count: int) -> list[Row]:
        lengths = rng.integers(1, 25, (count, 3)).tolist()
        return [dict(zip(PARTS, (random_units(rng, n) for n in of), strict=True)) for of in lengths]

    given = list(scores) if scores is not None else [0.1] * 40
    splits = {"train": rows(len(given)), "validation": rows(6)}
    metas = {
        "train": [{"scores": {"text_slam_chosen": score}} for score in given],
        "validation": [{"scores": {"text_slam_chosen": 0.1}}] * 6,
    }
    return write_corpus(root, splits, metas=metas)


PARTS = ("prompt", "chosen", "rejected")


# --- what came out -----------------------------------------------------------------------------


def lines(out: Path) -> list[dict[str, float]]:
    """metrics.jsonl."""
    path = out / "metrics.jsonl"
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def figures(out: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what depends on time."""
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines(out)]


def weights(out: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(out / "final" / "model.safetensors")
    return found
