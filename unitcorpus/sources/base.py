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
class Part:
    """One utterance of several that make one row: a text to speak, units as published (int64, with
    their `durations` or None), or a recording.

    `audio` is a path below the source's folder, with `/` on every system, `audio_bytes` the size of
    the file there, `start` and `end` in seconds what is meant of it (None: all of it). Of a member
    of an archive `audio` is archive/member, and `offset` where its bytes begin in the archive.
    """

    text: str = ""
    units: NDArray[np.int64] | None = None
    durations: NDArray[np.int64] | None = None
    audio: str = ""
    audio_bytes: int = 0
    start: float | None = None
    end: float | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class PartedRow:
    """One input of several utterances, or a recording: `parts` in the order of the source's layout.

    `voice` is the speaker where the source knows one, `group` what the row is counted with (a
    phenomenon, a task).
    """

    parts: tuple[Part, ...]
    where: str
    id: str = ""
    split: str = ""
    voice: str = ""
    group: str = ""

    @property
    def text(self) -> str:
        """The texts of all parts, one a line."""
        return "\n".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read; it is listed with this reason."""

    where: str
    reason: str
    detail: str


class Rows(Protocol):
    """A source. `identity` is cheap and changes when the rows may have changed: a rerun compares
    it before it trusts a plan. It holds no path of this machine. Both raise UnitcorpusError."""

    def identity(self) -> dict[str, Any]: ...

    def rows(self) -> Iterator[Row | PartedRow | BadRow]: ...
