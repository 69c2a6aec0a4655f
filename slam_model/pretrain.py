"""Pretraining: the next token of every document, as a task of slam_model.loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn

from slam_model.loader import Loader
from slam_model.loop import Share
from slam_model.model import pack_nll
from slam_model.packing import PADDING, Pack, packs_in_order
from slam_model.process import across
from slam_model.recipe import Data, TrainRecipe
from slam_model.tokens import Tokens
from unitcorpus.errors import UnitcorpusError, nearest


class Pretraining:
    """Mean negative log-likelihood of the target tokens, EOS included."""

    def __init__(
        self,
        recipe: TrainRecipe,
        corpora: Sequence[Tokens],
        validation: Sequence[Tokens],
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._accelerator, self._validation = recipe, accelerator, validation
        data = recipe.data
        self._loader = Loader(
            corpora,
            context=data.context,
            tokens_per_step=data.tokens_per_step,
            micro_tokens=data.micro_tokens,
            seed=recipe.seed,
            epochs=data.epochs,
            repeats=_repeats(corpora, data),
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            pad=recipe.model.compile,
        )

    @property
    def ended(self) -> bool:
        ended: bool = self._loader.ended
        return ended

    def share(self) -> Share:
        step = next(self._loader)
        return Share(step.packs, step.targets)

    def loss(self, model: nn.Module, pack: Pack) -> tuple[Tensor, Mapping[str, Tensor]]:
        return pack_nll(model, pack).sum(), {}

    def names(self, pack: Pack) -> list[str]:
        return [self._loader.key(row) for row in pack.rows.tolist() if row != PADDING]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """validation_loss (nats a token) and validation_perplexity; of each corpus too, where there
        are several."""
        sums = [self._evaluate(model, corpus) for corpus in self._validation]
        if not sums:
            return {}
        figures = _figures("", sum(nll for nll, _ in sums), sum(n for _, n in sums))
        if len(sums) > 1:
            for corpus, (nll, targets) in zip(self._validation, sums, strict=True):
                figures |= _figures(f"_{corpus.name}", nll, targets)
        return figures

    def _evaluate(self, model: nn.Module, corpus: Tokens) -> tuple[float, float]:
        """(negative log-likelihood, target tokens) of the split's first tokens."""
        data, accelerator = self._recipe.data, self._accelerator
        limit = self._recipe.evaluation.tokens
        packs = packs_in_order(corpus, data.context, data.micro_tokens, limit)
        mine = islice(packs, accelerator.process_index, None, accelerator.num_processes)
        sums = {"nll": 0.0, "targets": 0.0}
        for pack in mine:
            sums["nll"] += float(pack_nll(model, pack.to(accelerator.device)).double().sum())
            sums["targets"] += pack.targets
        total = across(accelerator, sums)
        return total["nll"], total["targets"]

    def state(self) -> dict[str, Any]:
        return self._loader.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._loader.restore(state)


def _repeats(corpora: Sequence[Tokens], data: Data) -> list[float]:
    """How often each corpus is seen in an epoch; by weights an epoch has as many tokens as all
    corpora together. Raises UnitcorpusError for a name that is unknown or has no weight."""
    names = [corpus.name for corpus in corpora]
    for key, given in {"repeats": data.repeats, "weights": data.weights}.items():
        for name in given:
            if name not in names:
                raise UnitcorpusError(
                    f"data.{key}: there is no corpus '{name}'{nearest(name, names)}; --data has "
                    f"{', '.join(names)}"
                )
    if not data.weights:
        return [data.repeats.get(name, 1.0) for name in names]
    without = [name for name in names if name not in data.weights]
    if without:
        raise UnitcorpusError(
            f"data.weights: {without[0]} has none; give every corpus of --data one"
        )
    targets = np.array([len(corpus.tokens) - len(corpus) for corpus in corpora])
    shares = np.array([data.weights[name] for name in names])
    repeats: list[float] = (shares / shares.sum() * targets.sum() / targets).tolist()
    return repeats


def _figures(suffix: str, nll: float, targets: float) -> dict[str, float]:
    mean = nll / targets
    perplexity = math.exp(mean) if mean < 700 else math.inf
    return {f"validation_loss{suffix}": mean, f"validation_perplexity{suffix}": perplexity}
