"""Receipts: the commit points of a build.

A shard exists when `receipts/SHARD.json` does; the receipt is written last, and names the sha256 of
the data, the rejects and the input. A build skips every shard whose receipt holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unitcorpus.shards.format import FORMAT, DamagedError, file_sha256, read_sealed, seal
from unitcorpus.shards.writer import write_atomic


@dataclass(frozen=True)
class FileMark:
    """What a file must be: sha256 of its bytes, and their number."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Receipt:
    """What a shard holds. `num_samples` counts audio samples, over all its utterances; `seconds`,
    `frames` and `units` likewise. `segments` counts those found in each planned row, where the
    recipe cuts long recordings: 0 for a row that gave none. `timings` (seconds by stage) and `run`
    (batch budget, tries) are of the run that made it and go no further than here."""

    shard: str
    split: str
    plan: str
    unit_spec: str
    input: str
    data: FileMark
    rejects: FileMark
    rejected: dict[str, int]
    samples: int
    num_samples: int
    frames: int
    units: int
    audio: FileMark | None = None
    segments: list[int] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The planned rows that it is done with."""
        if self.segments is not None:
            return len(self.segments)
        return self.samples + sum(self.rejected.values())


def receipt_path(root: Path, shard: str) -> Path:
    return root / "receipts" / f"{shard}.json"


def data_path(root: Path, shard: str) -> Path:
    return root / "data" / f"{shard}.tar"


def audio_path(root: Path, shard: str) -> Path:
    return root / "audio" / f"{shard}.tar"


def rejects_path(root: Path, shard: str) -> Path:
    return root / "rejects" / f"{shard}.jsonl"


def write_receipt(root: Path, receipt: Receipt) -> None:
    write_atomic(receipt_path(root, receipt.shard), seal({"format": FORMAT, **asdict(receipt)}))


def read_receipt(root: Path, shard: str) -> Receipt:
    """Raises DamagedError where it is missing, changed, or of another format."""
    value = read_sealed(receipt_path(root, shard))
    name = f"receipts/{shard}.json"
    if value.pop("format", None) != FORMAT:
        raise DamagedError(f"{name} is of another format version")
    try:
        for key in ("data", "rejects", "audio"):
            value[key] = FileMark(**value[key]) if value[key] else None
        receipt = Receipt(**value)
        check_receipt(receipt)
    except (TypeError, KeyError, AttributeError, DamagedError):
        raise DamagedError(f"{name} is not a receipt of this version") from None
    return receipt


def check_receipt(receipt: Receipt) -> None:
    """Raises DamagedError where a field is not of its type."""
    marks = [mark for mark in (receipt.data, receipt.rejects, receipt.audio) if mark is not None]
    counts = [receipt.samples, receipt.num_samples, receipt.frames, receipt.units]
    counts += [*(mark.bytes for mark in marks), *receipt.rejected.values()]
    counts += [] if receipt.segments is None else receipt.segments
    words = [receipt.shard, receipt.split, receipt.plan, receipt.unit_spec, receipt.input]
    words += [*(mark.sha256 for mark in marks), *receipt.rejected, *receipt.timings]
    sound = (
        receipt.data is not None
        and receipt.rejects is not None
        and all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(word, str) for word in words)
        and all(type(seconds) in (int, float) for seconds in receipt.timings.values())
        and isinstance(receipt.run, dict)
    )
    if not sound:
        raise DamagedError("a field is not of its type")


def committed(
    root: Path, shard: str, plan: str, size: Callable[[str], int | None] | None = None
) -> Receipt | None:
    """The receipt of a shard, if it is of this plan and its files are there with the right size.

    `size` gives the bytes of a file by its name, or None, where the files are not in `root`.
    """
    try:
        receipt = read_receipt(root, shard)
    except DamagedError:
        return None
    if receipt.plan != plan or receipt.shard != shard:
        return None
    for path, mark in marked_files(root, receipt):
        try:
            found = path.stat().st_size if size is None else size(f"{path.parent.name}/{path.name}")
        except OSError:
            return None
        if found != mark.bytes:
            return None
    return receipt


def marked_files(root: Path, receipt: Receipt) -> list[tuple[Path, FileMark]]:
    """The files that a receipt answers for."""
    marks = [
        (data_path(root, receipt.shard), receipt.data),
        (rejects_path(root, receipt.shard), receipt.rejects),
    ]
    if receipt.audio is not None:
        marks.append((audio_path(root, receipt.shard), receipt.audio))
    return marks


def check_mark(path: Path, mark: FileMark) -> str | None:
    """What is wrong with a marked file, or None."""
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != mark.bytes:
        return f"{name} has {path.stat().st_size} bytes, its receipt says {mark.bytes}"
    if file_sha256(path) != mark.sha256:
        return f"{name} was changed: its sha256 is not the one in its receipt"
    return None
