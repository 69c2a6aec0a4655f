"""Checkpoints: whole or not there; a damaged one is found and the one before it is used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slam_model.checkpoint import Checkpoints
from unitcorpus.errors import UnitcorpusError


def write(folder: Path) -> None:
    (folder / "model").mkdir()
    save_file({"w": torch.arange(50_000.0)}, folder / "model" / "model.safetensors")
    torch.save({"m": torch.ones(50_000)}, folder / "optimizer.pt")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    kept = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (5, 10):
        kept.save(step, {"step": step}, write)
    return kept


def never(text: str) -> None:
    raise AssertionError(text)


def test_what_is_saved_is_loaded(checkpoints: Checkpoints) -> None:
    latest = checkpoints.latest(never)
    assert latest is not None
    assert latest.step == 10
    assert latest.state == {"step": 10}
    assert load_file(latest.model / "model.safetensors")["w"][7] == 7.0
    assert torch.load(latest.optimizer, weights_only=True)["m"].sum() == 50_000


def test_the_last_ones_are_kept(checkpoints: Checkpoints) -> None:
    checkpoints.save(15, {"step": 15}, write)
    assert checkpoints.steps() == [10, 15]


def test_nothing_is_left_beside_the_checkpoints(checkpoints: Checkpoints) -> None:
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == [
        "step-00000005",
        "step-00000010",
    ]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
@pytest.mark.parametrize(
    "name", ["model/model.safetensors", "optimizer.pt", "state.json", "files.json"]
)
def test_a_damaged_checkpoint_is_passed_over_and_said(
    checkpoints: Checkpoints, harm: Callable[[Path], None], name: str
) -> None:
    harm(checkpoints.folder / "step-00000010" / name)
    said: list[str] = []
    latest = checkpoints.latest(said.append)
    assert latest is not None
    assert latest.step == 5
    assert len(said) == 1
    assert "step-00000010 is damaged" in said[0]


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(
    checkpoints: Checkpoints,
) -> None:
    truncate(checkpoints.folder / "step-00000010" / "optimizer.pt")
    checkpoints.save(10, {"step": 10}, write)
    latest = checkpoints.latest(never)
    assert latest is not None
    assert latest.step == 10


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_checkpoint import write
from slam_model.checkpoint import Checkpoints
from unitcorpus.errors import UnitcorpusError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    Checkpoints(Path({folder!r}), keep=1).save(15, {{"step": 15}}, write)
except UnitcorpusError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100, 100_000, 200_300])
def test_a_disk_without_room_is_one_error_and_costs_no_checkpoint(
    checkpoints: Checkpoints, limit: int
) -> None:
    """The limit on a file's size stands in for the disk: the system's writes fail the same way."""
    code = FULL.format(
        tests=str(Path(__file__).parent), folder=str(checkpoints.folder), limit=limit
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "cannot save" in done.stdout
    assert "step 10 is kept" in done.stdout
    test_nothing_is_left_beside_the_checkpoints(checkpoints)
    test_what_is_saved_is_loaded(checkpoints)


def test_an_error_of_the_program_leaves_nothing_and_stays_an_error(
    checkpoints: Checkpoints,
) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyError("bug")

    with pytest.raises(KeyError):
        checkpoints.save(15, {}, fail)
    test_nothing_is_left_beside_the_checkpoints(checkpoints)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnitcorpusError, match="there was none before"):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1).save(1, {}, write)


KILLED = """
import os, signal, sys
from pathlib import Path
from slam_model.checkpoint import Checkpoints
def half(folder):
    (folder / "optimizer.pt").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoints(Path({folder!r}), keep=2).save(15, {{}}, half)
"""


def test_killed_while_saving_leaves_the_checkpoint_before(checkpoints: Checkpoints) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(checkpoints.folder))], check=False
    )
    assert done.returncode == -signal.SIGKILL
    test_what_is_saved_is_loaded(checkpoints)
    checkpoints.remove_temporary()
    test_nothing_is_left_beside_the_checkpoints(checkpoints)
