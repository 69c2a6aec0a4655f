"""Auto-BLEU against its definitions, written out the slow way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import nltk
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer

from unitcorpus.pairs.auto_bleu import (
    MEANS,
    SHORT,
    VARIANTS,
    Mean,
    Variant,
    auto_bleu,
    auto_bleu_batch,
    auto_bleu_text,
)
from unitcorpus.pairs.ngrams import CHUNK, repeated_in_each, repeated_in_long, repeated_in_short

# Few different tokens, so that n-grams and runs come again; short and long enough for both ways.
TOKENS = st.tuples(st.integers(1, 4), st.integers(0, SHORT + 30)).flatmap(
    lambda drawn: st.lists(st.integers(0, drawn[0]), min_size=drawn[1], max_size=drawn[1])
)
ORDERS = st.integers(1, 4)
DEFINITIONS = st.tuples(ORDERS, st.sampled_from(VARIANTS), st.sampled_from(MEANS))
EXTREMES = [0, 1, -1, 65535, 65536, 2**32, 2**62, -(2**63), 2**63 - 1]


# --- the definitions --------------------------------------------------------------------------


def holds(tokens: Sequence[Any], gram: Sequence[Any]) -> bool:
    """Whether the n-gram lies wholly inside the tokens."""
    return any(tokens[q : q + len(gram)] == gram for q in range(len(tokens) - len(gram) + 1))


def slam_share(tokens: list[Any], order: int) -> float:
    positions = range(len(tokens) - order + 1)
    repeated = [
        any(tokens[p : p + order] == tokens[q : q + order] for q in positions if q != p)
        for p in positions
    ]
    return sum(repeated) / len(repeated) if repeated else 0.0


def gslm_share(tokens: list[Any], order: int) -> float:
    repeated = [
        holds(tokens[:p], tokens[p : p + order])
        or holds(tokens[p + order :], tokens[p : p + order])
        for p in range(len(tokens) - order + 1)
    ]
    return sum(repeated) / len(repeated) if repeated else 0.0


def literal(tokens: list[Any], order: int, variant: Variant, mean: Mean) -> float:
    if variant == "slam":
        return slam_share(tokens, order)
    shares = [gslm_share(tokens, o) for o in range(1, order + 1)]
    weight = 1 / order
    score = 1.0 if mean == "geometric" else 0.0
    for share in shares:
        score = score * share**weight if mean == "geometric" else score + share * weight
    return score


# --- one sequence -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(TOKENS, DEFINITIONS)
def test_the_score_is_the_definitions_to_the_last_bit(
    tokens: list[int], definition: tuple[int, Variant, Mean]
) -> None:
    expected = literal(tokens, *definition)
    assert auto_bleu(tokens, *definition) == expected
    assert auto_bleu(np.array(tokens, np.uint16), *definition) == expected
    assert 0 <= expected <= 1


@settings(deadline=None, max_examples=150)
@given(TOKENS, DEFINITIONS, st.randoms(use_true_random=False))
def test_only_the_equality_of_tokens_matters(
    tokens: list[int], definition: tuple[int, Variant, Mean], random: Any
) -> None:
    names = [f"word {i}" for i in range(8)]
    random.shuffle(names)
    numbers = random.sample([*EXTREMES, 2**63, 2**64, 7**40], 8)
    expected = auto_bleu(tokens, *definition)
    assert auto_bleu([names[token] for token in tokens], *definition) == expected
    assert auto_bleu(np.array([names[token] for token in tokens], str), *definition) == expected
    assert auto_bleu([numbers[token] for token in tokens], *definition) == expected


@settings(deadline=None, max_examples=150)
@given(TOKENS, DEFINITIONS)
def test_a_sequence_read_backwards_has_the_same_score(
    tokens: list[int], definition: tuple[int, Variant, Mean]
) -> None:
    assert auto_bleu(tokens[::-1], *definition) == auto_bleu(tokens, *definition)


def test_overlapping_bigrams_count_under_slam_alone() -> None:
    assert auto_bleu([1, 1, 1], 2, "slam") == 1.0
    assert auto_bleu([1, 1, 1], 2, "gslm", "geometric") == 0.0
    assert auto_bleu([1, 1, 1], 2, "gslm", "arithmetic") == 0.5  # its single tokens are repeated
    assert auto_bleu([1, 1, 1, 1], 2, "gslm", "arithmetic") == (1 + 2 / 3) / 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mean", MEANS)
def test_what_is_shorter_than_an_ngram_scores_zero(variant: Variant, mean: Mean) -> None:
    assert auto_bleu([], 2, variant, mean) == 0.0
    assert auto_bleu([5], 1, variant, mean) == 0.0
    assert auto_bleu([5], 4, variant, mean) == 0.0
    assert auto_bleu(np.array([], np.int64), 1, variant, mean) == 0.0
    assert auto_bleu_text("", 2, variant, mean) == 0.0
    expected = 2 / 3 if (variant, mean) == ("gslm", "arithmetic") else 0.0
    assert auto_bleu([5, 5], 3, variant, mean) == (expected and 1 * (1 / 3))
    long = np.ones(SHORT + 1, np.uint8)
    assert auto_bleu(long, SHORT + 2, "slam", mean) == 0.0


# --- n-grams are compared exactly -------------------------------------------------------------


# Any integers; negative ones without large ones; and powers of two, where a product that wraps
# loses its upper digits.
POWERS = [0, 1, 2, (1 << 12) + 1, 1 << 15, (1 << 16) - 1]


@pytest.mark.parametrize("values", [EXTREMES, [-2, -1, 0], POWERS])
@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 9), st.booleans())
def test_sorting_counts_what_dictionaries_count(
    values: list[int], data: Any, order: int, apart: bool
) -> None:
    size = data.draw(st.integers(1, 40))
    tokens = data.draw(st.lists(st.sampled_from(values), min_size=size, max_size=size)) * 2
    offsets = [0, *sorted(data.draw(st.lists(st.integers(0, size)))), size * 2]
    each = [repeated_in_short(tokens[a:b], order, apart) for a, b in pairwise(offsets)]
    for array in (np.array(tokens, np.int64), np.array(tokens, np.int64).view(np.uint64)):
        assert repeated_in_long(array, order, apart) == repeated_in_short(tokens, order, apart)
        assert repeated_in_each(array, np.array(offsets), order, apart).tolist() == each


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4, 5, 6])
def test_ngrams_that_differ_in_one_upper_digit_are_different(order: int, apart: bool) -> None:
    # With 65,536 codes the first of five digits is worth 2 ** 64, and so is the 13th bit of the
    # first of four above a position of 4 bits and more.
    tokens = [1, *[0] * (order - 1), 65535, 1 + (1 << 12), *[0] * (order - 1)]
    assert repeated_in_long(np.array(tokens), order, apart) == 0
    assert repeated_in_long(np.array(tokens), order - 1, apart) == 2


@pytest.mark.parametrize("count", range(1, 10))
def test_what_lies_across_two_sequences_never_counts(count: int) -> None:
    # Four sequences of pairs of 2 ** 15 codes fill 32 bits; a fifth has what lies across.
    tokens = np.array([32767, 0, 32767, 0] * count)
    offsets = np.arange(0, 4 * count + 1, 4)
    assert repeated_in_each(tokens, offsets, 2, False).tolist() == [2] * count
    assert repeated_in_each(tokens, offsets, 2, True).tolist() == [2] * count


# --- many sequences ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.lists(TOKENS, max_size=6), DEFINITIONS)
def test_a_batch_scores_each_sequence_as_alone(
    sequences: list[list[int]], definition: tuple[int, Variant, Mean]
) -> None:
    offsets = np.cumsum([0, *map(len, sequences)])
    flat = [token for sequence in sequences for token in sequence]
    expected = [auto_bleu(sequence, *definition) for sequence in sequences]
    scores = auto_bleu_batch(np.array(flat, np.int64), offsets, *definition)
    assert scores.dtype == np.float64
    assert scores.tolist() == expected
    assert auto_bleu_batch(list(map(str, flat)), offsets, *definition).tolist() == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_larger_than_a_chunk_scores_each_sequence_as_alone(variant: Variant) -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 100, 2000)
    lengths[[3, 700, -1]] = CHUNK + 5, CHUNK, 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = draw.integers(0, 8, offsets[-1]).astype(np.uint16)
    scores = auto_bleu_batch(tokens, offsets, 3, variant)
    alone = [auto_bleu(tokens[a:b], 3, variant) for a, b in pairwise(offsets)]
    assert scores.tolist() == alone


def test_the_tokens_given_stay_as_they_are() -> None:
    tokens = np.arange(100, dtype=np.uint64) % 7
    tokens.setflags(write=False)
    auto_bleu(tokens, 2, "gslm")
    auto_bleu_batch(tokens, [0, 50, 100], 2, "gslm")
    assert auto_bleu_batch(tokens[:0], [0]).shape == (0,)


# --- texts ------------------------------------------------------------------------------------

TEXTS = [
    'He said "don\'t", then (again) he said "don\'t".',
    "The cat sat. The cat sat on the mat.  It can't; it cannot!",
    "   ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_scored_over_the_published_tokens(text: str) -> None:
    words = nltk.word_tokenize(text, preserve_line=True)
    assert words == NLTKWordTokenizer().tokenize(text)
    assert auto_bleu_text(text) == slam_share(words, 2)
    assert auto_bleu_text(text, 2, "gslm") == literal(text.split(), 2, "gslm", "geometric")


def test_the_variants_split_a_text_each_its_own_way() -> None:
    assert auto_bleu_text("go on! go on!", 2) == 4 / 5
    assert auto_bleu_text("go on! go on", 2, "gslm", "arithmetic") == 2 / 4 / 2


# --- wrong input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "the order of auto-BLEU is 0"),
        ({"order": 2.0}, "the order of auto-BLEU is 2.0"),
        ({"variant": "slm"}, "unknown variant of auto-BLEU 'slm'.* slam, gslm .did you mean"),
        ({"mean": "harmonic"}, "unknown mean of auto-BLEU 'harmonic'.* geometric, arithmetic"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    for call in (
        lambda: auto_bleu([1, 2], **arguments),
        lambda: auto_bleu_batch([1, 2], [0, 2], **arguments),
        lambda: auto_bleu_text("a b", **arguments),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("offsets", [[], [0], [1, 3], [0, 2], [0, 4], [0, 2, 1, 3], [0.0, 3.0]])
def test_offsets_that_do_not_cover_the_tokens_are_refused(offsets: list[Any]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        auto_bleu_batch([1, 2, 3], offsets)


def test_a_text_is_not_taken_for_its_tokens() -> None:
    with pytest.raises(TypeError, match="auto_bleu_text"):
        auto_bleu("the cat")


def test_tensors_are_read_by_value_and_in_one_dimension() -> None:
    assert auto_bleu(torch.tensor([1, 1, 1])) == 1.0  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        auto_bleu(np.ones((1, 3), int))


def test_importing_loads_neither_nltk_nor_torch() -> None:
    code = "import sys, unitcorpus.pairs; assert not {'nltk', 'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
