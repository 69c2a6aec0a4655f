"""An input that ends the process it is made in costs itself and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unitcorpus
from scene import Scene
from unitcorpus.shards.receipt import read_receipt
from unitcorpus.shards.verify import verify

DEADLY = (5, 7)
"""Rows that end the process; both in the first of the shards, which hold six each."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(tmp_path_factory.mktemp("poison")) as scene:
        yield scene


@pytest.fixture(scope="module")
def rows(scene: Scene) -> Path:
    """The scene's rows, two of them deadly."""
    lines = [json.loads(line) for line in scene.rows.read_text().splitlines()]
    for row in DEADLY:
        lines[row]["text"] += " ABORT"
    path = scene.home / "deadly.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def build(scene: Scene, rows: Path, root: Path, *more: str, **env: str) -> tuple[int, str]:
    """Builds the rows, in a process of its own; how it ended, and its errors."""
    words = ["build", "demo/stinystories", "--out", str(root), "--set", f"source.path={rows}"]
    words += ["--set", "shards.samples=6", "--set", "validation=0", *more]
    return command(scene, words, **env)


def command(scene: Scene, words: list[str], **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "unitcorpus", *words],
        env={**scene.environ, "POISON": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def local(scene: Scene, rows: Path) -> Path:
    """The corpus as one process makes it, which dies once."""
    root = scene.place("build")
    code, errors = build(scene, rows, root)
    assert code == -6, errors
    code, errors = build(scene, rows, root)
    assert code == 0, errors
    return root


def rejects(root: Path) -> list[dict[str, str]]:
    lines = [line for path in root.glob("rejects/*") for line in path.read_bytes().splitlines()]
    return [json.loads(line) for line in lines]


def test_the_driver_dies_once_and_the_rerun_rejects_exactly_the_deadly_rows(
    scene: Scene, local: Path
) -> None:
    killed = [line for line in rejects(local) if line["reason"] == "killed_worker"]
    assert sorted(line["id"] for line in killed) == [f"r{row}" for row in DEADLY]
    assert verify(local) == []
    assert [p.name for p in local.rglob(".*") if p.name not in (".lock", ".recipe.json")] == []
    runs = [read_receipt(local, path.stem).run for path in local.glob("receipts/*")]
    assert sorted(v for run in runs for v in run.get("killers", {}).values()) == ["SIGABRT"] * 2


def test_the_others_are_what_they_are_without_the_poison(
    scene: Scene, rows: Path, local: Path
) -> None:
    """Not a byte of another sample depends on a row that was left out."""
    calm = scene.place("build")
    code, errors = build(scene, rows, calm, POISON="")
    assert code == 0, errors
    due = {sample.key: sample.members for sample in unitcorpus.open(calm)}
    found = {sample.key: sample.members for sample in unitcorpus.open(local)}
    gone = {line["key"] for line in rejects(local) if line["reason"] == "killed_worker"}
    assert found == {key: members for key, members in due.items() if key not in gone}


def test_repair_gives_the_same_bytes_and_lives(scene: Scene, local: Path, tmp_path: Path) -> None:
    root = tmp_path / "c"
    shutil.copytree(local, root)
    [poisoned] = [path for path in root.glob("rejects/*") if b"killed_worker" in path.read_bytes()]
    before = scene.content(root)
    shard = root / "data" / f"{poisoned.stem}.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    code, errors = command(scene, ["verify", str(root), "--repair"])
    assert code == 0, errors
    assert scene.content(root) == before


def test_on_ray_workers_die_the_build_goes_on_and_the_bytes_are_the_same(
    scene: Scene, rows: Path, local: Path
) -> None:
    root = scene.place("build")
    code, errors = build(scene, rows, root, "--executor", "ray", "--workers", "1")
    assert code == 0, errors
    assert errors.count("the worker died") == 2
    assert scene.content(root) == scene.content(local)


@pytest.mark.slow
def test_a_row_that_hangs_is_found_as_one_that_kills(scene: Scene, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(scene.rows.read_text().replace("The fox ran up", "HANG and"))
    root = scene.place("build")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-m", "unitcorpus", *scene.words("build", root)[:-4],
             "--set", f"source.path={rows}", "--out", str(root)],
            env={**scene.environ, "POISON": "1"}, timeout=15, capture_output=True, check=False,
        )  # fmt: skip
    words = [*scene.words("build", root)[:-4], "--set", f"source.path={rows}", "--out", str(root)]
    code, errors = command(scene, words, SILENCE="30")
    assert code == 0, errors
    assert [r["text"][:4] for r in rejects(root) if r["reason"] == "killed_worker"] == ["HANG"]
