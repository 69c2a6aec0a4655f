"""What every test shares: one thread per process, no network, and one small corpus to look at."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parent))  # tests/checkpoints.py and the like
sys.path.insert(0, str(Path(__file__).parent / "slam_model"))  # tests/slam_model/corpora.py
sys.path.insert(0, str(Path(__file__).parent / "hub"))  # tests/hub/server.py
sys.path.insert(0, str(Path(__file__).parent / "crash"))  # tests/crash/scene.py
sys.path.insert(0, str(Path(__file__).parent / "fuzz"))  # tests/fuzz/mutations.py
sys.path.insert(0, str(Path(__file__).parent / "stores"))  # tests/stores/s3_server.py

if TYPE_CHECKING:
    from scene import Scene

SMALL = ("source.count=12", "shards.samples=5", "validation=0.2")
"""Overrides of demo/stinystories: 12 stories, four shards, a minute of speech each."""

Digests = Callable[[Path], dict[str, str]]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What can be made again (compiled tokens) goes to the test's own folder, in its subprocesses
    too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo corpus. Read only: copy it before changing anything."""
    root = tmp_path_factory.mktemp("corpus") / "small"
    outcome = build_corpus(load_recipe("demo/stinystories", SMALL), root)
    assert outcome.corpus is not None
    return root


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Where faults are injected."""
    from scene import Scene

    with Scene(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


@pytest.fixture(scope="session")
def digests() -> Digests:
    """sha256 of every file of a corpus that a build promises to make again: all but the receipts
    (timings), request.json (the source file's own digest), the lock, and the paths of this
    machine."""
    unpromised = ("request.json", ".lock", ".recipe.json")

    def digest(root: Path) -> dict[str, str]:
        return {
            str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.parent.name != "receipts" and path.name not in unpromised
        }

    return digest
