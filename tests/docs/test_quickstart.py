"""docs/quickstart.md: its commands, run one after the other as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks

import unitcorpus
from unitcorpus.shards.verify import verify


@pytest.mark.slow
def test_the_quick_start_runs_from_top_to_bottom(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "unitcorpus"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m unitcorpus "$@"\n')
    command.chmod(0o755)
    python = Path(sys.executable).parent
    path = os.pathsep.join([str(command.parent), str(python), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for block in blocks(ROOT / "docs" / "quickstart.md"):
        if block.language not in ("sh", "python"):
            continue
        interpreter = ["sh", "-e"] if block.language == "sh" else [sys.executable, "-"]
        done = subprocess.run(
            interpreter, input=block.text, cwd=tmp_path, env=environment, text=True, timeout=600
        )
        assert done.returncode == 0, f"line {block.line}"
    corpora = tmp_path / "corpora"
    assert sorted(path.name for path in corpora.iterdir()) == [
        "contrasts",
        "mine",
        "pairs",
        "stories",
    ]
    assert all(verify(root) == [] for root in corpora.iterdir())
    mine = unitcorpus.open(corpora / "mine")
    assert {sample.meta["id"] for sample in mine} == {"river", "owl", "rain"}
    assert mine.info["rejected"] == {"empty_text": 1}
    assert len((tmp_path / "generated" / "generations.jsonl").read_text().splitlines()) == 3
