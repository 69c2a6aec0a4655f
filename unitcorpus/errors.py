"""The two ways in which something can be wrong.

`UnitcorpusError`: the user must act (a wrong recipe, a missing file); the command prints it as one
line and exits with 2. `Reject`: one row is unusable; it is listed with its reason and the build
goes on. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

NO_MEMORY = ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")
"""How a RuntimeError of torch reads where memory ran out that has no class of its own: the host's,
and that of cuBLAS, cuDNN and cuFFT."""


class UnitcorpusError(Exception):
    """A problem the user can solve. The message is one line: what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Why a row does not become a sample.

    `reason` is a short code that is counted (`silence`), `detail` says it of this row. `scores` is
    what was measured of a row that a filter dropped.
    """

    reason: str
    detail: str
    scores: dict[str, float] | None = None


def within(reject: Reject, part: str) -> Reject:
    """The same, said of one part of a row."""
    return Reject(reject.reason, f"{part}: {reject.detail}", reject.scores)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
