"""One build at a time, and what `unitcorpus status` says of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SMALL
from unitcorpus.build.lock import build_lock, holder
from unitcorpus.build.run import build_corpus
from unitcorpus.build.status import describe_status, status
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.reader import open_corpus


def test_a_second_build_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (
        build_lock(tmp_path),
        pytest.raises(UnitcorpusError, match=f"process {os.getpid()} on {socket.gethostname()}"),
        build_lock(tmp_path),
    ):
        pass
    with build_lock(tmp_path):
        assert holder(tmp_path) is not None
    assert holder(tmp_path) is None


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from unitcorpus.build.lock import build_lock\n"
        "with build_lock(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert json.loads((tmp_path / ".lock").read_text())["pid"]
    assert holder(tmp_path) is None
    with build_lock(tmp_path):
        assert holder(tmp_path) == {**(holder(tmp_path) or {}), "pid": os.getpid()}


def test_status_of_a_finished_a_stopped_and_a_running_build(
    small_corpus: Path, tmp_path: Path
) -> None:
    found = status(small_corpus)
    corpus = open_corpus(small_corpus)
    assert found["state"] == "finished"
    assert found["rows_done"] == found["rows"] == 12
    assert found["units"] == sum(len(sample.units) for sample in corpus)
    assert found["seconds"] == pytest.approx(sum(s.meta["seconds"] for s in corpus))

    root = tmp_path / "copy"
    shutil.copytree(small_corpus, root)
    (root / "receipts" / "train-000000.json").unlink()
    assert (status(root)["state"], status(root)["shards_done"]) == ("stopped", found["shards"] - 1)
    assert "run the same build command" in describe_status(root, status(root))
    with build_lock(root):
        assert status(root)["state"] == "running"
        assert str(os.getpid()) in describe_status(root, status(root))


def test_status_of_a_folder_without_a_build_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="no build"):
        status(tmp_path)


def test_a_running_build_tells_what_is_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unitcorpus.build import progress

    seen: list[dict[str, object]] = []
    original = progress.Display._tell

    def look(self: progress.Display) -> None:
        original(self)
        seen.append(status(tmp_path / "c"))

    monkeypatch.setattr(progress.Display, "_tell", look)
    monkeypatch.setattr(progress, "STATE_EVERY", 0.0)
    build_corpus(load_recipe("demo/stinystories", SMALL), tmp_path / "c")
    assert seen[0]["state"] == "running"
    begun, ended = seen[0]["running"], seen[1]["running"]
    assert isinstance(begun, dict)
    assert isinstance(ended, dict)
    assert begun["in_hand"] == {"train-000000": 0}
    assert list(ended["in_hand"]) == ["train-000000"]
    assert 0 < ended["in_hand"]["train-000000"] <= 5
    assert ended["speech_per_second"] > 1
