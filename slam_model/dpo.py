"""Direct preference optimisation over pairs of unit sequences, as a task of slam_model.loop.

    losses, chosen, rejected = preference_loss(pc, pr, rc, rr, beta=0.1)

Log-probabilities are sums over the completion's tokens, EOS included, given the prompt. Those of
the reference are computed before the first step (slam_model.reference).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from slam_model.loop import Share
from slam_model.packing import PADDING, Pack
from slam_model.pairs import Pairs
from slam_model.pairset import PairSet, completion_logps, pair_packs, usable
from slam_model.process import across
from slam_model.recipe import Dpo, TrainRecipe
from slam_model.reference import Reference
from unitcorpus.errors import UnitcorpusError
from unitcorpus.seeds import seed_of


def preference_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    variant: Literal["dpo", "ipo"] = "dpo",
) -> tuple[Tensor, Tensor, Tensor]:
    """(losses, chosen rewards, rejected rewards) of pairs from summed log-probabilities, all [n].

    `dpo` is equation 7 of arXiv 2305.18290; with `label_smoothing` the conservative one, in which
    a label is wrong with that probability (E. Mitchell, "A note on DPO with noisy preferences").
    `ipo` is equation 17 of arXiv 2310.12036, over sums as the DPO authors have it, unsmoothed.
    Rewards are β · log(policy / reference), without gradient.
    """
    chosen = policy_chosen - reference_chosen
    rejected = policy_rejected - reference_rejected
    margin = chosen - rejected
    if variant == "ipo":
        losses = (margin - 1 / (2 * beta)) ** 2
    else:
        right, wrong = logsigmoid(beta * margin), logsigmoid(-beta * margin)
        losses = -(1 - label_smoothing) * right - label_smoothing * wrong
    return losses, beta * chosen.detach(), beta * rejected.detach()


class Preference:
    """The mean preference loss of pairs, in an order drawn from (seed, epoch).

    `reference` and `validation_reference`: float32 [pairs, 2], the log-probabilities of chosen and
    rejected under the reference.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        dpo: Dpo,
        accelerator: Accelerator,
        pairs: PairSet,
        reference: Tensor,
        validation: tuple[PairSet, Tensor] | None,
    ) -> None:
        self._recipe, self._dpo, self._accelerator = recipe, dpo, accelerator
        self._pairs, self._reference, self._validation = pairs, reference, validation
        self._enter(0, 0)

    @property
    def ended(self) -> bool:
        epochs = self._recipe.data.epochs
        return epochs is not None and self._epoch + self._cursor / len(self._order) >= epochs

    def share(self) -> Share:
        taken = self._take()
        return Share(self._packs(self._pairs, taken), len(taken))

    def loss(self, model: nn.Module, pack: Pack) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._loss(model, pack, self._pairs, self._reference)

    def names(self, pack: Pack) -> list[str]:
        numbers = pack.rows[pack.rows != PADDING][::2] // 2
        return [self._pairs.names[number] for number in numbers.tolist()]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """validation_loss, _margin, _accuracy and rewards; empty without a validation split."""
        if self._validation is None:
            return {}
        pairs, reference = self._validation
        numbers = _within(pairs, self._recipe.evaluation.tokens)
        sums: Counter[str] = Counter()
        for pack in self._packs(pairs, numbers):
            there = pack.to(self._accelerator.device)
            loss, others = self._loss(model, there, pairs, reference)
            sums.update({k: float(v) for k, v in {"loss": loss, **others}.items()})
        total = across(self._accelerator, sums)
        return {f"validation_{name}": value / len(numbers) for name, value in total.items()}

    def state(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "cursor": self._cursor}

    def restore(self, state: dict[str, Any]) -> None:
        self._enter(int(state["epoch"]), int(state["cursor"]))

    def _loss(
        self, model: nn.Module, pack: Pack, pairs: PairSet, reference: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logps, dpo = completion_logps(model, pack, pairs), self._dpo
        real = pack.rows != PADDING
        numbers = (pack.rows[real][::2] // 2).cpu()
        chosen, rejected = logps[real].view(-1, 2).unbind(1)
        of_chosen, of_rejected = reference[numbers].to(logps).unbind(1)
        losses, good, bad = preference_loss(
            chosen, rejected, of_chosen, of_rejected, dpo.beta, dpo.label_smoothing, dpo.variant
        )
        figures = {
            "margin": (good - bad).sum(),
            "accuracy": (good > bad).float().sum(),
            "chosen_reward": good.sum(),
            "rejected_reward": bad.sum(),
        }
        filling = logps[~real].sum() * 0  # a pack of filling alone still reaches every weight
        return losses.sum() + filling, figures

    def _packs(self, pairs: PairSet, numbers: NDArray[np.int64]) -> list[Pack]:
        """This process's packs of these pairs, as many as every other process has."""
        world, rank = self._accelerator.num_processes, self._accelerator.process_index
        fill = self._recipe.model.compile
        return pair_packs(pairs, numbers, self._recipe.data, world, fill)[rank::world]

    def _take(self) -> NDArray[np.int64]:
        """The pairs of the next step; fewer where the data end."""
        taken: list[int] = []
        while len(taken) < self._dpo.pairs_per_step and not self.ended:
            if self._cursor == len(self._order):
                self._enter(self._epoch + 1, 0)
            taken.append(int(self._order[self._cursor]))
            self._cursor += 1
        return np.array(taken, np.int64)

    def _enter(self, epoch: int, cursor: int) -> None:
        rng = np.random.default_rng(seed_of(self._recipe.seed, "pairs", str(epoch)))
        self._order = rng.permutation(len(self._pairs))
        self._epoch, self._cursor = epoch, cursor


def make_preference(
    recipe: TrainRecipe,
    data: Sequence[Pairs],
    validation: Sequence[Pairs],
    accelerator: Accelerator,
    reference: Reference,
    say: Callable[[str], None],
) -> Preference:
    """The task of a recipe with a `dpo` section: filters the pairs and scores them under the
    reference. Raises UnitcorpusError where no pair is left."""
    assert recipe.dpo is not None
    pairs = usable(data, recipe.dpo, recipe.data.context)
    say(pairs.words)
    if not len(pairs):
        raise UnitcorpusError(f"no pair is left to train on: {pairs.words}")
    held_out = usable(validation, recipe.dpo, recipe.data.context)
    scored = (held_out, reference.logps(held_out)) if len(held_out) else None
    return Preference(recipe, recipe.dpo, accelerator, pairs, reference.logps(pairs), scored)


def _within(pairs: PairSet, limit: int | None) -> NDArray[np.int64]:
    """The pairs within the first `limit` tokens, at least one."""
    ends = pairs.lengths.cumsum()
    count = len(pairs) if limit is None else int(np.searchsorted(ends, limit, "right"))
    return np.arange(max(1, count))
