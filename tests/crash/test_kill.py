"""Kill a build at any moment, run the same command again: the same bytes, nothing left over."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import Digests
from unitcorpus.shards.verify import verify

SETTINGS = ("source.count=30", "shards.samples=3", "validation=0.2", "dedup.near={}")
KILLS = {"local": 10, "ray": 4}


def command(root: Path, executor: str) -> list[str]:
    words = [sys.executable, "-m", "unitcorpus", "build", "demo/stinystories", "--out", str(root)]
    words += ["--executor", executor, "--workers", "2" if executor == "ray" else "1"]
    return [*words, *(w for setting in SETTINGS for w in ("--set", setting))]


def run(root: Path, executor: str) -> float:
    """Builds to the end; returns the seconds it took."""
    start = time.monotonic()
    subprocess.run(command(root, executor), check=True, capture_output=True)
    return time.monotonic() - start


def kill_after(root: Path, executor: str, seconds: float) -> bool:
    """Starts a build and kills it with all its children; False if it was done before."""
    process = subprocess.Popen(
        command(root, executor), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
        return True
    return False


@pytest.mark.parametrize("executor", sorted(KILLS))
def test_killed_at_random_moments_and_run_again_the_bytes_are_the_same(
    tmp_path: Path, digests: Digests, executor: str
) -> None:
    calm = tmp_path / "calm"
    took = run(calm, "local")
    reach = took + (8.0 if executor == "ray" else 0.0)
    draw = random.Random(executor)
    roots = [tmp_path / "0"]
    kills = 0
    while kills < KILLS[executor]:
        # Each run starts where the last was killed; a finished corpus makes place for a new one.
        if kill_after(roots[-1], executor, draw.uniform(0.2, reach)):
            kills += 1
        else:
            roots.append(tmp_path / str(len(roots)))
    for root in roots:
        run(root, "local")
        assert digests(root) == digests(calm)
        assert verify(root) == []
        assert [p.name for p in root.rglob(".*") if p.name not in (".lock", ".recipe.json")] == []
