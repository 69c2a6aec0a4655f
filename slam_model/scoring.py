"""Likelihoods of sequences, and what follows from them: perplexity, accuracy, intervals.

A score is the mean of −log p over the tokens of a sequence, EOS included, BOS given. Sequences are
packed without padding and do not see each other, so that what shares a batch changes no score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from slam_model.model import pack_nll
from slam_model.packing import Pack, flat_pack, packs_in_order
from slam_model.pairs import Pairs
from slam_model.tokens import Tokens
from unitcorpus.errors import UnitcorpusError
from unitcorpus.seeds import seed_of

RESAMPLES = 10_000
CONFIDENCE = 0.95


@torch.inference_mode()
def mean_nll(
    model: nn.Module,
    sequences: Sequence[NDArray[np.uint16]],
    micro_tokens: int,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """The mean −log p per predicted token of each sequence (at least two tokens): float64 [n]."""
    scores = np.zeros(len(sequences))
    for pack in _packs(sequences, micro_tokens):
        on_device = pack.to(device)
        sums = on_device.sums(pack_nll(model, on_device).double())
        scores[pack.rows] = sums.cpu() / (pack.cu_seqlens.diff() - 1)
    _check_finite(scores.sum())
    return scores


@torch.inference_mode()
def perplexity(
    model: nn.Module,
    corpus: Tokens,
    context: int,
    micro_tokens: int,
    device: torch.device | str = "cpu",
) -> tuple[float, int]:
    """(perplexity per token, EOS included; tokens predicted) of all documents of a corpus.

    Documents longer than `context` are cut as in training: each token is predicted once.
    """
    total, count = 0.0, 0
    for pack in packs_in_order(corpus, context, micro_tokens):
        total += float(pack_nll(model, pack.to(device)).double().sum())
        count += pack.targets
    _check_finite(total)
    return float(np.exp(total / count)), count


def outcomes(
    model: nn.Module, pairs: Pairs, micro_tokens: int, device: torch.device | str = "cpu"
) -> NDArray[np.float64]:
    """For each pair 1 where the chosen (right) sequence is likelier, 0.5 on a tie, 0 else.

    Equal sequences tie, whatever the rounding of the batches they were in.
    """
    better = mean_nll(model, pairs.chosen, micro_tokens, device)
    worse = mean_nll(model, pairs.rejected, micro_tokens, device)
    won = np.where(better < worse, 1.0, np.where(better > worse, 0.0, 0.5))
    equal = [np.array_equal(a, b) for a, b in zip(pairs.chosen, pairs.rejected, strict=True)]
    return np.where(equal, 0.5, won)


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean of outcomes (0, 0.5 or 1) under resampling of pairs.

    Resampling n outcomes with replacement draws their three counts from a multinomial.
    """
    levels = np.array([0.0, 0.5, 1.0])
    shares = [float((values == level).mean()) for level in levels]
    rng = np.random.default_rng(seed_of(seed, "bootstrap"))
    means = rng.multinomial(len(values), shares, RESAMPLES) @ levels / len(values)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def longest(pairs: Pairs) -> int:
    """The length of the longest sequence, in tokens."""
    return max(len(one) for one in [*pairs.chosen, *pairs.rejected])


def _check_finite(total: float) -> None:
    if not np.isfinite(total):
        raise UnitcorpusError(
            "the model gives likelihoods that are not numbers: its training diverged, or it needs "
            "--dtype float32"
        )


def _packs(sequences: Sequence[NDArray[np.uint16]], micro_tokens: int) -> Iterator[Pack]:
    """The sequences in order, in packs of at most `micro_tokens` (or one sequence)."""
    first, size = 0, 0
    for i, sequence in enumerate(sequences):
        if size and size + len(sequence) > micro_tokens:
            yield flat_pack(sequences[first:i], range(first, i))
            first, size = i, 0
        size += len(sequence)
    if size:
        yield flat_pack(sequences[first:], range(first, len(sequences)))
