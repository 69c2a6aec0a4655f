"""The pairs that a preference run uses: filtered, packed with both sides together, and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slam_model.model import pack_nll
from slam_model.packing import PADDING, Pack, deal, flat_pack, padding
from slam_model.pairs import Pairs
from slam_model.recipe import Data, Dpo
from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.shards.format import fingerprint


@dataclass(frozen=True)
class PairSet:
    """Pairs of one split, of one corpus or several.

    `sides` are the sequences [BOS prompt completion EOS], chosen and rejected; `prompt_lengths`
    int64 [n] counts BOS and prompt. `fingerprint` identifies which pairs of which data these are,
    and `words` says how many were left out.
    """

    names: list[str]
    sides: list[tuple[NDArray[np.uint16], NDArray[np.uint16]]]
    prompt_lengths: NDArray[np.int64]
    fingerprint: str
    words: str

    def __len__(self) -> int:
        return len(self.sides)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of both sides together: [n]."""
        return np.array([len(chosen) + len(rejected) for chosen, rejected in self.sides], np.int64)


def usable(sources: Sequence[Pairs], dpo: Dpo, context: int) -> PairSet:
    """The pairs whose scores are below dpo.max_scores and whose sides fit into the context.

    Raises UnitcorpusError where a score is unknown.
    """
    names: list[str] = []
    sides: list[tuple[NDArray[np.uint16], NDArray[np.uint16]]] = []
    prompts: list[int] = []
    content: list[tuple[str, list[int]]] = []
    high = long = 0
    for pairs in sources:
        low, fits = _low_scores(pairs, dpo), _fits(pairs, context)
        numbers = np.flatnonzero(low & fits).tolist()
        names += [f"{pairs.name} {pairs.keys[i]}" for i in numbers]
        sides += [(pairs.chosen[i], pairs.rejected[i]) for i in numbers]
        prompts += pairs.prompt_lengths[numbers].tolist()
        content.append((pairs.fingerprint, numbers))
        high, long = high + int((~low).sum()), long + int((low & ~fits).sum())
    return PairSet(
        names=names,
        sides=sides,
        prompt_lengths=np.array(prompts, np.int64),
        fingerprint=fingerprint(content),
        words=_in_words(len(sides), high, long, context),
    )


def _in_words(used: int, high: int, long: int, context: int) -> str:
    """How many pairs are used, and why the others are not."""
    why = {
        "are not below dpo.max_scores": high,
        f"are longer than the context of {context} tokens": long,
    }
    told = ", ".join(f"{number} {reason}" for reason, number in why.items() if number)
    return f"{used} of {used + high + long} pairs are used{told and ': '}{told}"


def _low_scores(pairs: Pairs, dpo: Dpo) -> NDArray[np.bool_]:
    low = np.ones(len(pairs), bool)
    for name, bound in dpo.max_scores.items():
        low &= _scores(pairs, name) < bound
    return low


def _fits(pairs: Pairs, context: int) -> NDArray[np.bool_]:
    longest = [max(len(a), len(b)) for a, b in zip(pairs.chosen, pairs.rejected, strict=True)]
    return np.array(longest) <= context


def _scores(pairs: Pairs, name: str) -> NDArray[np.float64]:
    known = pairs.meta[0].get("scores", {})
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise UnitcorpusError(
            f"dpo.max_scores: the pairs of {pairs.name} have no score '{name}'"
            f"{nearest(name, known)}; known: {there}"
        )
    return np.array([meta["scores"][name] for meta in pairs.meta], np.float64)


def pair_packs(
    pairs: PairSet,
    numbers: NDArray[np.int64],
    data: Data,
    multiple: int = 1,
    fill: bool = False,
) -> list[Pack]:
    """The pairs `numbers` in packs of at most data.micro_tokens, a multiple of `multiple` of them.

    Rows of a pack: 2 · pair for a chosen side, followed by 2 · pair + 1 for the rejected one.
    `fill` pads every pack to data.micro_tokens, for compiled models that want one shape.
    """
    packs = []
    for dealt in deal(pairs.lengths[numbers], data.micro_tokens, multiple):
        rows = [2 * int(number) + side for number in numbers[dealt] for side in (0, 1)]
        sides = [pairs.sides[row // 2][row % 2] for row in rows]
        missing = data.micro_tokens - sum(map(len, sides)) if fill else 0
        filling = padding(missing or 2 * (not sides), data.context)
        packs.append(flat_pack([*sides, *filling], [*rows, *[PADDING] * len(filling)]))
    return packs


def completion_logps(model: nn.Module, pack: Pack, pairs: PairSet) -> Tensor:
    """log p of the completion given its prompt, of each chunk of a pack of pairs: [D]."""
    nll = pack_nll(model, pack)
    prompts = torch.from_numpy(pairs.prompt_lengths)[(pack.rows // 2).clamp(min=0).cpu()]
    first = (prompts - 1).to(nll.device)  # the position that predicts the completion's first token
    return -pack.sums(nll * (pack.position_ids >= first[pack.document]))
