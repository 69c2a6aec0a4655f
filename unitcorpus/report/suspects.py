"""Which samples lie far from the others, and by what: those a person should look at first.

While the shards are read, the highest and lowest few of every measure are kept; afterwards their
distance from the median is told in multiples of the usual spread (the interquartile range, as a
standard deviation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from unitcorpus.report.tally import Tally

KEPT = 16
"""Values kept at each end of a measure."""

FAR = 3.0
"""Multiples of the usual spread from which on a sample is called suspicious."""

SPREAD = 1.349
"""The interquartile range of a normal distribution of standard deviation 1."""

WORDS = {
    "units_per_second": "units a second",
    "characters_per_second": "characters a second",
    "longest_run": "s on one unit",
    "auto_bleu": "auto-BLEU of its units",
}


ONLY_HIGH = ("longest_run", "auto_bleu")
"""Measures whose low values are as they should be."""


@dataclass(frozen=True, order=True)
class Suspect:
    """A sample, the part and measure by which it is furthest from the others, and how far."""

    distance: float
    key: str
    part: str
    measure: str
    value: float
    median: float

    @property
    def reason(self) -> str:
        """`41.2 units a second; the median is 31.0`."""
        side = "above" if self.value > self.median else "below"
        return (
            f"{self.value:.3g} {WORDS[self.measure]}, far {side} the median of {self.median:.3g} "
            f"({self.distance:.0f} times the usual spread)"
        )


@dataclass
class Extremes:
    """The ends of every (part, measure): up to 2·KEPT of (value, key)."""

    ends: dict[tuple[str, str], list[tuple[float, str]]] = field(default_factory=dict)

    def see(self, part: str, measure: str, keys: list[str], values: NDArray[np.float64]) -> None:
        """Takes note of a portion of samples: `values` [n] of a measure, by key."""
        order = np.argsort(values, kind="stable")
        ends = {*order[:KEPT].tolist(), *order[-KEPT:].tolist()}
        seen = self.ends.get((part, measure), []) + [(float(values[i]), keys[i]) for i in ends]
        seen = sorted(set(seen))
        self.ends[part, measure] = seen if len(seen) <= 2 * KEPT else seen[:KEPT] + seen[-KEPT:]

    def suspects(self, tallies: Callable[[str], Mapping[str, Tally]], number: int) -> list[Suspect]:
        """Up to `number` samples that lie far from the others, the measures taking turns, so that
        none is crowded out. `tallies` gives those of a part by measure."""
        queues: dict[str, list[Suspect]] = {}
        for (part, measure), ends in self.ends.items():
            far = _far(ends, part, measure, tallies(part)[measure])
            queues.setdefault(measure, []).extend(far)
        for queue in queues.values():
            queue.sort(reverse=True)
        chosen: dict[str, Suspect] = {}
        for turn in zip_longest(*queues.values()):
            for suspect in sorted((s for s in turn if s is not None), reverse=True):
                chosen.setdefault(suspect.key, suspect)
        return list(chosen.values())[:number]


def _far(ends: list[tuple[float, str]], part: str, measure: str, tally: Tally) -> list[Suspect]:
    """Those of the ends of a measure that lie far from its median."""
    median = tally.quantile(0.5)
    spread = max((tally.quantile(0.75) - tally.quantile(0.25)) / SPREAD, tally.width)
    found = [Suspect(abs(v - median) / spread, k, part, measure, v, median) for v, k in ends]
    return [
        suspect
        for suspect in found
        if suspect.distance >= FAR and (suspect.value > median or measure not in ONLY_HIGH)
    ]
