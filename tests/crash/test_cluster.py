"""Placement on a cluster: a share of a device for each worker, models loaded once, work pulled."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from nodes import Nodes
from unitcorpus.build.plan import ShardPlan
from unitcorpus.build.ray import RemoteWorker
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.build.worker import Progress
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.receipt import Receipt

ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'unitcorpus[ray]'")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One node that has a GPU, it says, and cores for more workers than may share it."""
    nodes = Nodes(os.environ, 1, num_cpus=4, num_gpus=1)
    yield nodes
    nodes.close()


class Noting(RemoteWorker):
    """A worker on the CPU that notes what it loads, builds and was given; the first is slow."""

    def load(self) -> None:
        plan, root, _ = self.arguments
        self.arguments = plan, root, "cpu"
        super().load()
        self.notes = root.parent / f"worker-{os.getpid()}"
        self.note(f"loaded on {ray.get_gpu_ids()}")
        try:
            (root.parent / "slow").touch(exist_ok=False)
            self.pause = 1.5
        except FileExistsError:
            self.pause = 0.0

    def build(
        self, shard: ShardPlan, attempt: int, careful: bool
    ) -> Generator[Progress | Receipt, None, None]:
        time.sleep(self.pause)
        self.note(shard.name)
        yield from super().build(shard, attempt, careful)

    def note(self, line: str) -> None:
        with self.notes.open("a") as file:
            file.write(line + "\n")


def test_two_workers_share_a_gpu_a_third_has_no_place_and_who_is_free_takes_the_work(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes have no tests
    monkeypatch.setattr("unitcorpus.build.ray.RemoteWorker", Noting)
    execution = Execution("ray", 3, nodes.address, "cuda", devices_per_worker=0.5)
    settings = ("source.count=24", "shards.samples=2", "validation=0")
    recipe = load_recipe("demo/stinystories", settings)
    outcome = build_corpus(recipe, tmp_path / "c", execution=execution)
    assert outcome.corpus is not None
    notes = [path.read_text().splitlines() for path in tmp_path.glob("worker-*")]
    assert [note[0] for note in notes] == ["loaded on [0]"] * 2
    assert sum(line.startswith("loaded") for note in notes for line in note) == 2
    shards = sorted(len(note) - 1 for note in notes)
    assert sum(shards) == len(outcome.plan.shards) == 12
    assert shards[0] < shards[1]
