"""Filters of corpora of utterances: what they drop is listed, what they keep is as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import unitcorpus
from conftest import Digests
from readers import make_whisper
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.check import check_sample
from unitcorpus.shards.format import read_sealed
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.verify import verify

RATE = 16_000
LOW = (
    "filters.seconds={measure: seconds, min: 0.5, max: 20}",
    "filters.quiet={measure: silence, max: 0.6}",
    "filters.loud={measure: clipping, max: 0.01}",
    "filters.variety={measure: entropy, min: 1.5}",
    "filters.stuck={measure: longest_run, max: 1}",
    "filters.loops={measure: auto_bleu, of: units, max: 0.9}",
)


def speech_like(seconds: float, seed: int) -> np.ndarray[Any, Any]:
    """A tone whose pitch changes ten times a second."""
    rng = np.random.default_rng(seed)
    pitch = np.repeat(rng.uniform(100, 3000, round(10 * seconds)), RATE // 10)
    return 0.5 * np.sin(np.cumsum(2 * np.pi * pitch / RATE))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good recordings, and one for each filter of LOW but `loops`."""
    root: Path = tmp_path_factory.mktemp("audio")
    waves = {f"good{n}": speech_like(3, n) for n in range(6)}
    waves["seconds"] = speech_like(0.4, 7)
    waves["quiet"] = np.concatenate([speech_like(1, 8), 1e-4 * speech_like(4, 9)])
    waves["loud"] = np.clip(3 * speech_like(3, 10), -1, 1)
    waves["stuck"] = np.concatenate([speech_like(2, 11), 0.5 * np.sin(np.arange(2 * RATE) / 9)])
    for name, wave in waves.items():
        soundfile.write(root / f"{name}.wav", wave, RATE)
    return root


def build(root: Path, *overrides: str, recipe: str = "demo/audio") -> dict[str, Any]:
    outcome = build_corpus(load_recipe(recipe, overrides), root)
    assert outcome.corpus is not None
    return outcome.corpus


@pytest.fixture(scope="module")
def gated(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("corpora") / "gated"
    build(root, f"source.path={recordings}", "shards.samples=4", "validation=0", *LOW)
    return root


def lines(root: Path) -> list[dict[str, Any]]:
    files = [root / "plan" / "rejects.jsonl", *sorted((root / "rejects").glob("*"))]
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_each_filter_drops_what_it_is_for_and_says_so(gated: Path) -> None:
    due = {"seconds", "quiet", "loud", "stuck"}
    found = {line["id"]: line for line in lines(gated)}
    assert {name: line["reason"] for name, line in found.items()} == {name: name for name in due}
    assert unitcorpus.open(gated).info["rejected"] == dict.fromkeys(sorted(due), 1)
    bounds = read_sealed(gated / "corpus.json")["recipe"]["filters"]
    for name, line in found.items():
        value, rule = line["scores"][name], bounds[name]
        assert value > rule["max"] or value < (rule["min"] or 0)
        assert f"{value:.4g}" in line["detail"]
    assert verify(gated) == []


def test_what_is_kept_has_every_score_as_a_float(gated: Path) -> None:
    samples = list(unitcorpus.open(gated))
    assert len(samples) == 6
    names = {setting.split("=")[0].removeprefix("filters.") for setting in LOW}
    for sample in samples:
        assert set(sample.meta["scores"]) == names
        assert {type(value) for value in sample.meta["scores"].values()} == {float}
        assert sample.durations is not None
        assert sample.meta["scores"]["stuck"] == sample.durations.max() / 50
        assert sample.meta["scores"]["seconds"] == sample.meta["seconds"]


def test_a_filter_changes_nothing_of_what_it_keeps(
    gated: Path, recordings: Path, tmp_path: Path
) -> None:
    build(tmp_path / "all", f"source.path={recordings}", "validation=0")
    every = {sample.meta["id"]: sample for sample in unitcorpus.open(tmp_path / "all")}
    assert all("scores" not in sample.meta for sample in every.values())
    for sample in unitcorpus.open(gated):
        plain = every[sample.meta["id"]]
        assert bytes(sample.members["units.npy"]) == bytes(plain.members["units.npy"])
        assert bytes(sample.members["durations.npy"]) == bytes(plain.members["durations.npy"])
        assert {k: v for k, v in sample.meta.items() if k != "scores"} == plain.meta


def test_other_bounds_are_another_plan(gated: Path, recordings: Path, tmp_path: Path) -> None:
    shutil.copytree(gated, tmp_path / "copy")
    settings = [s.replace("max: 0.01", "max: 0.02") for s in LOW]
    with pytest.raises(UnitcorpusError, match=r"recipe\.filters\.loud\.max: 0\.01 -> 0\.02"):
        build(
            tmp_path / "copy",
            f"source.path={recordings}",
            "shards.samples=4",
            "validation=0",
            *settings,
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loud": 0.5}, "its score loud is 0.5, which its filter drops"),
        ({"loud": 0}, "its score loud is 0, no fraction"),
        ({"loud": float("nan")}, "no fraction"),
        ({"more": 0.5}, "its scores are not"),
    ],
)
def test_verify_knows_the_scores_of_a_sample(
    gated: Path, change: dict[str, Any], words: str
) -> None:
    corpus = unitcorpus.open(gated)
    sample = next(iter(corpus))
    sample.meta["scores"].update(change)
    filters = corpus.info["recipe"]["filters"]
    problem, _ = check_sample(sample, corpus.unit_spec, UTTERANCES, None, filters)
    assert problem is not None
    assert words in problem


def test_texts_are_judged_when_the_plan_is_made(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    texts = ["The cat sat. " * 9, "A bird could not fly, and her mother showed her how."]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rule = "filters.loops={measure: auto_bleu, of: text, below: 0.5}"
    corpus = build(
        tmp_path / "c", f"source.path={path}", "validation=0", rule, recipe="demo/stinystories"
    )
    [line] = lines(tmp_path / "c")
    assert line["reason"] == "loops"
    assert line["scores"]["loops"] >= 0.5
    assert corpus["splits"]["train"]["samples"] == 1
    assert read_sealed(tmp_path / "c" / "plan" / "plan.json")["rejected"] == {"loops": 1}


def test_word_errors_are_measured_with_the_named_model(tmp_path: Path, digests: Digests) -> None:
    """A Whisper of random weights hears nothing of what is said: all is wrong, and all alike
    whatever shares a shard."""
    whisper = make_whisper(tmp_path / "whisper")
    rule = f"filters.wrong={{measure: word_errors, min: 0.5, model: {whisper}}}"
    for name, size in (("a", 2), ("b", 5)):
        build(
            tmp_path / name,
            "source.count=5",
            f"shards.samples={size}",
            "validation=0",
            rule,
            recipe="demo/stinystories",
        )
    found = [
        {sample.meta["id"]: sample.meta["scores"] for sample in unitcorpus.open(tmp_path / name)}
        for name in ("a", "b")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 5
    info = unitcorpus.open(tmp_path / "a").info
    assert info["asr"]["model"] == "whisper"
    assert info["recipe"]["filters"]["wrong"]["model"] == "whisper"
    assert verify(tmp_path / "a") == []
    make_whisper(whisper, seed=3)
    again = ("source.count=5", "shards.samples=2", "validation=0", rule)
    with pytest.raises(UnitcorpusError, match=r"asr\.revision"):
        build(tmp_path / "a", *again, recipe="demo/stinystories")


def test_a_failed_transcript_drops_its_row_with_what_was_heard(tmp_path: Path) -> None:
    whisper = make_whisper(tmp_path / "whisper")
    rule = f"filters.wrong={{measure: word_errors, max: 0.5, model: {whisper}}}"
    build(tmp_path / "c", "source.count=4", rule, recipe="demo/stinystories")
    assert {line["reason"] for line in lines(tmp_path / "c")} == {"wrong"}
    assert all("heard: '" in line["detail"] for line in lines(tmp_path / "c"))


def test_pairs_are_filtered_on_how_a_side_sounds(tmp_path: Path) -> None:
    rules = (
        "filters.variety={measure: entropy, side: rejected, min: 0}",
        "filters.quiet={measure: silence, side: prompt+chosen, max: 0.3}",
    )
    build(tmp_path / "p", "source.count=8", *rules, recipe="demo/spokenswag")
    samples = list(unitcorpus.open(tmp_path / "p"))
    assert all(sample.meta["scores"]["quiet"] <= 0.3 for sample in samples)
    assert all(len(sample.meta["scores"]) == 10 for sample in samples)
    assert verify(tmp_path / "p") == []
