"""Filters against what they say of themselves, computed another way."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer
from pydantic import TypeAdapter

from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.pairs.filters import SIDES, Pair, drop, drop_by_text, needs_seconds
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.filters import Filter, Filters

UNITS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(lambda u: np.array(u, np.uint16))
PARTS = ("prompt", "chosen", "rejected")


def pair(texts: tuple[str, ...] = ("A b.", "C d.", "E f."), *units: Any) -> Pair:
    arrays = [np.array(u, np.uint16) for u in units or ([1, 2], [3, 4, 5], [3, 4])]
    return Pair(
        dict(zip(PARTS, texts, strict=True)),
        dict(zip(PARTS, arrays, strict=True)),
        {"prompt": 1.0, "chosen": 0.5, "rejected": 2.0},
    )


def rule(**keys: Any) -> Filter:
    found: Filter = TypeAdapter(Filter).validate_python(keys)
    return found


def verdict(found: Pair, **keys: Any) -> Reject | None:
    return drop({"it": rule(**keys)}, found)


def repeated_bigrams(tokens: list[Any]) -> float:
    """The paper's auto-BLEU-2, by counting pairs of positions."""
    grams = list(pairwise(tokens))
    return sum(grams.count(g) > 1 for g in grams) / len(grams) if grams else 0.0


@given(st.sampled_from(sorted(SIDES)), UNITS, UNITS, UNITS, st.floats(0.01, 1))
def test_auto_bleu_of_units_looks_at_the_side_it_names(
    side: str, a: Any, b: Any, c: Any, bound: float
) -> None:
    found = pair(("x", "y", "z"), a, b, c)
    sequence = [u for part in SIDES[side] for u in found.units[part].tolist()]
    dropped = verdict(found, measure="auto_bleu", side=side, of="units", below=bound) is not None
    assert dropped == (repeated_bigrams(sequence) >= bound)


@given(st.lists(st.sampled_from(["the cat", "ran.", "Don't", "sat down"]), max_size=6))
def test_auto_bleu_of_texts_is_of_the_words_of_both_joined_by_a_blank(words: list[str]) -> None:
    texts = ("the cat ran.", " ".join(words) or "so", "else")
    tokens = NLTKWordTokenizer().tokenize(f"{texts[0]} {texts[1]}")
    keys = {"measure": "auto_bleu", "side": "prompt+chosen", "of": "text", "below": 0.3}
    early = drop_by_text({"it": rule(**keys)}, texts)
    assert (early is not None) == (repeated_bigrams(tokens) >= 0.3)
    assert (verdict(pair(texts), **keys) is None) == (early is None)
    assert pair(texts).scores["text_slam_chosen"] == repeated_bigrams(tokens)


@pytest.mark.parametrize(
    ("keys", "dropped"),
    [
        ({"measure": "seconds", "side": "chosen", "min": 0.5}, False),
        ({"measure": "seconds", "side": "chosen", "min": 0.51}, True),
        ({"measure": "seconds", "side": "prompt+rejected", "max": 3}, False),
        ({"measure": "seconds", "side": "prompt+rejected", "below": 3}, True),
        ({"measure": "units", "side": "chosen", "max": 2}, True),
        ({"measure": "units", "side": "prompt+chosen", "min": 5, "max": 5}, False),
        ({"measure": "units_per_second", "side": "chosen", "max": 6}, False),
        ({"measure": "units_per_second", "side": "chosen", "max": 5.9}, True),
        ({"measure": "length_ratio", "of": "units", "max": 1.5}, False),
        ({"measure": "length_ratio", "of": "seconds", "min": 0.26}, True),
        ({"measure": "identical"}, False),
    ],
)
def test_a_bound_is_kept_itself_and_below_is_not(keys: dict[str, Any], dropped: bool) -> None:
    found = verdict(pair(), **keys)
    assert (found is not None) == dropped
    assert found is None or (found.reason, found.scores) == ("it", pair().scores)


def test_identical_continuations_are_dropped_whatever_their_texts() -> None:
    assert verdict(pair(("a", "b", "c"), [1], [2, 3], [2, 3]), measure="identical") is not None


def test_the_first_filter_by_name_gives_the_reason() -> None:
    first = rule(measure="units", side="chosen", max=1)
    rules: Filters = {"b": first, "a": rule(measure="seconds", side="chosen", max=0.1), "c": None}
    for filters in (rules, dict(reversed(rules.items()))):
        found = drop(filters, pair())
        assert found is not None
        assert found.reason == "a"


def test_scores_are_floats_for_every_pair() -> None:
    """`datasets` reads an integer 0 in the first sample as the type of all."""
    for scores in (pair().scores, pair(("", "", ""), [1], [2], [3]).scores):
        assert {type(score) for score in scores.values()} == {float}
        assert len(scores) == 8
        assert all(score == score for score in json.loads(json.dumps(scores)).values())


def test_a_filter_that_needs_seconds_is_named() -> None:
    assert needs_seconds({"a": rule(measure="units", side="chosen", max=9)}) is None
    assert needs_seconds({"b": rule(measure="length_ratio", of="seconds", max=9)}) == "b"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("filters.x={measure: seconds}", "'filters.x': a filter needs a bound"),
        (
            "filters.auto_bleu.blow=1",
            "'filters.auto_bleu.blow' (did you mean 'below'?)",
        ),
        ("filters.x={measure: second, max: 1}", "did you mean 'seconds'"),
        ("filters.auto_bleu.order=0", "'filters.auto_bleu.order'"),
        ("filters.X={measure: identical}", "filters.X"),
    ],
)
def test_a_wrong_filter_is_told_where(setting: str, words: str) -> None:
    with pytest.raises(UnitcorpusError) as caught:
        load_recipe("demo/spokenswag", [setting])
    assert words in str(caught.value)


def test_filters_of_a_corpus_of_utterances_are_refused() -> None:
    with pytest.raises(UnitcorpusError, match="`filters` are for pairs"):
        load_recipe("demo/stinystories", ["filters.x={measure: identical}"])
