"""Shard inputs: `plan/inputs/SHARD.parquet`, all that a worker needs to build a shard.

Columns: key, id; `voice` (a voice to speak with, or a speaker's name) and `group`, where there is
one; and of each part `text`, `units` and `durations` where units were published, `audio` (a path
below the source's) and `audio_bytes` where it was recorded, with `start` and `end` in seconds where
only a stretch of the file is meant, and `offset` in bytes where it is a member of an archive.
Several parts carry their name before the column's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.layout import Layout

MAX_INPUT = 1 << 33
MAX_ROWS = 1_000_000
"""Bytes, uncompressed, and rows of an input: a file that claims more is refused unread."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One utterance of a planned row: a text to speak, units as published, or a recording."""

    text: str = ""
    units: NDArray[np.uint16] | None = None
    durations: NDArray[np.uint32] | None = None
    audio: str = ""
    audio_bytes: int = 0
    start: float | None = None
    end: float | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One planned row. `parts` in the layout's order."""

    key: str
    id: str
    parts: Mapping[str, PlannedPart]
    voice: str = ""
    group: str = ""

    @property
    def text(self) -> str:
        """The texts of all parts, one a line: what a person sees of a row."""
        return "\n".join(part.text for part in self.parts.values())


def segment_key(key: str, number: int) -> str:
    """The key of a segment of a row: `train-000000-000042-000007`."""
    return f"{key}-{number:06d}"


def segment(row: Input, number: int, start: float, end: float) -> Input:
    """A segment of a row of one recording, as a row of its own; times in seconds of the file. The
    row's text is that of the whole, so a segment has none."""
    [(name, part)] = row.parts.items()
    own = replace(part, text="", start=start, end=end)
    ident = f"{row.id}-{number:06d}"
    return replace(row, key=segment_key(row.key, number), id=ident, parts={name: own})


def input_bytes(rows: list[dict[str, Any]], layout: Layout) -> bytes:
    """The parquet file of a shard's rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Any] = {name: pa.string() for name in ("key", "id", "voice", "group")}
    of_part = {
        "text": pa.string(),
        "units": pa.list_(pa.uint16()),
        "durations": pa.list_(pa.uint32()),
        "audio": pa.string(),
        "audio_bytes": pa.int64(),
        "start": pa.float64(),
        "end": pa.float64(),
        "offset": pa.int64(),
    }
    for part in layout.parts:
        types |= {layout.field(part, name): kind for name, kind in of_part.items()}
    schema = pa.schema([(name, kind) for name, kind in types.items() if name in rows[0]])
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def input_path(root: Path, shard: str) -> Path:
    return root / "plan" / "inputs" / f"{shard}.parquet"


def read_inputs(root: Path, shard: str, layout: Layout) -> list[Input]:
    """The rows of a shard. Raises DamagedError where the file is missing or cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = input_path(root, shard)
    try:
        with pq.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(n).total_byte_size for n in groups)
            if size > MAX_INPUT or file.metadata.num_rows > MAX_ROWS:
                raise DamagedError(f"plan/inputs/{path.name} is too large to be ours")
            return [_input(row, layout) for row in file.read().to_pylist()]
    except (OSError, pa.ArrowException, TypeError, LookupError, ValueError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedError(f"plan/inputs/{path.name} cannot be read: {said}") from None


def _input(row: dict[str, Any], layout: Layout) -> Input:
    parts = {part: _part(row, layout, part) for part in layout.parts}
    return Input(row["key"], row["id"], parts, row.get("voice", ""), row.get("group", ""))


def _part(row: dict[str, Any], layout: Layout, part: str) -> PlannedPart:
    units, durations = (row.get(layout.field(part, name)) for name in ("units", "durations"))
    return PlannedPart(
        row[layout.field(part, "text")],
        None if units is None else np.array(units, np.uint16),
        None if durations is None else np.array(durations, np.uint32),
        row.get(layout.field(part, "audio"), ""),
        row.get(layout.field(part, "audio_bytes"), 0),
        row.get(layout.field(part, "start")),
        row.get(layout.field(part, "end")),
        row.get(layout.field(part, "offset")),
    )
