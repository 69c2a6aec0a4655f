"""What corpus.json, index.json and plan.json must be before anything in them is believed.

A digest says that a file is as somebody wrote it, not who. So that a corpus from anywhere can be
opened, the fields that code relies on are checked here once: types, and names that become paths.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.layout import LAYOUTS

SHARD = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f.]*-\d{6,12}")
"""A shard's name: of a split and a number, and never a path."""

HEX = re.compile(r"[0-9a-f]{64}")


def read_plan_file(root: Path) -> dict[str, Any]:
    """The content of plan/plan.json. Raises DamagedError."""
    plan = read_sealed(root / "plan" / "plan.json")
    sound = (
        _is_corpus(plan)
        and isinstance(plan.get("fingerprint"), str)
        and isinstance(plan.get("recipe"), dict)
        and isinstance(plan.get("speech"), dict | None)
        and _are_counts(plan.get("rejected"))
        and isinstance(plan.get("shards"), list)
        and all(map(_is_planned, plan["shards"]))
        and len({shard["name"] for shard in plan["shards"]}) == len(plan["shards"])
    )
    if not sound:
        raise DamagedError("plan/plan.json is not a plan of this version")
    return plan


def check_corpus(info: dict[str, Any]) -> None:
    """Raises DamagedError where the content of a corpus.json lacks what a reader relies on."""
    splits = info.get("splits")
    if not (_is_corpus(info) and isinstance(splits, dict) and all(map(_is_split, splits.values()))):
        raise DamagedError("corpus.json is not of this format")


def check_index(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The shards that an index.json lists. Raises DamagedError."""
    shards = value.get("shardlist")
    if not isinstance(shards, list) or not all(map(_is_listed, shards)):
        raise DamagedError("index.json is not of this format")
    return shards


def _is_corpus(value: dict[str, Any]) -> bool:
    """What plan.json and corpus.json have in common."""
    layout, units = value.get("layout"), value.get("units")
    return (
        isinstance(value.get("name"), str)
        and isinstance(layout, dict)
        and isinstance(layout.get("kind"), str)
        and layout["kind"] in LAYOUTS
        and isinstance(units, dict)
        and _is_spec(units)
    )


def _is_spec(units: dict[str, Any]) -> bool:
    extractor, codebook = units.get("extractor"), units.get("codebook", {})
    if not isinstance(extractor, dict) or not isinstance(codebook, dict):
        return False
    rate, size = extractor.get("sample_rate", 0), units.get("size")
    frame_rate = units.get("frame_rate", 0)
    return (
        isinstance(units.get("fingerprint"), str)
        and type(size) is int
        and 1 <= size <= 65_536
        and type(rate) is int
        and rate >= 0
        and type(frame_rate) in (int, float)
        and 0.0 < frame_rate <= 100_000
        and all(type(units.get(key)) is bool for key in ("collapsed", "durations"))
    )


def _is_planned(shard: Any) -> bool:
    return (
        isinstance(shard, dict)
        and shard.keys() == {"name", "split", "rows", "sha256"}
        and _is_name(shard["name"])
        and isinstance(shard["split"], str)
        and _is_count(shard["rows"])
        and isinstance(shard["sha256"], str)
        and HEX.fullmatch(shard["sha256"]) is not None
    )


def _is_listed(shard: Any) -> bool:
    if not isinstance(shard, dict) or not isinstance(shard.get("url"), str):
        return False
    folder, _, name = shard["url"].removesuffix(".tar").partition("/")
    counts = shard.get("nsamples"), shard.get("filesize")
    return folder == "data" and _is_name(name) and all(map(_is_count, counts))


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and SHARD.fullmatch(name) is not None


def _is_split(split: Any) -> bool:
    return isinstance(split, dict) and _is_count(split.get("samples"))


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
