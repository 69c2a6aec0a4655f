"""verify --repair: damaged shards come back byte for byte, the others are not touched."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import Digests
from unitcorpus.build.repair import repair
from unitcorpus.build.run import build_corpus
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
    assert repair(copy) == ["train-000000", "validation-000000"]
    assert digests(copy) == digests(small_corpus)
    assert whole.stat().st_mtime_ns == before
    assert verify(copy) == []


def test_a_missing_receipt_or_corpus_json_comes_back(
    copy: Path, small_corpus: Path, digests: Digests
) -> None:
    (copy / "receipts/train-000001.json").unlink()
    (copy / "corpus.json").unlink()
    assert repair(copy) == ["train-000001"]
    assert digests(copy) == digests(small_corpus)


def test_the_source_is_not_needed(tmp_path: Path, digests: Digests) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Number {n} ran."}) + "\n" for n in range(4)))
    recipe = load_recipe("demo/stinystories", [f"source.path={rows}"])
    build_corpus(recipe, tmp_path / "c")
    made = digests(tmp_path / "c")
    rows.unlink()
    flip(tmp_path / "c/data/train-000000.tar", 700)
    repair(tmp_path / "c")
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
        repair(copy)


def test_a_corpus_from_elsewhere_says_what_to_do(copy: Path) -> None:
    (copy / ".recipe.json").unlink()
    with pytest.raises(UnitcorpusError, match="was built elsewhere"):
        repair(copy)


def test_the_command_repairs_and_then_verifies(copy: Path) -> None:
    flip(copy / "data/train-000000.tar", 1000)
    command = [sys.executable, "-m", "unitcorpus", "verify", str(copy)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    done = subprocess.run([*command, "--repair"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "built again: train-000000" in done.stdout
    assert "whole" in done.stdout


def test_a_recording_that_is_not_what_it_was_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """Of the same size, so that only what comes out can tell."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, 16_000), 16_000)
    (tmp_path / "rows.jsonl").write_text('{"id": "x", "right": "a.wav", "wrong": "b.wav"}\n')
    (tmp_path / "r.yaml").write_text(
        f"name: r\nsource: {{kind: manifest, layout: contrasts, path: {tmp_path}/rows.jsonl}}\n"
        "units: {extractor: mfcc}\n"
    )
    root = tmp_path / "c"
    build_corpus(load_recipe(str(tmp_path / "r.yaml")), root)
    flip(root / "data/test-000000.tar", 700)
    (tmp_path / "a.wav").rename(tmp_path / "away.wav")
    with pytest.raises(UnitcorpusError, match="cannot read"):
        repair(root)
    assert (root / "corpus.json").exists()
    assert (root / "receipts/test-000000.json").exists()
    soundfile.write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, 16_000), 16_000)
    with pytest.raises(UnitcorpusError, match="came out with other bytes"):
        repair(root)
    (tmp_path / "a.wav").unlink()
    (tmp_path / "away.wav").rename(tmp_path / "a.wav")
    assert repair(root) == ["test-000000"]
    assert verify(root) == []
