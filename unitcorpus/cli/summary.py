"""What a finished corpus holds, as the terminal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitcorpus.build.meter import duration


def summary(corpus: dict[str, Any], root: Path) -> str:
    """A few aligned lines from the content of corpus.json."""
    units = corpus["units"]
    lines = [f"{corpus['name']} in {root}"]
    for split, t in corpus["splits"].items():
        length = f"{duration(t['seconds'])} of speech, " if t["seconds"] else ""
        rate = f" ({t['units'] / t['seconds']:.1f} a second)" if t["seconds"] else ""
        lines.append(
            f"  {split:<11} {t['samples']:,} utterances, {length}{t['units']:,} units{rate}, "
            f"{t['shards']:,} shards, {t['bytes'] / 1e6:,.1f} MB"
        )
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in corpus["rejected"].items())
    lines.append(f"  rejected    {reasons or 'none'}")
    lines.append(
        f"  units       {units['size']} clusters, {units['frame_rate']:g} frames a second, "
        f"spec {units['fingerprint'][:12]}"
    )
    return "\n".join(lines)
