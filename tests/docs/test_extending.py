"""The examples of docs/extending.md, taken from the page and run in a copy of the tree, as a reader
would; and the corpora that come out are looked at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import ROOT, Block, blocks

import unitcorpus
from unitcorpus.shards.verify import verify

PAGE = ROOT / "docs" / "extending.md"


class Reader:
    """Someone with a checkout of the tree, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.here = folder / "tree", folder / "here"
        self.here.mkdir()
        for package in ("unitcorpus", "recipes"):
            shutil.copytree(ROOT / package, self.tree / package, symlinks=True)
        (folder / "bin").mkdir()
        command = folder / "bin" / "unitcorpus"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m unitcorpus "$@"\n')
        command.chmod(0o755)
        python = Path(sys.executable).parent
        path = os.pathsep.join([str(folder / "bin"), str(python), os.environ["PATH"]])
        self.environment = {**os.environ, "PYTHONPATH": str(self.tree), "PATH": path}

    def follow(self, section: str) -> str:
        """Does what a section of the page says; returns what its commands printed."""
        said = ""
        for block in (one for one in blocks(PAGE) if one.section == section):
            if block.language == "sh":
                said += self._run(["sh", "-e"], block.text)
            elif block.language == "diff":
                self._run(["git", "apply", "--unidiff-zero", "-"], block.text, self.tree)
            else:
                self._save(block)
        return said

    def _save(self, block: Block) -> None:
        assert block.name, f"line {block.line}: a block that is no file and no command"
        top = self.tree if block.name.startswith("unitcorpus/") else self.here
        (top / block.name).write_text(block.text)

    def _run(self, command: list[str], words: str, where: Path | None = None) -> str:
        done = subprocess.run(
            command,
            input=words,
            cwd=where or self.here,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_a_speech_engine_of_the_page_speaks(reader: Reader) -> None:
    said = reader.follow("A speech engine")
    assert "whole (1 shards, 4 samples)" in said
    corpus = unitcorpus.open(reader.here / "corpora" / "hummed")
    for sample in corpus:
        letters = sum(letter.isalpha() for letter in sample.meta["text"].lower())
        assert sample.meta["num_samples"] == pytest.approx(1600 * letters, abs=2)
    assert corpus.info["speech"]["version"] == "hum 1"


def test_a_source_of_the_page_gives_its_rows_and_lists_the_bad_one(reader: Reader) -> None:
    exported = [json.loads(line) for line in reader.follow("A source").splitlines()[-2:]]
    assert {row["text"] for row in exported} == {
        "Where were you all day?",
        "Down at the river, with the others.",
    }
    rejects = (reader.here / "corpora" / "film" / "plan" / "rejects.jsonl").read_text()
    [bad] = map(json.loads, rejects.splitlines())
    assert (bad["where"], bad["reason"]) == ("line 10", "no_times")


def test_an_extractor_of_the_page_makes_units(reader: Reader) -> None:
    reader.follow("A unit extractor")
    root = reader.here / "corpora" / "mel"
    assert verify(root) == []
    corpus = unitcorpus.open(root)
    assert corpus.unit_spec["extractor"]["kind"] == "mel"
    used = np.unique(np.concatenate([sample.units for sample in corpus]))
    assert used.max() < corpus.unit_spec["size"] == 50
    assert len(used) > 30


def test_an_engine_takes_about_thirty_lines() -> None:
    [engine] = [one for one in blocks(PAGE) if one.name == "unitcorpus/speech/command.py"]
    lines = [line for line in engine.text.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(("from ", "import ", '"""'))]
    assert len(code) <= 30
