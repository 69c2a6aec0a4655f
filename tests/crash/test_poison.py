"""An input that ends the process it is made in costs itself and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unitcorpus
from forks import Ended
from nodes import on_nodes
from scene import Scene
from unitcorpus.shards.receipt import read_receipt
from unitcorpus.shards.verify import verify

DEADLY = 5
"""The row that ends the process, one of a shard of six."""


@pytest.fixture(scope="module")
def rows(scene: Scene) -> Path:
    """The scene's rows, one of them deadly."""
    return deadly(scene, "ABORT", DEADLY)


def deadly(scene: Scene, word: str, *numbers: int) -> Path:
    lines = [json.loads(line) for line in scene.rows.read_text().splitlines()]
    for row in numbers:
        lines[row]["text"] += f" {word}"
    path = scene.home / f"{word}-{len(numbers)}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def words(rows: Path, root: Path, *more: str) -> list[str]:
    """The command that builds the rows."""
    settings = (f"source.path={rows}", "shards.samples=6", "validation=0")
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["build", "demo/stinystories", "--out", str(root), *sets, *more]


def done(ended: Ended) -> str:
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@pytest.fixture(scope="module")
def local(scene: Scene, rows: Path) -> Path:
    """The corpus as one process makes it, which dies once."""
    root = scene.place("build")
    assert scene.forks.run(words(rows, root)).returncode == -6
    done(scene.forks.run(words(rows, root)))
    return root


def rejects(root: Path) -> list[dict[str, str]]:
    lines = [line for path in root.glob("rejects/*") for line in path.read_bytes().splitlines()]
    return [found for line in lines if (found := json.loads(line))["reason"] == "killed_worker"]


def test_the_driver_dies_once_and_the_rerun_rejects_exactly_the_deadly_row(local: Path) -> None:
    assert [line["id"] for line in rejects(local)] == [f"r{DEADLY}"]
    assert verify(local) == []
    assert [p.name for p in local.rglob(".*") if p.name not in (".lock", ".recipe.json")] == []
    runs = [read_receipt(local, path.stem).run for path in local.glob("receipts/*")]
    assert [v for run in runs for v in run.get("killers", {}).values()] == ["SIGABRT"]


def test_the_others_are_what_they_are_without_the_poison(scene: Scene, local: Path) -> None:
    """Not a byte of another sample depends on a row that was left out."""
    calm = scene.place("build")
    done(scene.forks.run(words(scene.rows, calm)))
    due = {sample.key: sample.members for sample in unitcorpus.open(calm)}
    found = {sample.key: sample.members for sample in unitcorpus.open(local)}
    gone = {line["key"] for line in rejects(local)}
    assert found == {key: members for key, members in due.items() if key not in gone}


def test_repair_gives_the_same_bytes_and_lives(scene: Scene, local: Path, tmp_path: Path) -> None:
    root = tmp_path / "c"
    shutil.copytree(local, root)
    [name] = {line["key"].rpartition("-")[0] for line in rejects(root)}
    before = scene.content(root)
    shard = root / "data" / f"{name}.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    done(scene.forks.run(["verify", str(root), "--repair"]))
    assert scene.content(root) == before


def test_on_ray_workers_die_the_build_goes_on_and_the_bytes_are_the_same(
    scene: Scene, rows: Path, local: Path
) -> None:
    root = scene.place("build")
    errors = done(scene.forks.run(words(rows, root, *on_nodes(scene.nodes(), 1))))
    assert errors.count("the worker died") == 2
    assert scene.content(root) == scene.content(local)


@pytest.mark.slow
def test_several_in_one_batch_are_all_found(scene: Scene) -> None:
    root = scene.place("build")
    command = words(deadly(scene, "ABORT", 4, 5, 7), root)
    assert scene.forks.run(command).returncode == -6
    done(scene.forks.run(command))
    assert sorted(line["id"] for line in rejects(root)) == ["r4", "r5", "r7"]


@pytest.mark.slow
def test_a_row_that_hangs_is_found_as_one_that_kills(scene: Scene) -> None:
    root = scene.place("build")
    command = [sys.executable, "-m", "unitcorpus", *words(deadly(scene, "HANG", 5), root)]
    environ = {**scene.environ, "SILENCE": "30"}
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, env=environ, timeout=15, capture_output=True, check=False)
    subprocess.run(command, env=environ, timeout=150, capture_output=True, check=True)
    assert [line["id"] for line in rejects(root)] == ["r5"]
