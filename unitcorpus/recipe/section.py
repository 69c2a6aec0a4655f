"""The base of everything a recipe is made of: frozen, typed, every key known."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Splits = dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], str]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def recognises(cls, data: dict[str, Any]) -> bool:
        """Whether the content of a recipe's file is meant as one of these: it has the keys that
        one must have."""
        needed = {key for key, field in cls.model_fields.items() if field.is_required()}
        return needed <= data.keys()


class SourceSection(Section):
    """What every kind of source has. `layout_kind` is that of the samples, `gives` what a row
    holds: `text` to speak, `audio` or `units`."""

    layout_kind: ClassVar[str] = "utterances"
    gives: ClassVar[Literal["text", "audio", "units"]] = "text"
