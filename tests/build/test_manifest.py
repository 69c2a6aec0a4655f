"""Pairs of recordings that a table lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import unitcorpus
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.models import Recipe
from unitcorpus.shards.verify import verify

PARTS = ("prompt", "chosen", "rejected")


def tone(
    path: Path, hertz: float, seconds: float = 0.6, rate: int = 16_000, channels: int = 1
) -> None:
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * hertz * times * (1 + times))
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)


def recipe(path: Path, **source: Any) -> Recipe:
    content = {
        "name": "recorded",
        "source": {"kind": "manifest", "path": str(path), **source},
        "units": {"extractor": "mfcc"},
        "validation": 0,
    }
    (path.parent / "r.yaml").write_text(json.dumps(content))
    return load_recipe(str(path.parent / "r.yaml"))


def listed(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(name: str, **change: Any) -> dict[str, Any]:
    return {"id": name, **{part: f"wavs/{name}_{part}.wav" for part in PARTS}, **change}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(("a", "b")):
        for m, part in enumerate(PARTS):
            tone(tmp_path / f"wavs/{name}_{part}.wav", 200 + 90 * n + 40 * m)
    return tmp_path


def test_recorded_pairs_build_and_verify(folder: Path) -> None:
    path = listed(folder, row("a", prompt_text="Hum.", speaker="s1"), row("b"))
    build_corpus(recipe(path), folder / "c")
    assert verify(folder / "c") == []
    corpus = unitcorpus.open(folder / "c")
    found = {sample.meta["id"]: sample for sample in corpus.samples("train")}
    assert set(found) == {"a", "b"}
    assert (found["a"].meta["prompt_text"], found["a"].meta["voice"]) == ("Hum.", "s1")
    assert found["b"].meta["chosen_num_samples"] == 9600
    assert corpus.info["speech"]["engine"] == "recorded"
    assert str(folder) not in (folder / "c" / "corpus.json").read_text()


def test_what_cannot_be_used_is_listed_with_its_file(folder: Path) -> None:
    tone(folder / "wavs/low.wav", 200, rate=8000)
    tone(folder / "wavs/two.wav", 200, channels=2)
    (folder / "wavs/text.wav").write_text("no sound at all")
    rows = [
        row("a"),
        row("low", prompt="wavs/low.wav", chosen="wavs/a_chosen.wav", rejected="wavs/b_chosen.wav"),
        row("two", **dict.fromkeys(PARTS, "wavs/a_prompt.wav") | {"rejected": "wavs/two.wav"}),
        row("same", **dict.fromkeys(PARTS, "wavs/a_prompt.wav")),
        row("text", **dict.fromkeys(PARTS, "wavs/a_prompt.wav") | {"chosen": "wavs/text.wav"}),
        row("gone"),
        row("out", **dict.fromkeys(PARTS, "../other.wav")),
    ]
    corpus = build_corpus(recipe(listed(folder, *rows)), folder / "c").corpus
    assert corpus is not None
    assert corpus["rejected"] == {
        "low_rate": 1,
        "missing_file": 1,
        "not_mono": 1,
        "outside": 1,
        "same_audio": 1,
        "unreadable_audio": 1,
    }
    lines = (folder / "c/rejects/train-000000.jsonl").read_text()
    for words in ("prompt: wavs/low.wav has 8000 Hz", "rejected: wavs/two.wav", "wavs/text.wav:"):
        assert words in lines
    planned = (folder / "c/plan/rejects.jsonl").read_text()
    assert "line 6" in planned
    assert "wavs/gone_prompt.wav is not there" in planned
    assert verify(folder / "c") == []


def test_a_recording_that_changes_makes_another_plan(folder: Path) -> None:
    path = listed(folder, row("a"))
    build_corpus(recipe(path), folder / "c")
    tone(folder / "wavs/a_prompt.wav", 100, seconds=2)
    with pytest.raises(UnitcorpusError, match=r"source\.files"):
        build_corpus(recipe(path), folder / "c")


def test_a_missing_column_is_named(folder: Path) -> None:
    path = listed(folder, {"prompt": "wavs/a_prompt.wav", "chose": "x", "rejected": "y"})
    with pytest.raises(UnitcorpusError, match=r"line 1, has no column 'chosen' \(did you mean"):
        build_corpus(recipe(path), folder / "c")


def test_right_and_wrong_recordings_are_a_test_set(folder: Path) -> None:
    names = {"right": "wavs/a_chosen.wav", "wrong": "wavs/a_rejected.wav"}
    path = listed(folder, {"id": "x", "group": "pitch", **names})
    build_corpus(recipe(path, layout="contrasts"), folder / "c")
    [sample] = unitcorpus.open(folder / "c").samples("test")
    assert sample.meta["group"] == "pitch"
    assert verify(folder / "c") == []
