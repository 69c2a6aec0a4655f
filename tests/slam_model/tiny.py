"""Small finished corpora and models for the tests of the trainer, made in a moment.

The corpora have the real layout on disk (shards, index.json, corpus.json), written with the
package's own writers; they have no plan and no receipts, which only builds need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.shards.format import FORMAT, fingerprint, npy_bytes, sample_key, seal, shard_name
from unitcorpus.shards.writer import ShardWriter, write_atomic

Units = NDArray[np.uint16]
Row = Mapping[str, Units]
"""{part: units}: {"units": …}, {"prompt": …, "chosen": …, "rejected": …} or {"right", "wrong"}."""

KINDS = {"units": "utterances", "prompt": "pairs", "right": "contrasts"}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    },
    "llama": {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    },
    "gpt_neox": {
        "model_type": "gpt_neox", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256,
        "rotary_pct": 0.25, "tie_word_embeddings": False,
    },
    "opt": {
        "model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 256, "word_embed_proj_dim": 16,
        "dropout": 0.0,
    },
}  # fmt: skip
"""Small models of the four families of the paper, as inline configurations."""


def random_units(rng: np.random.Generator, length: int, size: int = 50) -> Units:
    """Units of which no two neighbours are equal."""
    steps = rng.integers(1, size, length)
    return (steps.cumsum() % size).astype(np.uint16)


def stories(count: int, size: int = 50, seed: int = 0, longest: int = 120) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [{"units": random_units(rng, int(n), size)} for n in rng.integers(1, longest, count)]


def write_corpus(
    root: Path,
    splits: Mapping[str, Sequence[Row]],
    *,
    size: int = 50,
    name: str | None = None,
    metas: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    per_shard: int = 7,
) -> Path:
    """A finished corpus of `splits` in `root`; `metas` adds fields to the JSON of samples."""
    shards = []
    for split, rows in splits.items():
        for number, first in enumerate(range(0, max(len(rows), 1), per_shard)):
            shard = shard_name(split, number)
            extra = (metas or {}).get(split, [{}] * len(rows))[first : first + per_shard]
            shards.append(_shard(root, shard, rows[first : first + per_shard], extra))
    write_atomic(root / "index.json", seal({"wids_version": 1, "shardlist": shards}))
    first_row = next(row for rows in splits.values() for row in rows)
    kind = KINDS[next(iter(first_row))]
    spec = {
        "extractor": {"kind": "published", "name": f"test{size}"},
        "size": size,
        "frame_rate": 25.0,
        "collapsed": True,
        "durations": True,
    }
    info = {
        "format": FORMAT,
        "name": name or root.name,
        "layout": {"kind": kind, "parts": list(first_row)},
        "units": {**spec, "fingerprint": fingerprint(spec)},
        "splits": {split: {"samples": len(rows)} for split, rows in splits.items()},
        "files": {"index.json": fingerprint(shards)},
    }
    write_atomic(root / "corpus.json", seal(info))
    return root


def _shard(
    root: Path, shard: str, rows: Sequence[Row], metas: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    path = root / "data" / f"{shard}.tar"
    with ShardWriter(path) as writer:
        for number, (row, meta) in enumerate(zip(rows, metas, strict=True)):
            key = sample_key(shard, number)
            members = {"json": json.dumps({"id": key, **meta}).encode()}
            for part, units in row.items():
                durations = "durations" if part == "units" else f"{part}_durations"
                members[f"{part}.npy"] = npy_bytes(units)
                members[f"{durations}.npy"] = npy_bytes(np.ones(len(units), np.uint32))
            writer.sample(key, members)
    return {
        "url": f"data/{shard}.tar",
        "nsamples": len(rows),
        "filesize": writer.size,
        "sha256": writer.sha256,
    }
