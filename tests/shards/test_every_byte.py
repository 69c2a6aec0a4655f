"""`verify` answers for every byte: whatever is changed, wherever, is found and its file named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from unit_corpora import build_units, random_units

from unitcorpus.build.repair import repair
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.verify import verify

REPAIRED = ("corpus.json", "index.json", "data", "rejects", "receipts")
"""What can be made again from the plan."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three shards of published units, with rejects in the plan."""
    rng = np.random.default_rng(5)
    rows = [
        {
            "id": f"r{n}",
            "units": random_units(rng, 12),
            "duration": [1 + n] * 12,
            "text": f"row {n}",
        }
        for n in range(8)
    ]
    return build_units(tmp_path / "c", [*rows, {"id": "bad", "units": []}], samples=3)


def covered(root: Path) -> list[Path]:
    """Every file but the card, which people edit, and hidden ones."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name[0] != "."]
    return sorted(p for p in files if p.name != "README.md" and p.stat().st_size)


def found_and_named(root: Path, path: Path) -> bool:
    try:
        problems = verify(root)
    except UnitcorpusError as error:
        problems = [str(error)]
    return any(path.name in problem for problem in problems)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def damages(data: bytes, draw: random.Random, number: int) -> list[bytes]:
    """The bytes with a bit flipped, a byte lost or doubled, a stretch zeroed, or cut off."""
    made = []
    for _ in range(number):
        at = draw.randrange(len(data))
        made += [
            flipped(data, at, draw.randrange(8)),
            data[:at] + data[at + 1 :],
            data[:at] + data[at : at + 1] + data[at:],
            data[:at],
        ]
        if data[at : at + 40].strip(b"\0"):
            made.append(data[:at] + bytes(len(data[at : at + 40])) + data[at + 40 :])
    return made


@pytest.mark.parametrize("number", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_random_damage_to_any_file_is_found_and_named(corpus: Path, number: int) -> None:
    draw = random.Random(11)
    for path in covered(corpus):
        data = path.read_bytes()
        for damaged in damages(data, draw, number):
            path.write_bytes(damaged)
            assert found_and_named(corpus, path), (path.name, damaged[:80])
        path.write_bytes(data)
    assert verify(corpus) == []


@pytest.mark.slow
def test_every_single_byte_of_every_file_is_answered_for(corpus: Path) -> None:
    """Exhaustive but for the zeros that fill up a tar: there, one in sixteen."""
    for path in covered(corpus):
        data = path.read_bytes()
        for at in range(len(data)):
            if path.suffix == ".tar" and not data[at] and at % 16:
                continue
            path.write_bytes(flipped(data, at, at % 8))
            assert found_and_named(corpus, path), (path.name, at)
        path.write_bytes(data)
    assert verify(corpus) == []


def test_repair_makes_the_damaged_shards_again_and_touches_no_other(corpus: Path) -> None:
    draw = random.Random(12)
    before = {path: path.read_bytes() for path in covered(corpus)}
    for path in covered(corpus):
        if path.relative_to(corpus).parts[0] not in REPAIRED:
            continue
        for damaged in damages(before[path], draw, 1):
            whole = {p: p.stat().st_mtime_ns for p in covered(corpus / "data") if p != path}
            path.write_bytes(damaged)
            shard = path.stem if path.parent != corpus else None
            assert repair(corpus) == ([shard] if shard else [])
            for other, stamp in whole.items():
                assert other.stem == shard or other.stat().st_mtime_ns == stamp
            now = {p: p.read_bytes() for p in covered(corpus) if p.parent.name != "receipts"}
            assert now == {p: d for p, d in before.items() if p.parent.name != "receipts"}
    assert verify(corpus) == []
