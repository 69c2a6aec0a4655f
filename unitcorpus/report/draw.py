"""Samples drawn at random: a function of (seed, key), so that the same corpus shows the same ones,
however it was built and read."""

from __future__ import annotations

from dataclasses import dataclass, field

from unitcorpus.seeds import seed_of

KEPT = 30
"""How many keys are kept: those to show, and some in place of those shown anyway."""


@dataclass
class Draw:
    """The `number` keys with the smallest hash, of all that were seen."""

    seed: int
    number: int = KEPT
    smallest: list[tuple[int, str]] = field(default_factory=list)

    def see(self, keys: list[str]) -> None:
        hashed = [(seed_of(self.seed, "report", key), key) for key in keys]
        self.smallest = sorted([*self.smallest, *hashed])[: self.number]

    @property
    def keys(self) -> list[str]:
        return [key for _, key in self.smallest]
