"""The rows that were left out, by reason, each reason with a few examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = 3
"""Lines shown of each reason."""


@dataclass
class Reason:
    """`lines` are reject lines as docs/format.md has them."""

    name: str
    count: int
    lines: list[dict[str, Any]] = field(default_factory=list)


def reasons(root: Path, rejected: dict[str, int]) -> list[Reason]:
    """The reasons of corpus.json's `rejected`, the commonest first, with examples from the files
    in `root`, as far as they are there."""
    found = {name: Reason(name, count) for name, count in rejected.items()}
    wanting = set(found)
    for line in _lines(root):
        reason = found.get(line.get("reason", ""))
        if reason is not None and len(reason.lines) < EXAMPLES:
            reason.lines.append(line)
            if len(reason.lines) == EXAMPLES:
                wanting.discard(reason.name)
        if not wanting:
            break
    return sorted(found.values(), key=lambda reason: (-reason.count, reason.name))


def _lines(root: Path) -> Iterator[dict[str, Any]]:
    for path in (root / "plan" / "rejects.jsonl", *sorted((root / "rejects").glob("*.jsonl"))):
        if path.is_file():
            with path.open("rb") as stream:
                yield from (json.loads(line) for line in stream)
