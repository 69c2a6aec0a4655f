"""What a source is: rows in the source's own order, bad ones marked, nothing skipped silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Row:
    """One input. `id` and `split` are empty where the source has none of its own.

    `where` places it for a person ("line 7"). `units` (int64, as published) and `durations`
    (int64, same length) are set by sources of units only; `durations` is None where the row has
    none.
    """

    text: str
    where: str
    id: str = ""
    split: str = ""
    units: NDArray[np.int64] | None = None
    durations: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read; it is listed with this reason."""

    where: str
    reason: str
    detail: str


class TextRows(Protocol):
    """A source. `identity` is cheap and changes when the rows may have changed: a rerun compares
    it before it trusts a plan. It holds no path of this machine. Both raise UnitcorpusError."""

    def identity(self) -> dict[str, Any]: ...

    def rows(self) -> Iterator[Row | BadRow]: ...
