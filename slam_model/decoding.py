"""Sampling continuations: transformers' `generate`, with randomness of each prompt's own.

    continuations = decode(model, prompts, ids, Sampling(temperature=0.8, top_k=25))

A continuation depends on its prompt, (seed, id) and the settings alone, but for rounding: prompts
of a batch are padded on the left and masked, and each token is drawn with Gumbel noise from a
generator that is seeded by (seed, id): argmax(score + noise) is a draw from softmax(score). The
model must have transformers' own attention (`load_generator`), not the one that wants packs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from slam_model.model import TOKEN_IDS, load_checkpoint
from slam_model.tokens import EOS, FIRST_UNIT, PAD
from unitcorpus.errors import UnitcorpusError
from unitcorpus.seeds import seed_of


@dataclass(frozen=True)
class Sampling:
    """How continuations are drawn; the defaults are the paper's, whose DPO model has a
    `repetition_penalty` of 1.1. `temperature` 0 takes the likeliest token, `top_k` 0 and `top_p` 1
    leave no token out. The penalty counts the prompt's tokens, too. Raises UnitcorpusError."""

    tokens: int = 150
    temperature: float = 0.8
    top_k: int = 25
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "tokens": (self.tokens >= 1, "1 or more"),
            "temperature": (0 <= self.temperature < np.inf, "0 or more"),
            "top-k": (self.top_k >= 0, "0 or more"),
            "top-p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "repetition-penalty": (0 < self.repetition_penalty < np.inf, "above 0"),
        }
        for name, (fine, words) in ranges.items():
            if not fine:
                value = getattr(self, name.replace("-", "_"))
                raise UnitcorpusError(f"--{name} is {value}: it must be {words}")


def load_generator(
    name: str,
    vocabulary: int,
    dtype: str,
    device: str,
    unit_spec: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A checkpoint of unit tokens that generates. Raises UnitcorpusError."""
    model = load_checkpoint(name, vocabulary, dtype, device, unit_spec)
    model.set_attn_implementation("sdpa")
    return model


def decode(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.uint16]],
    ids: Sequence[str],
    sampling: Sampling,
    batch: int = 32,
) -> list[NDArray[np.uint16]]:
    """The units that follow each prompt (token sequences that begin with BOS): uint16 [n], where n
    is less than `sampling.tokens` if the model ended the sequence.

    Raises UnitcorpusError where a prompt and its continuation are longer than the model's context.
    """
    _check_positions(model, prompts, sampling)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # little padding
    found: dict[int, NDArray[np.uint16]] = {}
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        noise = [np.random.default_rng(seed_of(sampling.seed, "sample", ids[i])) for i in rows]
        tokens = _decode_batch(model, [prompts[i] for i in rows], noise, sampling)
        found.update(zip(rows, map(_units, tokens), strict=True))
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def _decode_batch(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.uint16]],
    noise: Sequence[np.random.Generator],
    sampling: Sampling,
) -> NDArray[np.int64]:
    """The new tokens of each prompt, [rows, at most sampling.tokens], PAD after an EOS."""
    longest = max(map(len, prompts))
    tokens = np.full((len(prompts), longest), PAD, np.int64)
    mask = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    config = GenerationConfig(
        **TOKEN_IDS,
        do_sample=False,  # the noise is in the scores
        max_new_tokens=sampling.tokens,
        repetition_penalty=float(sampling.repetition_penalty),
        suppress_tokens=[PAD],
    )
    output: Any = model.generate(
        torch.from_numpy(tokens).to(model.device),
        attention_mask=torch.from_numpy(mask).to(model.device),
        generation_config=config,
        logits_processor=_processors(sampling, noise),
    )
    new: NDArray[np.int64] = output[:, longest:].cpu().numpy()
    return new


def _processors(sampling: Sampling, noise: Sequence[np.random.Generator]) -> LogitsProcessorList:
    """What `generate` does to scores after the repetition penalty, in transformers' order."""
    if sampling.temperature == 0:
        return LogitsProcessorList([_Numbers()])
    used: list[Any] = [_Numbers(), TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k:
        used.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        used.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList([*used, _Gumbel(noise)])


class _Numbers:
    """Refuses scores that are not numbers, of which any token might come."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise UnitcorpusError(
                "the model gives scores that are not numbers: its training diverged, or it needs "
                "--dtype float32"
            )
        return scores


class _Gumbel:
    """Adds each row's own noise to its scores, so that the largest is a draw from their softmax."""

    def __init__(self, noise: Sequence[np.random.Generator]) -> None:
        self._noise = noise

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = np.stack([rng.gumbel(size=scores.shape[1]) for rng in self._noise])
        return scores.double() + torch.from_numpy(drawn).to(scores.device)


def _units(tokens: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The units before the first EOS."""
    ends = np.flatnonzero(tokens == EOS)
    kept = tokens[: ends[0]] if len(ends) else tokens
    return (kept - FIRST_UNIT).astype(np.uint16)


def _check_positions(
    model: PreTrainedModel, prompts: Sequence[NDArray[np.uint16]], sampling: Sampling
) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if positions is not None and longest + sampling.tokens > positions:
        raise UnitcorpusError(
            f"a prompt of {longest} tokens with {sampling.tokens} more is longer than the model's "
            f"{positions} positions: give shorter prompts or less --tokens"
        )
