"""Which pairs are kept, and the scores that are stored with them.

Texts can be judged before anything is spoken; the rest when the units are there. A dropped pair is
a Reject whose reason is the filter's name, with what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import Reject
from unitcorpus.pairs.auto_bleu import auto_bleu, auto_bleu_text
from unitcorpus.recipe.filters import AutoBleuFilter, Filter, LengthFilter, RatioFilter

Filters = Mapping[str, Filter | None]
SIDES = {
    "prompt+chosen": ("prompt", "chosen"),
    "prompt+rejected": ("prompt", "rejected"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
}


@dataclass(frozen=True)
class Pair:
    """What is known of a pair, by part: texts, units uint16 [n] and lengths in seconds. Units and
    seconds are empty before synthesis; seconds also where units came without durations."""

    texts: Mapping[str, str]
    units: Mapping[str, NDArray[np.uint16]]
    seconds: Mapping[str, float]

    def text(self, side: str) -> str:
        return " ".join(filter(None, (self.texts[part] for part in SIDES[side])))

    def sequence(self, side: str) -> NDArray[np.uint16]:
        """The units of a side as the model will see them: joined, the seam as it is."""
        return np.concatenate([self.units[part] for part in SIDES[side]])

    @cached_property
    def scores(self) -> dict[str, float]:
        """Auto-BLEU-2 of both sides with their prompt, on text and on units, by both definitions
        (gslm: geometric mean): what is stored with a pair, so that a stricter filter needs no
        rebuild. Units only where there are some."""
        found = {}
        for side in ("chosen", "rejected"):
            text, tokens = self.text(f"prompt+{side}"), None
            if self.units:
                tokens = self.sequence(f"prompt+{side}")
            for variant in ("slam", "gslm"):
                found[f"text_{variant}_{side}"] = auto_bleu_text(text, variant=variant)
                if tokens is not None:
                    found[f"units_{variant}_{side}"] = auto_bleu(tokens, variant=variant)
        return dict(sorted(found.items()))


def drop_by_text(filters: Filters, texts: Sequence[str]) -> Reject | None:
    """The verdict of the filters that look at texts alone. `texts`: prompt, chosen, rejected."""
    early = {
        name: rule
        for name, rule in filters.items()
        if isinstance(rule, AutoBleuFilter) and rule.of == "text"
    }
    if not early:
        return None
    names = ("prompt", "chosen", "rejected")
    return drop(early, Pair(dict(zip(names, texts, strict=True)), {}, {}))


def drop(filters: Filters, pair: Pair) -> Reject | None:
    """Why a pair is dropped: the first filter, in the order of their names, that it does not pass
    (a recorded recipe knows no other order)."""
    for name, rule in sorted(filters.items()):
        if rule is not None and (detail := _problem(rule, pair)):
            return Reject(name, detail, pair.scores)
    return None


def needs_seconds(filters: Filters) -> str | None:
    """The name of a filter that cannot do without lengths in seconds."""
    for name, rule in filters.items():
        if isinstance(rule, LengthFilter) and rule.measure != "units":
            return name
        if isinstance(rule, RatioFilter) and rule.of == "seconds":
            return name
    return None


def _problem(rule: Filter, pair: Pair) -> str | None:
    """What is wrong with a pair under one filter."""
    if isinstance(rule, AutoBleuFilter):
        value, what = _auto_bleu(rule, pair), f"auto-BLEU of the {rule.side} {rule.of}"
    elif isinstance(rule, LengthFilter):
        value, what = LENGTHS[rule.measure](pair, rule.side), f"{rule.measure} of {rule.side}"
    elif isinstance(rule, RatioFilter):
        lengths = [LENGTHS[rule.of](pair, side) for side in ("chosen", "rejected")]
        value, what = lengths[0] / max(lengths[1], 1e-9), f"{rule.of} of chosen over rejected"
    else:
        same = np.array_equal(pair.units["chosen"], pair.units["rejected"])
        return "chosen and rejected are the same units" if same else None
    if rule.min is not None and value < rule.min:
        return f"{what} is {value:.4g}, less than {rule.min:g}"
    if rule.max is not None and value > rule.max:
        return f"{what} is {value:.4g}, more than {rule.max:g}"
    if rule.below is not None and not value < rule.below:
        return f"{what} is {value:.4g}, not below {rule.below:g}"
    return None


def _auto_bleu(rule: AutoBleuFilter, pair: Pair) -> float:
    if rule.of == "text":
        return auto_bleu_text(pair.text(rule.side), rule.order, rule.variant, rule.mean)
    return auto_bleu(pair.sequence(rule.side), rule.order, rule.variant, rule.mean)


def _seconds(pair: Pair, side: str) -> float:
    return sum(pair.seconds[part] for part in SIDES[side])


def _units(pair: Pair, side: str) -> float:
    return float(sum(len(pair.units[part]) for part in SIDES[side]))


LENGTHS: dict[str, Callable[[Pair, str], float]] = {
    "seconds": _seconds,
    "units": _units,
    "units_per_second": lambda pair, side: _units(pair, side) / max(_seconds(pair, side), 1e-9),
}
