"""Auto-BLEU: how much a sequence repeats itself, by both definitions that are in use.

    from unitcorpus.pairs.auto_bleu import auto_bleu, auto_bleu_batch, auto_bleu_text
    auto_bleu(units)                                        # slam, bigrams
    auto_bleu(units, order=2, variant="gslm", mean="geometric")
    auto_bleu_text("the cat and the cat")
    auto_bleu_batch(units, offsets)                         # many sequences at once

- `slam` (Maimon et al. 2025, "Slamming"): the share of n-gram positions whose n-gram of `order`
  occurs at another position too. Their text tokens are NLTK's, and they print the mean × 100.
- `gslm` (Lakhotia et al. 2021, "On generative spoken language modeling from raw audio"): for each
  order o = 1..`order` the share of positions whose o-gram occurs at another one without overlap,
  and the mean of these shares with equal weights. Their text tokens are split at whitespace.

`1 1 1` shows the difference: 1.0 under slam, a bigram share of 0 under gslm.

How floats are made, so that equal counts are equal bits: a share is one division of two counts,
0 where a sequence has no such n-gram. With w = 1 / `order` as a float, the arithmetic mean is the
sum of share * w and the geometric mean the product of share ** w (C's `pow`), both from order 1
upwards: the published code's own order of operations. A share of 0 makes the geometric mean 0.
Every score lies in 0..1, never NaN, up to the last bit of such a sum.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache, partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unitcorpus.errors import nearest
from unitcorpus.pairs.ngrams import Integers, repeated_in_each, repeated_in_long, repeated_in_short

Variant = Literal["slam", "gslm"]
Mean = Literal["geometric", "arithmetic"]
VARIANTS, MEANS = get_args(Variant), get_args(Mean)
Tokens = Sequence[Hashable] | NDArray[Any]
"""Integers or strings, as a list or as an array of one dimension."""

SHORT = 64
"""Up to so many tokens dictionaries are faster than numpy's calls."""


def auto_bleu(
    tokens: Tokens, order: int = 2, variant: Variant = "slam", mean: Mean = "geometric"
) -> float:
    """The score of one sequence, 0..1; 0 where it is shorter than an n-gram.

    Only which tokens are equal matters. `mean` is gslm's; slam has one share. Raises ValueError
    for an order below 1, an unknown variant or mean, or an array of other than one dimension, and
    TypeError for a text in place of its tokens.
    """
    orders, apart = _definition(order, variant, mean)
    sequence = _sequence(tokens)
    size, weight = len(sequence), 1 / len(orders)
    if size > SHORT:
        count = partial(repeated_in_long, _integers(sequence))
    else:
        listed = sequence.tolist() if isinstance(sequence, np.ndarray) else sequence
        count = partial(repeated_in_short, listed)
    score = 1.0 if mean == "geometric" else 0.0
    for n in orders:
        share = count(n, apart) / (size - n + 1) if n <= size else 0.0
        score = score * share**weight if mean == "geometric" else score + share * weight
    return score


def auto_bleu_batch(
    tokens: Tokens,
    offsets: ArrayLike,
    order: int = 2,
    variant: Variant = "slam",
    mean: Mean = "geometric",
) -> NDArray[np.float64]:
    """The scores of many sequences, float64 [n]: `auto_bleu` of each, to the last bit.

    Sequence i is `tokens[offsets[i] : offsets[i + 1]]`; `offsets` are integers [n + 1] from 0 to
    the number of tokens, never falling. Raises as `auto_bleu` does, and ValueError for offsets
    that are none.
    """
    orders, apart = _definition(order, variant, mean)
    codes = _integers(_sequence(tokens))
    bounds = _offsets(offsets, len(codes))
    weight, scores = 1 / len(orders), np.full(len(bounds) - 1, float(mean == "geometric"))
    for n in orders:
        grams = np.diff(bounds) - (n - 1)
        shares = repeated_in_each(codes, bounds, n, apart) / np.maximum(grams, 1)
        if mean == "geometric":
            # numpy's own pow may differ from C's in the last bit, and among processors.
            scores *= [share**weight for share in shares.tolist()]
        else:
            scores += shares * weight
    return scores


def auto_bleu_text(
    text: str, order: int = 2, variant: Variant = "slam", mean: Mean = "geometric"
) -> float:
    """The score of a text over the variant's own tokens: NLTK's for slam, words for gslm.

    NLTK's are those of its NLTKWordTokenizer over the whole text, with no sentences split. Raises
    ValueError as `auto_bleu` does.
    """
    _definition(order, variant, mean)
    tokens = _tokenizer().tokenize(text) if variant == "slam" else text.split()
    return auto_bleu(tokens, order, variant, mean)


@cache
def _tokenizer() -> Any:
    """NLTK's word tokenizer; importing it takes seconds, and only texts need it."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _definition(order: int, variant: str, mean: str) -> tuple[range, bool]:
    """The orders whose shares are averaged, and whether overlapping n-grams are left out."""
    for what, name, names in (("variant", variant, VARIANTS), ("mean", mean, MEANS)):
        if name not in names:
            expected = f"it is one of {', '.join(names)}{nearest(str(name), names)}"
            raise ValueError(f"unknown {what} of auto-BLEU {name!r}: {expected}")
    if not isinstance(order, (int, np.integer)) or order < 1:
        raise ValueError(f"the order of auto-BLEU is {order!r}: it is a whole number from 1 up")
    return range(1 if variant == "gslm" else order, order + 1), variant == "gslm"


def _sequence(tokens: Tokens) -> Tokens:
    """The tokens as an array if something that holds one (numpy, torch, pandas), else as given."""
    if isinstance(tokens, str):
        raise TypeError("auto-BLEU takes the tokens of a text, not the text: call auto_bleu_text")
    if not hasattr(tokens, "__array__"):
        return tokens
    array = np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens of shape {array.shape}: auto-BLEU takes one dimension")
    return array


def _integers(sequence: Tokens) -> Integers:
    """An integer per token, equal for equal tokens."""
    if isinstance(sequence, np.ndarray):
        if sequence.dtype.kind in "iu":
            return sequence
        sequence = sequence.tolist()
    codes = {token: code for code, token in enumerate(dict.fromkeys(sequence))}
    return np.fromiter(map(codes.__getitem__, sequence), np.int64, len(sequence))


def _offsets(offsets: ArrayLike, size: int) -> NDArray[np.int64]:
    """The offsets as int64, once they are found to cover `size` tokens."""
    bounds = np.asarray(offsets)
    if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or not len(bounds):
        raise ValueError("offsets are integers of one dimension, one more than there are sequences")
    bounds = bounds.astype(np.int64)
    if bounds[0] != 0 or bounds[-1] != size or (np.diff(bounds) < 0).any():
        raise ValueError(f"offsets rise from 0 to the number of tokens, {size}")
    return bounds
