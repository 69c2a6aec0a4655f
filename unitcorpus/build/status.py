"""The state of a build from its folder alone: running, stopped or finished.

Receipts say what is done. What is in hand is told by the running driver in `.progress.json`; the
kernel's lock says whether there is one.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from unitcorpus.build.lock import holder
from unitcorpus.build.meter import duration
from unitcorpus.build.progress import STATE
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.receipt import committed


def status(root: Path) -> dict[str, Any]:
    """Everything known of a build, as plain data. Raises UnitcorpusError where there is none."""
    who = holder(root) if root.is_dir() else None
    try:
        plan = read_sealed(root / "plan" / "plan.json")
    except DamagedError as error:
        if who is None:
            raise UnitcorpusError(f"{root} holds no build: {error}") from None
        return {"state": "planning", "by": who}
    found = [committed(root, shard["name"], plan["fingerprint"]) for shard in plan["shards"]]
    receipts = [receipt for receipt in found if receipt is not None]
    rejected = Counter(plan["rejected"])
    for receipt in receipts:
        rejected.update(receipt.rejected)
    rate = plan["units"]["extractor"].get("sample_rate")
    frames = sum(r.frames for r in receipts) / plan["units"]["frame_rate"]
    seconds = sum(r.num_samples for r in receipts) / rate if rate else frames
    told = _told(root)
    finished = (root / "corpus.json").is_file() and len(receipts) == len(plan["shards"])
    return {
        "state": "running" if who else "finished" if finished else "stopped",
        "by": who,
        "name": plan["name"],
        "shards": len(plan["shards"]),
        "shards_done": len(receipts),
        "shards_failed": told.get("aside", {}),
        "rows": sum(shard["rows"] for shard in plan["shards"]),
        "rows_done": sum(r.rows for r in receipts),
        "seconds": float(seconds),
        "units": sum(r.units for r in receipts),
        "rejected": dict(sorted(rejected.items())),
        "running": told if who else None,
    }


def _told(root: Path) -> dict[str, Any]:
    """What the driver last said of itself; a killed one leaves its last word behind."""
    try:
        value: dict[str, Any] = json.loads((root / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return value


def describe_status(root: Path, found: dict[str, Any]) -> str:
    """`status` for people."""
    if found["state"] == "planning":
        return f"{root}: planning, by {_by(found['by'])}"
    by = f", by {_by(found['by'])}" if found["by"] else ""
    lines = [
        f"{found['name']} in {root}: {found['state']}{by}",
        f"  shards    {found['shards_done']:,} of {found['shards']:,}",
        f"  rows      {found['rows_done']:,} of {found['rows']:,}",
        f"  speech    {duration(found['seconds'])}, {found['units']:,} units",
        "  rejected  " + (", ".join(f"{n:,} {r}" for r, n in found["rejected"].items()) or "none"),
    ]
    if running := found["running"]:
        hand = ", ".join(f"{name} ({rows} rows)" for name, rows in running["in_hand"].items())
        speed = running["speech_per_second"] / 60
        lines.append(f"  in hand   {hand or 'none'}")
        lines.append(f"  rate      {speed:.2f} h/min, ETA {duration(running['eta'])}")
    for shard, error in found["shards_failed"].items():
        lines.append(f"  failed    {shard}: {error}")
    if found["state"] == "stopped":
        lines.append("  run the same build command to go on")
    return "\n".join(lines)


def _by(who: dict[str, Any]) -> str:
    return f"process {who['pid']} on {who['host']} since {who['since']}"
