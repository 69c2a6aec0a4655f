"""The `filters` of a recipe of pairs: which pairs are kept, by what is measured of them.

`filters` maps a name to a filter, and the name is the reason that a dropped pair is listed with;
null takes a filter of a shipped recipe away. A bound is kept itself, `below` is not.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unitcorpus.recipe.section import Section

Side = Literal["prompt+chosen", "prompt+rejected", "chosen", "rejected"]


class _Bounded(Section):
    """At least one bound, or the filter drops nothing."""

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


class AutoBleuFilter(_Bounded):
    """Repetition within one side. `variant` slam is the paper's, gslm that of Lakhotia et al."""

    measure: Literal["auto_bleu"]
    side: Side = "prompt+chosen"
    of: Literal["text", "units"] = "text"
    order: int = Field(2, ge=1, le=16)
    variant: Literal["slam", "gslm"] = "slam"
    mean: Literal["geometric", "arithmetic"] = "geometric"

    @model_validator(mode="after")
    def _is_a_share(self) -> AutoBleuFilter:
        for bound in (self.min, self.max, self.below):
            if bound is not None and not 0 <= bound <= 1:
                raise ValueError(f"auto-BLEU lies in 0..1, and so do its bounds: not {bound:g}")
        return self


class LengthFilter(_Bounded):
    """The length of one side, in seconds or in (collapsed) units, or units a second: far from
    those of speech, the synthesis failed."""

    measure: Literal["seconds", "units", "units_per_second"]
    side: Side = "chosen"


class RatioFilter(_Bounded):
    """The length of the chosen continuation over that of the rejected one."""

    measure: Literal["length_ratio"]
    of: Literal["seconds", "units"] = "units"


class IdenticalFilter(Section):
    """Drops pairs whose two continuations are the same units."""

    measure: Literal["identical"]


Filter = Annotated[
    AutoBleuFilter | LengthFilter | RatioFilter | IdenticalFilter, Field(discriminator="measure")
]

Filters = dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], Filter | None]
