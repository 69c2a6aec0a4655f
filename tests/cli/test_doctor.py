"""`unitcorpus doctor` tells what a build would use, and measures what batching changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from checkpoints import make_hub_cache, make_kokoro
from checkpoints_hubert import make_hubert
from unitcorpus.build import doctor
from unitcorpus.build.codebook import Fit, fit_codebook
from unitcorpus.build.machine import hub
from unitcorpus.recipe import load_recipe


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unitcorpus", "doctor", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_an_offline_recipe_lacks_nothing_and_every_unit_agrees() -> None:
    done = run("demo/stinystories", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["agreement"]["identical"] == 1.0
    assert told["agreement"]["frames"] > 1000
    assert told["agreement"]["batched"] > 1
    found = {finding["what"]: finding["found"] for finding in told["findings"]}
    assert f"torch {version('torch')}" in found["libraries"]
    assert "HF_HUB_OFFLINE" in found["Hub"]
    assert "100 clusters" in found["units"]


def test_weights_that_are_not_there_are_one_line_each_that_says_how_to_get_them(
    tmp_path: Path,
) -> None:
    done = run("stinystories", COLUMNS="500", HF_HOME=str(tmp_path))
    assert done.returncode == 1
    missing = [line for line in done.stdout.splitlines() if "MISSING" in line]
    assert len(missing) == 2
    assert "`hf download hexgrad/Kokoro-82M`" in missing[0]
    assert "slprl/mhubert-base-25hz" in missing[1]
    assert done.stderr == "unitcorpus: 2 things that a build needs are missing here\n"


def test_lines_are_in_two_columns_and_within_the_terminal() -> None:
    done = run("--device", "cpu", COLUMNS="70")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all(len(line) <= 70 and line[10] == " " and line[11] != " " for line in lines)


def test_the_last_line_says_that_a_build_finds_what_it_needs() -> None:
    done = run("demo/stinystories", "--device", "cpu")
    assert done.returncode == 0
    last = done.stdout.splitlines()[-1]
    assert last == "ready      a build of demo/stinystories finds here what it needs"


def test_weights_in_the_cache_are_told_with_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    make_hub_cache(tmp_path, "hexgrad/Kokoro-82M", make_kokoro(tmp_path / "kokoro"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    recipe = load_recipe("stinystories", ["units={extractor: mfcc}"])
    told = next(found for found in doctor.examine(recipe, "cpu") if found.what == "weights")
    assert re.fullmatch(r"hexgrad/Kokoro-82M is in the cache \(\d+ MB\)", told.text)


def test_a_wrong_name_is_one_line() -> None:
    done = run("stinystorys")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'stinystories'" in done.stderr


def test_a_hub_that_cannot_be_reached_is_said_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in hub()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that put kokoro and HuBERT of random weights in the real recipe."""
    root = tmp_path_factory.mktemp("models")
    kokoro, hubert = make_kokoro(root / "kokoro"), make_hubert(root / "hubert", layers=2)
    settings = [
        "source={kind: stories, count: 4}",
        f"speech.model={kokoro}",
        "speech.g2p=espeak",
        "speech.speed=4",
        f"units.model={hubert}",
        "units.layer=2",
        f"units.codebook={root / 'book.npy'}",
        "units.codebook_sha256=null",
    ]
    fit_codebook(
        load_recipe("stinystories", settings), Fit(50, frames=1000), "cpu", root / "book.npy"
    )
    return settings


def findings(settings: list[str]) -> list[Any]:
    return list(doctor.examine(load_recipe("stinystories", settings), "cpu"))


def test_kokoro_and_hubert_agree_in_batches(spoken: list[str]) -> None:
    found = findings(spoken)
    assert not any(finding.missing for finding in found)
    [agreement] = [f.agreement for f in found if f.agreement is not None]
    assert agreement.identical >= 0.999
    assert agreement.audio_error < 1e-4


def test_options_that_change_units_are_told(spoken: list[str]) -> None:
    found = findings([*spoken, "units.precision=bfloat16"])
    [units] = [finding for finding in found if finding.what == "  same"]
    assert units.missing
    assert "below compute.agreement 99.90%" in units.text
    [batches] = [finding for finding in found if finding.what == "batches"]
    assert "units.precision bfloat16" in batches.text


def test_weights_of_another_shape_are_a_finding(spoken: list[str], tmp_path: Path) -> None:
    hubert = make_hubert(tmp_path / "other", layers=2, hidden=64)
    found = findings([*spoken, f"units.model={hubert}"])
    assert [f.what for f in found if f.missing] == ["units"]
