"""What a sample holds: one utterance, or several that belong together.

A part is an utterance of a sample, with units and run lengths of its own. The one part of a plain
corpus has bare names (`KEY.units.npy`, `text`); several parts carry their name in theirs
(`KEY.chosen.npy`, `KEY.chosen_durations.npy`, `chosen_text`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """`parts` in the order in which a sample has them. `noun` is what people call its samples."""

    kind: str
    parts: tuple[str, ...]
    noun: str

    @property
    def plain(self) -> bool:
        """Whether a sample is one utterance."""
        return len(self.parts) == 1

    def field(self, part: str, name: str) -> str:
        """The name of a part's field: `text`, or `chosen_text` where there are several parts."""
        return name if self.plain else f"{part}_{name}"

    def units(self, part: str) -> str:
        return f"{part}.npy"

    def durations(self, part: str) -> str:
        return f"{self.field(part, 'durations')}.npy"

    def audio(self, part: str) -> str:
        return "flac" if self.plain else f"{part}.flac"

    def record(self) -> dict[str, Any]:
        """What plan.json and corpus.json say of it."""
        said: dict[str, Any] = {"kind": self.kind, "parts": list(self.parts)}
        # Each part is collapsed for itself: where two are joined, a unit may repeat, as in the
        # published pairs.
        return said if self.plain else {**said, "seam": "not collapsed"}


UTTERANCES = Layout("utterances", ("units",), "utterances")
PAIRS = Layout("pairs", ("prompt", "chosen", "rejected"), "pairs")
CONTRASTS = Layout("contrasts", ("right", "wrong"), "pairs")

SCORES = tuple(
    f"{of}_{variant}_{side}"
    for of in ("text", "units")
    for variant in ("gslm", "slam")
    for side in ("chosen", "rejected")
)
"""What is stored of every pair, in 0..1."""

OF_PAIRS = ("entropy", "longest_run", "silence", "clipping", "word_errors")
"""Measures that are stored with a pair where a filter asks for them; of the others its scores and
lengths tell."""


def stored_scores(layout: Layout, filters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The names of a sample's scores, and of each the bounds that it keeps, by the `filters` of a
    recorded recipe; empty: it has no scores."""
    rules = {name: rule for name, rule in filters.items() if rule is not None}
    if layout == PAIRS:
        own = {name: rule for name, rule in rules.items() if rule["measure"] in OF_PAIRS}
        return {name: {"min": 0, "max": 1.000001} for name in SCORES} | own
    return rules


def keeps(value: float, rule: dict[str, Any]) -> bool:
    """Whether a value is within the bounds of a recorded filter."""
    low, high, below = (rule.get(key) for key in ("min", "max", "below"))
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (below is None or value < below)
    )


LAYOUTS = {layout.kind: layout for layout in (UTTERANCES, PAIRS, CONTRASTS)}
