"""index.json and corpus.json from a plan and its receipts.

The build writes them, verify makes them again and compares. No timings, hosts, dates or paths.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unitcorpus.shards.format import FORMAT, file_sha256
from unitcorpus.shards.receipt import FileMark, Receipt

FILES = ("index.json", "plan/plan.json", "codebook.npy")
"""What corpus.json answers for by digest; receipts and request.json carry their own."""


def index(plan: dict[str, Any], receipts: list[Receipt]) -> dict[str, Any]:
    """The shard list in the layout of webdataset's indexes. Shards without a sample stay in."""
    return {
        "wids_version": 1,
        "name": plan["name"],
        "shardlist": [
            {
                "url": f"data/{receipt.shard}.tar",
                "nsamples": receipt.samples,
                "filesize": receipt.data.bytes,
                "sha256": receipt.data.sha256,
            }
            for receipt in receipts
        ],
    }


def manifest(plan: dict[str, Any], receipts: list[Receipt], root: Path) -> dict[str, Any]:
    """The content of corpus.json: of plan.json, of the receipts in the plan's order, and of the
    files of FILES that lie in `root`. A cleaned corpus says what it was made from in `cleaned`,
    one whose filters compare transcripts who wrote them in `asr`."""
    names = FILES if "codebook" in plan["units"] else FILES[:-1]
    rejected: Counter[str] = Counter(plan["rejected"])
    for receipt in receipts:
        rejected.update(receipt.rejected)
    splits = dict.fromkeys(receipt.split for receipt in receipts)
    return {
        "format": FORMAT,
        "name": plan["name"],
        "plan": plan["fingerprint"],
        "recipe": plan["recipe"],
        "layout": plan["layout"],
        "speech": plan["speech"],
        "units": plan["units"],
        "splits": {split: _totals(plan["units"], split, receipts) for split in splits},
        "rejected": dict(sorted(rejected.items())),
        "files": {name: _mark(root / name) for name in names},
        **{name: plan[name] for name in ("asr", "cleaned") if name in plan},
    }


def _mark(path: Path) -> dict[str, Any]:
    return asdict(FileMark(file_sha256(path), path.stat().st_size))


def _totals(units: dict[str, Any], split: str, receipts: list[Receipt]) -> dict[str, Any]:
    own = [receipt for receipt in receipts if receipt.split == split]
    frames = sum(receipt.frames for receipt in own)
    num_samples = sum(receipt.num_samples for receipt in own)
    rate = units["extractor"].get("sample_rate")
    return {
        "shards": len(own),
        "samples": sum(receipt.samples for receipt in own),
        "num_samples": num_samples,
        "seconds": float(num_samples / rate if rate else frames / units["frame_rate"]),
        "frames": frames,
        "units": sum(receipt.units for receipt in own),
        "bytes": sum(receipt.data.bytes for receipt in own),
    }
