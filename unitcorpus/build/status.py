"""The state of a build from its folder, or URL, alone: running, stopped or finished.

Receipts say what is done. What is in hand is told by the running driver in `.progress.json`; the
kernel's lock says whether there is one.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unitcorpus.build.lock import holder
from unitcorpus.build.meter import duration
from unitcorpus.build.progress import STATE
from unitcorpus.build.remote import Remote
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.receipt import committed
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.store import folder_of, is_url


def status(where: Path | str) -> dict[str, Any]:
    """Everything known of a build in a folder or at a URL, as plain data; of one at a URL that
    others run, only what is there. Raises UnitcorpusError where there is none."""
    if not is_url(where):
        root = folder_of(where)
        return _status(root, root, where)
    remote = Remote(str(where))
    with TemporaryDirectory(prefix="unitcorpus-") as folder:
        copy = Remote(remote.url, Path(folder))
        copy.pull()
        return _status(copy.root, remote.root, where, copy)


def _status(
    root: Path, home: Path, where: Path | str, remote: Remote | None = None
) -> dict[str, Any]:
    """The state by the files in `root` or at `remote`, and by what a driver leaves in `home`."""
    who = holder(home) if home.is_dir() else None
    try:
        plan = read_plan_file(root)
    except DamagedError as error:
        if who is None:
            raise UnitcorpusError(f"{where} holds no build: {error}") from None
        return {"state": "planning", "by": who}
    names = [shard["name"] for shard in plan["shards"]]
    size = remote.receipts(names) if remote else None
    found = [committed(root, name, plan["fingerprint"], size) for name in names]
    receipts = [receipt for receipt in found if receipt is not None]
    rejected = Counter(plan["rejected"])
    for receipt in receipts:
        rejected.update(receipt.rejected)
    rate = plan["units"]["extractor"].get("sample_rate")
    frames = sum(r.frames for r in receipts) / plan["units"]["frame_rate"]
    seconds = sum(r.num_samples for r in receipts) / rate if rate else frames
    told = _told(home)
    whole = size("corpus.json") is not None if size else (root / "corpus.json").is_file()
    finished = whole and len(receipts) == len(names)
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


def describe_status(root: Path | str, found: dict[str, Any]) -> str:
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
