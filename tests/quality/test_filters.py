"""Filters against what they say of themselves, computed another way."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer
from pydantic import TypeAdapter

from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.quality.filters import (
    SIDES,
    Utterances,
    drop,
    drop_by_text,
    needs_seconds,
    scores,
)
from unitcorpus.quality.measures import Sound, entropy
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.filters import Filter, Filters
from unitcorpus.recipe.models import PublishedUnits, Recipe
from unitcorpus.recipe.sources import UnitsSource

UNITS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(lambda u: np.array(u, np.uint16))
PARTS = ("prompt", "chosen", "rejected")


def pair(texts: tuple[str, ...] = ("A b.", "C d.", "E f."), *units: Any) -> Utterances:
    arrays = [np.array(u, np.uint16) for u in units or ([1, 2], [3, 4, 5], [3, 4])]
    return Utterances(
        dict(zip(PARTS, texts, strict=True)),
        dict(zip(PARTS, arrays, strict=True)),
        {"prompt": 1.0, "chosen": 0.5, "rejected": 2.0},
    )


def rule(**keys: Any) -> Filter:
    found: Filter = TypeAdapter(Filter).validate_python(keys)
    return found


def verdict(found: Utterances, **keys: Any) -> Reject | None:
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
    early = drop_by_text({"it": rule(**keys)}, dict(zip(PARTS, texts, strict=True)))
    assert (early is not None) == (repeated_bigrams(tokens) >= 0.3)
    assert (verdict(pair(texts), **keys) is None) == (early is None)
    assert pair(texts).pair_scores["text_slam_chosen"] == repeated_bigrams(tokens)


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
    assert found is None or (found.reason, found.scores) == ("it", pair().pair_scores)


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
    for found in (pair().pair_scores, pair(("", "", ""), [1], [2], [3]).pair_scores):
        assert {type(score) for score in found.values()} == {float}
        assert len(found) == 8
        assert all(score == score for score in json.loads(json.dumps(found)).values())


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


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("demo/stinystories", "{measure: identical}", "filters.x: identical compares the sides"),
        ("demo/stinystories", "{measure: length_ratio, max: 2}", "compares the sides"),
        ("demo/stinystories", "{measure: seconds, side: chosen, max: 2}", "filters.x.side"),
        ("demo/stinystories", "{measure: silence, max: 1.5}", "a share lies in 0..1"),
        ("demo/stinystories", "{measure: entropy}", "a filter needs a bound"),
        ("demo/stinystories", "{measure: word_errors, max: 1}", "'filters.x.model' is missing"),
        ("demo/contrasts", "{measure: seconds, max: 9}", "a test set keeps what it has"),
    ],
)
def test_a_filter_of_what_cannot_be_measured_is_refused(
    name: str, setting: str, words: str
) -> None:
    with pytest.raises(UnitcorpusError) as caught:
        load_recipe(name, [f"filters.x={setting}"])
    assert words in str(caught.value)


def test_published_units_have_no_sound_to_filter_on() -> None:
    with pytest.raises(ValueError, match=r"filters\.x: clipping needs audio"):
        Recipe(
            name="units",
            source=UnitsSource(path="units.jsonl"),
            units=PublishedUnits(name="made up", size=9, frame_rate=25.0),
            filters={"x": rule(measure="clipping", max=0.1)},
        )


def test_transcripts_of_one_recipe_are_of_one_model() -> None:
    asr = "measure: word_errors, max: 1, model"
    with pytest.raises(UnitcorpusError, match="all have to name the same model"):
        load_recipe("demo/stinystories", [f"filters.a={{{asr}: one}}", f"filters.b={{{asr}: two}}"])
    with pytest.raises(UnitcorpusError, match="segments have no text"):
        load_recipe(
            "demo/audio",
            [f"filters.a={{{asr}: one}}", "source.path=x", "source.segments={}"],
        )


def test_a_filter_of_pairs_is_recorded_with_its_side() -> None:
    """So that recipes of pairs keep their fingerprint."""
    for measure, side in (("auto_bleu", "prompt+chosen"), ("units", "chosen")):
        recipe = load_recipe("demo/spokenswag", [f"filters.x={{measure: {measure}, max: 1}}"])
        assert recipe.public()["filters"]["x"]["side"] == side


def test_the_model_of_a_filter_is_recorded_without_its_folder(tmp_path: Path) -> None:
    setting = f"filters.x={{measure: word_errors, max: 1, model: {tmp_path}/whisper}}"
    (tmp_path / "whisper").mkdir()
    assert load_recipe("demo/stinystories", [setting]).public()["filters"]["x"]["model"] == (
        "whisper"
    )


@given(UNITS, st.lists(st.integers(1, 90), min_size=12, max_size=12))
def test_what_a_filter_measures_is_stored_as_a_float_by_its_name(units: Any, runs: Any) -> None:
    row = Utterances(
        {"units": "so it is"},
        {"units": units},
        {"units": 2.0},
        {"units": np.array(runs[: len(units)]) / 25},
        {"units": Sound(1, 4, 3, 30, 2, 3)},
    )
    measures = {
        "seconds": 2.0,
        "units_per_second": len(units) / 2,
        "longest_run": max(runs[: len(units)]) / 25,
        "silence": 0.25,
        "clipping": 0.1,
        "word_errors": 2 / 3,
        "auto_bleu": repeated_bigrams(units.tolist()),
    }
    more: dict[str, Any] = {"auto_bleu": {"of": "units"}, "word_errors": {"model": "m"}}
    for measure, value in measures.items():
        keys = {"measure": measure, **more.get(measure, {})}
        found = scores({"it": rule(**keys, min=0)}, row)
        assert found == {"it": pytest.approx(value, rel=1e-12)}
        assert type(found["it"]) is float
        assert drop({"it": rule(**keys, min=found["it"])}, row) is None
        if value:
            dropped = drop({"it": rule(**keys, below=found["it"])}, row)
            assert dropped is not None
            assert dropped.scores == found


def test_scores_of_pairs_grow_only_by_what_they_do_not_hold() -> None:
    row = Utterances(pair().texts, pair().units, pair().seconds, {}, {"chosen": Sound(1, 2)})
    rules = {
        "a": rule(measure="seconds", side="chosen", max=9),
        "b": rule(measure="entropy", side="chosen", min=0),
        "c": rule(measure="silence", side="chosen", max=1),
    }
    assert scores(rules, row) == {**pair().pair_scores, "b": entropy(row.units["chosen"]), "c": 0.5}
