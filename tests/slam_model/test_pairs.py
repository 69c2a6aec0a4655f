"""Pairs from shards: whole sequences, the seam as it is, both kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slam_model.pairs import read_pairs
from tiny import Row, random_units, stories, write_corpus
from unitcorpus.errors import UnitcorpusError


def preferences(count: int) -> list[Row]:
    rng = np.random.default_rng(3)
    names = ("prompt", "chosen", "rejected")
    return [
        {name: random_units(rng, int(rng.integers(1, 20))) for name in names} for _ in range(count)
    ]


def test_a_preference_pair_is_its_prompt_with_each_completion(tmp_path: Path) -> None:
    rows = preferences(20)
    metas = [{"scores": {"text_slam_chosen": i / 20}} for i in range(20)]
    corpus = write_corpus(tmp_path / "pairs", {"train": rows}, metas={"train": metas})
    pairs = read_pairs(corpus, "train")
    assert len(pairs) == len(rows)
    for i, row in enumerate(rows):
        prompt = [int(unit) + 2 for unit in row["prompt"]]
        for side, sequences in (("chosen", pairs.chosen), ("rejected", pairs.rejected)):
            assert sequences[i].dtype == np.uint16
            assert sequences[i].tolist() == [1, *prompt, *(int(u) + 2 for u in row[side]), 1]
        assert pairs.prompt_lengths[i] == 1 + len(prompt)
        assert pairs.meta[i]["scores"] == metas[i]["scores"]
    assert pairs.keys[8] == "train-000001-000001"


def test_the_seam_is_not_collapsed(tmp_path: Path) -> None:
    end, start = np.array([3, 7], np.uint16), np.array([7, 9], np.uint16)
    row = {"prompt": end, "chosen": start, "rejected": start}
    pairs = read_pairs(write_corpus(tmp_path / "pairs", {"train": [row]}), "train")
    assert pairs.chosen[0].tolist() == [1, 5, 9, 9, 11, 1]


def test_contrasts_have_no_prompt(tmp_path: Path) -> None:
    right, wrong = np.array([3, 7], np.uint16), np.array([7], np.uint16)
    corpus = write_corpus(tmp_path / "sets", {"test": [{"right": right, "wrong": wrong}]})
    pairs = read_pairs(corpus, "test")
    assert (pairs.chosen[0].tolist(), pairs.rejected[0].tolist()) == ([1, 5, 9, 1], [1, 9, 1])
    assert pairs.prompt_lengths.tolist() == [1]
    assert pairs.vocabulary == 52


def test_the_fingerprint_tells_splits_and_contents_apart(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "one", {"train": preferences(3), "test": preferences(3)})
    two = write_corpus(tmp_path / "two", {"train": preferences(4)})
    prints = {
        read_pairs(c, s).fingerprint for c, s in [(one, "train"), (one, "test"), (two, "train")]
    }
    assert len(prints) == 3


def test_a_corpus_of_utterances_has_no_pairs(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "plain", {"train": stories(3)})
    with pytest.raises(UnitcorpusError, match="holds utterances, not pairs"):
        read_pairs(corpus, "train")


def test_a_damaged_shard_of_pairs_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "pairs", {"train": preferences(3)})
    path = corpus / "data" / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UnitcorpusError, match="train-000000 is damaged"):
        read_pairs(corpus, "train")
