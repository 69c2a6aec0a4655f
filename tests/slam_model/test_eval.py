"""Evaluation: scores that no batch changes, exact ties, intervals, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedModel

from slam_model.eval import main
from slam_model.model import load_model
from slam_model.pairs import Pairs, read_pairs
from slam_model.scoring import bootstrap, mean_nll, outcomes, perplexity
from slam_model.tokens import open_tokens
from tiny import FAMILIES, Row, random_units, stories, write_corpus
from unitcorpus.errors import UnitcorpusError

VOCAB = 52


def contrasts(count: int, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    sides = ("right", "wrong")
    return [
        {side: random_units(rng, int(rng.integers(1, 60))) for side in sides} for _ in range(count)
    ]


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose preferences are strong enough to differ between sequences."""
    folder: Path = tmp_path_factory.mktemp("checkpoint") / request.param
    model = load_model(FAMILIES[request.param], vocab=VOCAB, context=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> Pairs:
    rows = contrasts(40)
    metas = [{"group": "ab"[i % 2]} for i in range(40)]
    corpus = write_corpus(tmp_path / "sets", {"test": rows}, metas={"test": metas})
    return read_pairs(corpus, "test")


def load(checkpoint: Path) -> PreTrainedModel:
    return load_model(str(checkpoint), vocab=VOCAB, context=64)


def plain_scores(checkpoint: Path, sequences: list[Any]) -> list[float]:
    """The definition, through plain transformers: its loss is the mean over predicted tokens."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    batches = (torch.tensor(one.astype(np.int64))[None] for one in sequences)
    with torch.no_grad():
        return [float(model(one, labels=one).loss) for one in batches]


def test_scores_are_the_mean_loss_of_each_sequence(checkpoint: Path, sets: Pairs) -> None:
    scores = mean_nll(load(checkpoint), sets.chosen, micro_tokens=500)
    np.testing.assert_allclose(scores, plain_scores(checkpoint, sets.chosen), rtol=2e-6)


def test_what_shares_a_batch_changes_no_score(checkpoint: Path, sets: Pairs) -> None:
    model = load(checkpoint)
    alone = mean_nll(model, sets.chosen, micro_tokens=1)
    for micro_tokens in (70, 300, 100_000):
        assert np.abs(mean_nll(model, sets.chosen, micro_tokens) - alone).max() < 1e-6


def test_accuracy_is_of_the_plain_losses(checkpoint: Path, sets: Pairs) -> None:
    right, wrong = (plain_scores(checkpoint, side) for side in (sets.chosen, sets.rejected))
    expected = [float(a < b) for a, b in zip(right, wrong, strict=True)]
    found = outcomes(load(checkpoint), sets, micro_tokens=400)
    assert found.tolist() == expected
    assert 0 < found.mean() < 1


def test_equal_sequences_tie_whatever_their_batches_round_to(tmp_path: Path) -> None:
    """Short sequences that share a pack on the one side and are alone on the other, so that the
    matrix products of this wider model round differently."""
    wide = {"hidden_size": 256, "intermediate_size": 512}
    model = load_model({**FAMILIES["llama"], **wide}, vocab=VOCAB, context=64)
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for _ in range(30):
        short = random_units(rng, 2)
        rows.append({"right": short, "wrong": short})
        rows.append({"right": random_units(rng, 50), "wrong": random_units(rng, 61)})
    pairs = read_pairs(write_corpus(tmp_path / "ties", {"test": rows}), "test")
    scores = [mean_nll(model, side, 64)[::2] for side in (pairs.chosen, pairs.rejected)]
    assert (scores[0] != scores[1]).any()
    assert outcomes(model, pairs, 64)[::2].tolist() == [0.5] * 30


def test_perplexity_is_over_all_tokens(checkpoint: Path, tmp_path: Path) -> None:
    tokens = open_tokens(write_corpus(tmp_path / "c", {"train": stories(20, longest=60)}))
    bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    documents = [tokens.tokens[a:b] for a, b in bounds]
    losses = plain_scores(checkpoint, documents)
    total = sum(loss * (len(one) - 1) for loss, one in zip(losses, documents, strict=True))
    value, count = perplexity(load(checkpoint), tokens, context=64, micro_tokens=200)
    assert count == sum(len(one) - 1 for one in documents)
    assert value == pytest.approx(np.exp(total / count), rel=1e-6)


def test_a_diverged_model_is_told(sets: Pairs, tmp_path: Path) -> None:
    model = load_model(FAMILIES["llama"], vocab=VOCAB, context=64)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(UnitcorpusError, match="diverged"):
        outcomes(model, sets, 500)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=50))
def test_the_interval_holds_the_mean_and_stays_in_range(values: list[float]) -> None:
    low, high = bootstrap(np.array(values))
    assert 0 <= low <= np.mean(values) <= high <= 1


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 300, p=[0.3, 0.1, 0.6])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert bootstrap(values) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert bootstrap(values) == bootstrap(values)


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three checkpoints that differ in their seed."""
    folders = [tmp_path_factory.mktemp("seeds") / f"seed{seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        model = load_model(FAMILIES["qwen2"], vocab=VOCAB, context=64, seed=seed)
        model.save_pretrained(folder)
    return folders


def test_the_json_has_each_checkpoint_their_mean_and_range(
    seeds: list[Path], sets: Pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "text", {"train": stories(9), "validation": stories(5, seed=2)})
    out, names = tmp_path / "out.json", [str(seed) for seed in seeds]
    data = [str(tmp_path / "sets"), str(tmp_path / "text")]
    assert main([*names, "--data", *data, "--json", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert [(r["data"], r["split"], r["metric"], r["group"], r["count"]) for r in results] == [
        ("sets", "test", "accuracy", "", 40),
        ("sets", "test", "accuracy", "a", 20),
        ("sets", "test", "accuracy", "b", 20),
        ("text", "validation", "perplexity", "", results[3]["count"]),
    ]
    for result in results:
        values = [each["value"] for each in result["checkpoints"]]
        assert [each["name"] for each in result["checkpoints"]] == names
        assert result["mean"] == pytest.approx(np.mean(values))
        assert (result["min"], result["max"]) == (min(values), max(values))
    for seed, each in zip(seeds, results[0]["checkpoints"], strict=True):
        won = outcomes(load(seed), sets, 8192)
        assert each["value"] == won.mean()
        assert (each["low"], each["high"]) == bootstrap(won)
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "mean, lowest, highest" in printed


def test_a_set_of_one_group_has_one_figure(
    seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = contrasts(5)
    metas = {"test": [{"group": "only"}] * 5}
    corpus = write_corpus(tmp_path / "one", {"test": rows}, metas=metas)
    main([str(seeds[0]), "--data", str(corpus), "--json", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [result["group"] for result in results] == [""]


def refused(match: str, *words: str | Path) -> None:
    with pytest.raises(UnitcorpusError, match=match) as caught:
        main([str(word) for word in words])
    assert "\n" not in str(caught.value)


def test_a_text_model_is_refused(tmp_path: Path, sets: Pairs) -> None:
    config = {**FAMILIES["llama"], "vocab_size": 80}
    from slam_model.base import find_base

    model = AutoModelForCausalLM.from_config(find_base(config, None, True).config)
    model.save_pretrained(tmp_path / "text")
    refused("no checkpoint of unit tokens", tmp_path / "text", "--data", tmp_path / "sets")


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path: Path, sets: Pairs) -> None:
    load_model(FAMILIES["llama"], vocab=102, context=64).save_pretrained(tmp_path / "other")
    refused(
        "vocabulary of 102 tokens, the corpus one of 52",
        tmp_path / "other",
        "--data",
        tmp_path / "sets",
    )


def test_a_checkpoint_of_other_units_is_refused(tmp_path: Path, sets: Pairs) -> None:
    other = {**sets.unit_spec, "fingerprint": "0" * 64}
    model = load_model(FAMILIES["llama"], vocab=VOCAB, context=64, unit_spec=other)
    model.save_pretrained(tmp_path / "other")
    refused("was trained on other units", tmp_path / "other", "--data", tmp_path / "sets")


def test_sets_of_different_units_are_refused(
    seeds: list[Path], tmp_path: Path, sets: Pairs
) -> None:
    other = write_corpus(tmp_path / "wide", {"test": contrasts(3)}, size=100)
    refused("are not those of wide", seeds[0], "--data", tmp_path / "sets", other)


def test_a_sequence_longer_than_the_model_is_refused(seeds: list[Path], tmp_path: Path) -> None:
    long: Row = {
        "right": random_units(np.random.default_rng(0), 300),
        "wrong": stories(1)[0]["units"],
    }
    corpus = write_corpus(tmp_path / "long", {"test": [long]})
    refused("a sequence of 302 tokens, and the model 256 positions", seeds[0], "--data", corpus)


def test_options_out_of_range_are_refused(tmp_path: Path, sets: Pairs) -> None:
    refused("--context is at least 2", "x", "--data", tmp_path / "sets", "--context", "1")
    if not torch.cuda.is_available():
        refused("no GPU", "x", "--data", tmp_path / "sets", "--device", "cuda")


def test_two_sets_of_one_name_are_kept_apart(
    seeds: list[Path], sets: Pairs, tmp_path: Path
) -> None:
    again = write_corpus(tmp_path / "again", {"test": contrasts(7, seed=5)}, name="sets")
    out = tmp_path / "out.json"
    data = [tmp_path / "sets", again]
    main([*map(str, seeds), "--data", *map(str, data), "--json", str(out)])
    results = json.loads(out.read_text())["results"]
    assert [result["count"] for result in results if result["group"] == ""] == [40, 7]


def test_documents_longer_than_the_model_are_cut(seeds: list[Path], tmp_path: Path) -> None:
    units = random_units(np.random.default_rng(0), 600)
    corpus = write_corpus(tmp_path / "long", {"train": [{"units": units}]})
    main([str(seeds[0]), "--data", str(corpus), "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text())["results"][0]["count"] == 601


def test_a_step_of_a_run_is_evaluated(seeds: list[Path], sets: Pairs, tmp_path: Path) -> None:
    step = tmp_path / "step-00000010"
    load(seeds[0]).save_pretrained(step / "model")
    assert main([str(step), "--data", str(tmp_path / "sets")]) == 0


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "slam_model.eval", "nowhere/x", "--data", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "not a finished corpus" in done.stderr
