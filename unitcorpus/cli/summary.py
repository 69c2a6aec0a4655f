"""What a finished corpus holds, as the terminal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitcorpus.build.meter import duration
from unitcorpus.shards.layout import LAYOUTS


def summary(corpus: dict[str, Any], root: Path | str) -> str:
    """A few aligned lines, within 80 columns, from the content of corpus.json."""
    units, noun = corpus["units"], LAYOUTS[corpus["layout"]["kind"]].noun
    lines = [
        f"{corpus['name']} in {root}",
        f"  {'':<11}{noun:>11}{'speech':>15}{'units':>16}{'a second':>10}{'shards':>8}",
    ]
    for split, t in corpus["splits"].items():
        length = duration(t["seconds"]) if t["seconds"] else "?"
        rate = f"{t['units'] / t['seconds']:.1f}" if t["seconds"] else "?"
        lines.append(
            f"  {split:<11}{t['samples']:>11,}{length:>15}{t['units']:>16,}{rate:>10}"
            f"{t['shards']:>8,}"
        )
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in corpus["rejected"].items())
    size = sum(t["bytes"] for t in corpus["splits"].values()) / 1e6
    lines.append(f"  {'rejected':<11} {reasons or 'none'}")
    lines.append(f"  {'on disk':<11} {size:,.1f} MB of shards")
    lines.append(
        f"  {'units':<11} {units['size']} clusters, {units['frame_rate']:g} frames a second, "
        f"spec {units['fingerprint'][:12]}"
    )
    return "\n".join(lines)
