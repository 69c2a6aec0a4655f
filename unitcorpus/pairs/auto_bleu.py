"""Auto-BLEU: how much a sequence repeats itself, by the two definitions in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from math import prod
from typing import Any


def auto_bleu(
    tokens: Iterable[Any], order: int = 2, variant: str = "slam", mean: str = "geometric"
) -> float:
    """`slam`: the share of n-gram positions whose n-gram occurs again; `gslm`: the mean over orders
    of the share whose n-gram occurs elsewhere without overlap."""
    items = list(tokens)
    if variant == "slam":
        grams = Counter(zip(*(items[i:] for i in range(order)), strict=False))
        total = sum(grams.values())
        return sum(n for n in grams.values() if n > 1) / total if total else 0.0
    if len(items) < 2:
        return 0.0
    shares = [_elsewhere(items, o) for o in range(1, order + 1)]
    return float(prod(shares) ** (1 / order) if mean == "geometric" else sum(shares) / order)


def _elsewhere(items: list[Any], order: int) -> float:
    grams = list(zip(*(items[i:] for i in range(order)), strict=False))
    first: dict[Any, int] = {}
    last = {gram: p for p, gram in enumerate(grams)}
    for p, gram in enumerate(grams):
        first.setdefault(gram, p)
    found = sum(first[g] <= p - order or last[g] >= p + order for p, g in enumerate(grams))
    return found / len(grams) if grams else 0.0


@cache
def _tokenizer() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def auto_bleu_text(
    text: str, order: int = 2, variant: str = "slam", mean: str = "geometric"
) -> float:
    """`auto_bleu` of the words of a text."""
    return auto_bleu(_tokenizer().tokenize(text), order, variant, mean)
