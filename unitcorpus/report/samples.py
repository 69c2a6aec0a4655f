"""The samples that a page shows: some drawn at random, and those furthest from the others."""

from __future__ import annotations

from dataclasses import dataclass

from unitcorpus.report.stats import Statistics
from unitcorpus.report.suspects import Suspect
from unitcorpus.shards.reader import Corpus, Sample

DRAWN, SUSPECTS = 20, 10
"""How many samples are shown: drawn at random, and suspicious ones at most."""


@dataclass(frozen=True)
class Shown:
    """A sample on the page; `suspect` says why it is there if it was not drawn."""

    sample: Sample
    suspect: Suspect | None = None


def choose(corpus: Corpus, statistics: Statistics) -> list[Shown]:
    """The samples to show: those drawn at random, then the suspicious ones, furthest first."""
    suspects = statistics.extremes.suspects(lambda part: statistics.parts[part].tallies, SUSPECTS)
    shown = {suspect.key for suspect in suspects}
    drawn = [key for key in statistics.draw.keys if key not in shown][:DRAWN]
    return [
        *(Shown(corpus[key]) for key in drawn),
        *(Shown(corpus[suspect.key], suspect) for suspect in suspects),
    ]
