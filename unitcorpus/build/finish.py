"""The end of a build: receipts become index.json, the card and, last of all, corpus.json.

All three are functions of the plan and the receipts' counts: no timings, hosts, dates or paths.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unitcorpus.build.plan import Plan
from unitcorpus.hub.card import card
from unitcorpus.shards.format import FORMAT, file_sha256, read_sealed, seal
from unitcorpus.shards.receipt import FileMark, Receipt
from unitcorpus.shards.writer import write_atomic

FILES = ("index.json", "plan/plan.json", "codebook.npy")
"""What corpus.json answers for by digest; receipts and request.json carry their own."""


def finish(plan: Plan, root: Path, receipts: list[Receipt]) -> dict[str, Any]:
    """Writes index.json, README.md and corpus.json; returns the content of the last."""
    write_atomic(root / "index.json", seal(index(plan, receipts)))
    corpus = describe_corpus(plan, root, receipts)
    write_atomic(root / "README.md", card(corpus).encode())
    write_atomic(root / "corpus.json", seal(corpus))
    return corpus


def index(plan: Plan, receipts: list[Receipt]) -> dict[str, Any]:
    """The shard list in the layout of webdataset's indexes. Shards without a sample stay in."""
    return {
        "wids_version": 1,
        "name": plan.recipe.name,
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


def describe_corpus(plan: Plan, root: Path, receipts: list[Receipt]) -> dict[str, Any]:
    """The content of corpus.json, from the files in `root` and the receipts in the plan's order."""
    planned = read_sealed(root / "plan" / "plan.json")
    files = {}
    for name in FILES:
        path = root / name
        if path.is_file():
            files[name] = asdict(FileMark(file_sha256(path), path.stat().st_size))
    rejected: Counter[str] = Counter(plan.rejected)
    for receipt in receipts:
        rejected.update(receipt.rejected)
    return {
        "format": FORMAT,
        "name": planned["name"],
        "plan": plan.fingerprint,
        "recipe": planned["recipe"],
        "speech": plan.speech,
        "units": plan.units,
        "splits": {split: _totals(plan, split, receipts) for split in _splits(receipts)},
        "rejected": dict(sorted(rejected.items())),
        "files": files,
    }


def _splits(receipts: list[Receipt]) -> list[str]:
    return list(dict.fromkeys(receipt.split for receipt in receipts))


def _totals(plan: Plan, split: str, receipts: list[Receipt]) -> dict[str, Any]:
    own = [receipt for receipt in receipts if receipt.split == split]
    units = sum(receipt.units for receipt in own)
    frames = sum(receipt.frames for receipt in own)
    num_samples = sum(receipt.num_samples for receipt in own)
    rate = plan.units["extractor"].get("sample_rate")
    seconds = num_samples / rate if rate else frames / plan.units["frame_rate"]
    return {
        "shards": len(own),
        "samples": sum(receipt.samples for receipt in own),
        "num_samples": num_samples,
        "seconds": float(seconds),
        "frames": frames,
        "units": units,
        "bytes": sum(receipt.data.bytes for receipt in own),
    }
