"""verify --repair: damaged shards come back byte for byte, the others are not touched."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Digests

from unitcorpus.build.repair import repair
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.verify import verify


@pytest.fixture
def copy(small_corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_corpus, tmp_path / "c")
    return tmp_path / "c"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_only_what_is_damaged_is_built_again(
    copy: Path, small_corpus: Path, digests: Digests
) -> None:
    draw = random.Random(3)
    flip(copy / "data/train-000000.tar", draw.randrange(5000))
    (copy / "rejects/validation-000000.jsonl").write_text("lost\n")
    flip(copy / "index.json", 7)
    whole = copy / "data/train-000001.tar"
    before = whole.stat().st_mtime_ns
    names, outcome = repair(copy, Execution())
    assert names == ["train-000000", "validation-000000"]
    assert outcome.corpus is not None
    assert digests(copy) == digests(small_corpus)
    assert whole.stat().st_mtime_ns == before
    assert verify(copy) == []


def test_a_missing_receipt_or_corpus_json_comes_back(
    copy: Path, small_corpus: Path, digests: Digests
) -> None:
    (copy / "receipts/train-000001.json").unlink()
    (copy / "corpus.json").unlink()
    assert repair(copy, Execution())[0] == ["train-000001"]
    assert digests(copy) == digests(small_corpus)


def test_the_source_is_not_needed(tmp_path: Path, digests: Digests) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Number {n} ran."}) + "\n" for n in range(4)))
    recipe = load_recipe("demo/stinystories", [f"source.path={rows}"])
    build_corpus(recipe, tmp_path / "c")
    made = digests(tmp_path / "c")
    rows.unlink()
    flip(tmp_path / "c/data/train-000000.tar", 700)
    repair(tmp_path / "c", Execution())
    assert digests(tmp_path / "c") == made


def test_what_is_kept_for_repairs_holds_no_secret_of_a_url() -> None:
    recipe = load_recipe("demo/stinystories", ["source.path=https://me:key@x.org/a.jsonl?sig=key"])
    assert "key" not in json.dumps(recipe.local()["source"])


@pytest.mark.parametrize(
    "name", ["plan/plan.json", "plan/inputs/train-000000.parquet", "codebook.npy"]
)
def test_what_shards_are_made_from_cannot_be_repaired(copy: Path, name: str) -> None:
    flip(copy / name, 40)
    with pytest.raises(UnitcorpusError, match="run the build with --overwrite"):
        repair(copy, Execution())


def test_a_corpus_from_elsewhere_says_what_to_do(copy: Path) -> None:
    (copy / ".recipe.json").unlink()
    with pytest.raises(UnitcorpusError, match="was built elsewhere"):
        repair(copy, Execution())


def test_the_command_repairs_and_then_verifies(copy: Path) -> None:
    flip(copy / "data/train-000000.tar", 1000)
    command = [sys.executable, "-m", "unitcorpus", "verify", str(copy)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    done = subprocess.run([*command, "--repair"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "built again: train-000000" in done.stdout
    assert "whole" in done.stdout
