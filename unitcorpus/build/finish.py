"""The end of a build: receipts become index.json, the card and, last of all, corpus.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitcorpus.hub.card import card
from unitcorpus.shards.format import seal
from unitcorpus.shards.manifest import index, manifest
from unitcorpus.shards.receipt import Receipt
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.writer import write_atomic


def finish(root: Path, receipts: list[Receipt]) -> dict[str, Any]:
    """Writes index.json, README.md and corpus.json; returns the content of the last.

    A card that is there stays: people edit it.
    """
    plan = read_plan_file(root)
    shards = index(plan, receipts)
    write_atomic(root / "index.json", seal(shards))
    corpus = manifest(plan, receipts, root)
    if not (root / "README.md").exists():
        write_atomic(root / "README.md", card(corpus, shards).encode())
    write_atomic(root / "corpus.json", seal(corpus))
    return corpus
