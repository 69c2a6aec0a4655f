"""Which rows are kept, and the scores that are stored with them.

Texts can be judged before anything is spoken; the rest when the units are there. A dropped row is a
Reject whose reason is the filter's name, with what was measured. A filter changes nothing of a
sample but its `scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import Reject
from unitcorpus.pairs.auto_bleu import auto_bleu, auto_bleu_text
from unitcorpus.quality.measures import Sound, entropy
from unitcorpus.recipe.filters import (
    AutoBleuFilter,
    Filter,
    IdenticalFilter,
    LengthFilter,
    RatioFilter,
    SidedFilter,
    SoundFilter,
    VarietyFilter,
    WordErrorFilter,
)

Filters = Mapping[str, Filter | None]
SIDES = {
    "prompt+chosen": ("prompt", "chosen"),
    "prompt+rejected": ("prompt", "rejected"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
}
TRANSCRIPT = 100
"""Characters of a transcript that a reject's line shows."""


@dataclass(frozen=True)
class Utterances:
    """What is known of a row, by part: texts, units uint16 [n], run lengths in seconds, lengths in
    seconds and sounds. All but texts are empty before synthesis; run lengths and seconds also where
    units came without durations, sounds where no filter asks."""

    texts: Mapping[str, str]
    units: Mapping[str, NDArray[np.uint16]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    sounds: Mapping[str, Sound] = field(default_factory=dict)

    def parts(self, side: str | None) -> Sequence[str]:
        """The parts of a side; of an utterance, which has none, its only one."""
        return SIDES[side] if side else list(self.texts)

    def text(self, side: str | None) -> str:
        return " ".join(filter(None, (self.texts[part] for part in self.parts(side))))

    def sequence(self, side: str | None) -> NDArray[np.uint16]:
        """The units of a side as the model will see them: joined, the seam as it is."""
        return np.concatenate([self.units[part] for part in self.parts(side)])

    def sound(self, side: str | None) -> Sound:
        return sum((self.sounds[part] for part in self.parts(side)), Sound())

    @cached_property
    def pair_scores(self) -> dict[str, float]:
        """Auto-BLEU-2 of both sides of a pair with their prompt, on text and on units, by both
        definitions (gslm: geometric mean): what is stored with a pair, so that a stricter filter
        needs no rebuild. Units only where there are some."""
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


def scores(filters: Filters, row: Utterances) -> dict[str, float]:
    """What is stored with a sample: of an utterance what each filter measured, under its name; of a
    pair its auto-BLEU and what only a filter asks for. Empty: nothing is."""
    rules = {name: rule for name, rule in sorted(filters.items()) if rule is not None}
    if "chosen" in row.texts:
        own = {n: measured(r, row) for n, r in rules.items() if isinstance(r, STORED_WITH_PAIRS)}
        return dict(sorted({**row.pair_scores, **own}.items()))
    return {name: measured(rule, row) for name, rule in rules.items()}


STORED_WITH_PAIRS = (VarietyFilter, SoundFilter, WordErrorFilter)


def drop_by_text(filters: Filters, texts: Mapping[str, str]) -> Reject | None:
    """The verdict of the filters that look at texts alone, by part."""
    early = {
        name: rule
        for name, rule in filters.items()
        if isinstance(rule, AutoBleuFilter) and rule.of == "text"
    }
    return drop(early, Utterances(texts)) if early else None


def drop(filters: Filters, row: Utterances) -> Reject | None:
    """Why a row is dropped: the first filter, in the order of their names, that it does not pass
    (a recorded recipe knows no other order)."""
    for name, rule in sorted(filters.items()):
        if rule is not None and (detail := _problem(rule, row)):
            return Reject(name, detail, scores(filters, row))
    return None


def needs_seconds(filters: Filters) -> str | None:
    """The name of a filter that cannot do without lengths in seconds."""
    for name, rule in filters.items():
        if isinstance(rule, LengthFilter) and rule.measure != "units":
            return name
        if isinstance(rule, VarietyFilter) and rule.measure == "longest_run":
            return name
        if isinstance(rule, RatioFilter) and rule.of == "seconds":
            return name
    return None


def hears(filters: Filters) -> bool:
    """Whether a filter asks how an utterance sounds."""
    return any(isinstance(rule, SoundFilter | WordErrorFilter) for rule in filters.values())


def asr_of(filters: Filters) -> WordErrorFilter | None:
    """The filter that names the model of transcripts; all that do name the same."""
    found = (rule for rule in filters.values() if isinstance(rule, WordErrorFilter))
    return next(found, None)


def measured(rule: Filter, row: Utterances) -> float:
    """What a filter looks at. `identical` is 1 where it drops, 0 elsewhere."""
    if isinstance(rule, IdenticalFilter):
        return float(np.array_equal(row.units["chosen"], row.units["rejected"]))
    if isinstance(rule, RatioFilter):
        lengths = [LENGTHS[rule.of](row, side) for side in ("chosen", "rejected")]
        return lengths[0] / max(lengths[1], 1e-9)
    if isinstance(rule, AutoBleuFilter):
        return _auto_bleu(rule, row)
    if isinstance(rule, SoundFilter):
        sound = row.sound(rule.side)
        return sound.silence if rule.measure == "silence" else sound.clipping
    if isinstance(rule, WordErrorFilter):
        return row.sound(rule.side).word_errors
    return LENGTHS[rule.measure](row, rule.side)


def _problem(rule: Filter, row: Utterances) -> str | None:
    """What is wrong with a row under one filter."""
    value = measured(rule, row)
    if isinstance(rule, IdenticalFilter):
        return "chosen and rejected are the same units" if value else None
    if isinstance(rule, WordErrorFilter) and not row.sound(rule.side).words:
        return "there is no text to compare a transcript with"
    if rule.min is not None and value < rule.min:
        return f"{_named(rule, row)} is {value:.4g}, less than {rule.min:g}"
    if rule.max is not None and value > rule.max:
        return f"{_named(rule, row)} is {value:.4g}, more than {rule.max:g}"
    if rule.below is not None and not value < rule.below:
        return f"{_named(rule, row)} is {value:.4g}, not below {rule.below:g}"
    return None


def _named(rule: SidedFilter | RatioFilter, row: Utterances) -> str:
    if isinstance(rule, RatioFilter):
        return f"{rule.of} of chosen over rejected"
    side = f" of {rule.side}" if rule.side else ""
    if isinstance(rule, AutoBleuFilter):
        return f"auto-BLEU of the {f'{rule.side} ' if rule.side else ''}{rule.of}"
    if isinstance(rule, WordErrorFilter):
        heard = row.sound(rule.side).transcript[:TRANSCRIPT]
        return f"word error rate{side} (heard: '{heard}')"
    return f"{rule.measure}{side}"


def _auto_bleu(rule: AutoBleuFilter, row: Utterances) -> float:
    if rule.of == "text":
        return auto_bleu_text(row.text(rule.side), rule.order, rule.variant, rule.mean)
    return auto_bleu(row.sequence(rule.side), rule.order, rule.variant, rule.mean)


def _seconds(row: Utterances, side: str | None) -> float:
    return sum(row.seconds[part] for part in row.parts(side))


def _units(row: Utterances, side: str | None) -> float:
    return float(sum(len(row.units[part]) for part in row.parts(side)))


LENGTHS: dict[str, Callable[[Utterances, str | None], float]] = {
    "seconds": _seconds,
    "units": _units,
    "units_per_second": lambda row, side: _units(row, side) / max(_seconds(row, side), 1e-9),
    "entropy": lambda row, side: entropy(row.sequence(side)),
    "longest_run": lambda row, side: max(float(row.runs[p].max()) for p in row.parts(side)),
}
