"""Grids that really run: failures, resuming after kills, several runners."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grids import write_grid
from runs import figures

WRONG = {"axes": {"rate": {"good": {}, "absurd": {"set": {"optim.lr": 1e30}}}}, "preference": None}


def start(root: Path, out: Path, session: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slam_model.grid", str(root / "grid.yaml")]
    return subprocess.Popen(
        [*command, "--data", str(root / "data"), "--out", str(out), "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
    )


def table(out: Path) -> Any:
    """table.json without what depends on time."""
    found = json.loads((out / "table.json").read_text())
    for row in found["rows"]:
        del row["hours"]
    return found


def wait_for(file: Path, process: subprocess.Popen[str], lines: int = 1) -> None:
    end = time.monotonic() + 120
    while not file.is_file() or file.read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_failed_cell_is_told_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    write_grid(tmp_path, **WRONG)
    process = start(tmp_path, tmp_path / "out")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "✗ absurd, seed 0: pretraining: step " in errors
    assert "is nan" in errors or "is inf" in errors
    assert "✓ good, seed 0" in errors
    assert "2 cells: 1 done, 1 failed" in errors
    assert "not run" in said
    assert (tmp_path / "out" / "figure.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("everything", [True, False], ids=["all of it", "the runner alone"])
def test_after_a_kill_the_same_command_ends_with_the_same_table(
    tmp_path: Path, everything: bool
) -> None:
    write_grid(tmp_path)
    quiet = start(tmp_path, tmp_path / "quiet")
    assert (quiet.communicate(timeout=300), quiet.returncode)[1] == 0
    out = tmp_path / "killed"
    for stage, lines in (("pretrained", 6), ("dpo", 2)):
        process = start(tmp_path, out, session=True)
        wait_for(out / "cells" / "narrow_seed0" / stage / "metrics.jsonl", process, lines)
        (os.killpg if everything else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
    last = start(tmp_path, out)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert table(out) == table(tmp_path / "quiet")
    for name in ("narrow_seed0", "wide_seed0"):
        for stage in ("pretrained", "dpo"):
            one, other = (figures(o / "cells" / name / stage) for o in (out, tmp_path / "quiet"))
            assert one == other


@pytest.mark.slow
def test_sigterm_saves_and_two_runners_share_the_cells(tmp_path: Path) -> None:
    write_grid(tmp_path)
    out = tmp_path / "out"
    stopped = start(tmp_path, out)
    wait_for(out / "cells" / "narrow_seed0" / "pretrained" / "metrics.jsonl", stopped)
    stopped.terminate()
    _, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + signal.SIGTERM, errors
    assert "the same command goes on from there" in errors
    both = [start(tmp_path, out) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(one.count("✓ narrow") for one in said) == 1
    assert sum(one.count("✓ wide") for one in said) == 1
