"""The `filters` of a recipe: which utterances or pairs are kept, by what is measured of them.

`filters` maps a name to a filter, and the name is the reason that a dropped row is listed with;
null takes a filter of a shipped recipe away. A bound is kept itself, `below` is not. What a row
cannot be used without (a text, readable audio that is not silent, one frame) is checked always and
is no filter.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unitcorpus.recipe.section import Section

Side = Literal["prompt+chosen", "prompt+rejected", "chosen", "rejected"]


class _Bounded(Section):
    """At least one bound, or the filter drops nothing. `side` is for pairs."""

    min: float | None = None
    max: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> _Bounded:
        if self.min is None and self.max is None and self.below is None:
            raise ValueError("a filter needs a bound: min, max or below")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: nothing would be kept")
        return self


class _Share(_Bounded):
    @model_validator(mode="after")
    def _is_a_share(self) -> _Share:
        for bound in (self.min, self.max, self.below):
            if bound is not None and not 0 <= bound <= 1:
                raise ValueError(f"{self.named} lies in 0..1, and so do its bounds: not {bound:g}")
        return self

    @property
    def named(self) -> str:
        return "a share"


class AutoBleuFilter(_Share):
    """Repetition within an utterance, or one side of a pair. `variant` slam is the paper's, gslm
    that of Lakhotia et al."""

    measure: Literal["auto_bleu"]
    side: Side | None = Field(None, description="null, of pairs: prompt+chosen")
    of: Literal["text", "units"] = "text"
    order: int = Field(2, ge=1, le=16)
    variant: Literal["slam", "gslm"] = "slam"
    mean: Literal["geometric", "arithmetic"] = "geometric"

    @property
    def named(self) -> str:
        return "auto-BLEU"


class LengthFilter(_Bounded):
    """The length in seconds or in (collapsed) units, or units a second: far from those of speech,
    the synthesis failed."""

    measure: Literal["seconds", "units", "units_per_second"]
    side: Side | None = Field(None, description="null, of pairs: chosen")


class VarietyFilter(_Bounded):
    """`entropy`: of the units, in bits. `longest_run`: seconds on one unit."""

    measure: Literal["entropy", "longest_run"]
    side: Side | None = Field(None, description="null, of pairs: chosen")


class SoundFilter(_Share):
    """`silence`: the share of the time 40 dB or more below the loudest. `clipping`: the share of
    samples at full scale."""

    measure: Literal["silence", "clipping"]
    side: Side | None = Field(None, description="null, of pairs: chosen")


class WordErrorFilter(_Bounded):
    """The word error rate of a transcript against the text. `model` is a Whisper: a Hub name or a
    folder."""

    measure: Literal["word_errors"]
    side: Side | None = Field(None, description="null, of pairs: chosen")
    model: str
    revision: str | None = None


class RatioFilter(_Bounded):
    """The length of the chosen continuation over that of the rejected one."""

    measure: Literal["length_ratio"]
    of: Literal["seconds", "units"] = "units"


class IdenticalFilter(Section):
    """Drops pairs whose two continuations are the same units."""

    measure: Literal["identical"]


SidedFilter = AutoBleuFilter | LengthFilter | VarietyFilter | SoundFilter | WordErrorFilter
"""Those that measure an utterance, or one side of a pair."""

Filter = Annotated[SidedFilter | RatioFilter | IdenticalFilter, Field(discriminator="measure")]

Filters = dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], Filter | None]


def completed(name: str, rule: Filter, layout: str, gives: str) -> Filter:
    """A filter as a recipe of this layout and source means it: of pairs, with its side.

    Raises ValueError where it cannot be measured of them.
    """
    if layout == "contrasts":
        raise ValueError("`filters` are for corpora and pairs: a test set keeps what it has")
    if isinstance(rule, RatioFilter | IdenticalFilter):
        if layout != "pairs":
            raise ValueError(f"filters.{name}: {rule.measure} compares the sides of a pair")
        return rule
    if gives == "units" and isinstance(rule, SoundFilter | WordErrorFilter):
        raise ValueError(f"filters.{name}: {rule.measure} needs audio, and this source has units")
    if layout == "pairs":
        side: Side = "prompt+chosen" if isinstance(rule, AutoBleuFilter) else "chosen"
        return rule if rule.side else rule.model_copy(update={"side": side})
    if rule.side is not None:
        raise ValueError(f"filters.{name}.side: an utterance has no sides; leave it out")
    return rule
