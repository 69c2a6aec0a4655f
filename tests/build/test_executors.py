"""Executors: local, Ray, several workers, killed workers: the same bytes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import SMALL, Digests
from unitcorpus.build.plan import ShardPlan
from unitcorpus.build.ray import RemoteWorker
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.build.worker import Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.receipt import Receipt, read_receipt

ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'unitcorpus[ray]'")


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One local Ray for the module; builds join it."""
    from unitcorpus.build.cluster import ray_session

    with ray_session(2, None):
        yield


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_builds_the_bytes_of_the_local_executor(
    session: None, small_corpus: Path, tmp_path: Path, digests: Digests, workers: int
) -> None:
    outcome = build_corpus(
        load_recipe("demo/stinystories", SMALL), tmp_path / "c", execution=Execution("ray", workers)
    )
    assert outcome.corpus is not None
    assert digests(tmp_path / "c") == digests(small_corpus)


def workers_of(root: Path) -> list[psutil.Process]:
    """The Ray actors of this machine."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if "RemoteWorker" in " ".join(p.info["cmdline"] or [])
    ]


def test_a_killed_worker_costs_its_shard_a_try_and_nothing_else(
    session: None, tmp_path: Path, digests: Digests
) -> None:
    settings = ("source.count=60", "shards.samples=20", "validation=0")
    recipe = load_recipe("demo/stinystories", settings)
    build_corpus(recipe, tmp_path / "calm")
    killed: list[int] = []

    def kill_one_at_work() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            unfinished = list((tmp_path / "c" / "data").glob(".*.tmp-*"))
            if unfinished and unfinished[0].stat().st_size > 0:
                for process in workers_of(tmp_path)[:1]:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one_at_work)
    thread.start()
    outcome = build_corpus(recipe, tmp_path / "c", execution=Execution("ray", 1))
    thread.join()
    assert killed
    assert outcome.corpus is not None
    tries = [read_receipt(tmp_path / "c", s.name).run["attempt"] for s in outcome.plan.shards]
    assert sorted(tries) == [1, 1, 2]
    assert digests(tmp_path / "c") == digests(tmp_path / "calm")


def test_models_that_do_not_load_are_one_clear_error(
    session: None, tmp_path: Path, small_corpus: Path
) -> None:
    import shutil

    from unitcorpus.build import run

    root = tmp_path / "c"
    shutil.copytree(small_corpus, root)
    (root / "receipts" / "train-000000.json").unlink()
    (root / "codebook.npy").write_bytes(b"broken")
    with pytest.raises(UnitcorpusError, match=r"codebook\.npy"):
        run.build_corpus(
            load_recipe("demo/stinystories", SMALL), root, execution=Execution("ray", 2)
        )


def test_an_address_without_a_cluster_is_one_clear_error(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(UnitcorpusError, match="cannot reach Ray at"):
        build_corpus(
            load_recipe("demo/stinystories", SMALL),
            tmp_path / "c",
            execution=Execution("ray", 1, "127.0.0.1:1"),
        )


class Dying(RemoteWorker):
    """A worker whose models kill its process."""

    def load(self) -> None:
        os._exit(1)


def test_workers_that_die_while_loading_stop_the_build_and_charge_no_shard(
    session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unitcorpus.build.ray.RemoteWorker", Dying)
    recipe = load_recipe("demo/stinystories", SMALL)
    with pytest.raises(UnitcorpusError, match="die while loading"):
        build_corpus(recipe, tmp_path / "c", execution=Execution("ray", 2))
    monkeypatch.undo()
    outcome = build_corpus(recipe, tmp_path / "c")
    assert [read_receipt(tmp_path / "c", s.name).run["attempt"] for s in outcome.plan.shards] == [
        1
    ] * len(outcome.plan.shards)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_stops_the_build_and_a_bad_block_costs_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    original = Worker.build

    def failing(self: Worker, shard: ShardPlan, *rest: Any) -> Receipt:
        if shard.name == "train-000000":
            raise OSError(code, os.strerror(code))
        return original(self, shard, *rest)

    monkeypatch.setattr(Worker, "build", failing)
    recipe = load_recipe("demo/stinystories", SMALL)
    if code == errno.ENOSPC:
        with pytest.raises(OSError, match="No space left"):
            build_corpus(recipe, tmp_path / "c")
    else:
        outcome = build_corpus(recipe, tmp_path / "c")
        assert [failure.shard for failure in outcome.failures] == ["train-000000"]
        assert len(list((tmp_path / "c" / "receipts").iterdir())) == len(outcome.plan.shards) - 1
    monkeypatch.undo()
    assert build_corpus(recipe, tmp_path / "c").corpus is not None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_ray_build_says_so_and_leaves_no_half_shard(
    tmp_path: Path, number: int, code: int
) -> None:
    words = ["build", "demo/stinystories", "--out", str(tmp_path / "c"), "--workers", "2"]
    words += ["--set", "source.count=200", "--set", "shards.samples=20"]
    command = [sys.executable, "-m", "unitcorpus", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "c").glob("receipts/*.json")):
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code, errors
    assert "run the same command" in errors.strip().splitlines()[-1]
    assert [p.name for p in (tmp_path / "c").rglob(".*.tmp-*")] == []
