"""Shard inputs: `plan/inputs/SHARD.parquet`, all that a worker needs to build a shard.

Columns: key, id, text, and `voice` where the text is to be spoken, or `units` and `durations` where
units were published.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.shards.format import DamagedError


@dataclass(frozen=True, slots=True)
class Input:
    """One planned row."""

    key: str
    id: str
    text: str
    voice: str = ""
    units: NDArray[np.uint16] | None = None
    durations: NDArray[np.uint32] | None = None


def input_bytes(rows: list[dict[str, Any]]) -> bytes:
    """The parquet file of a shard's rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "key": pa.string(),
        "id": pa.string(),
        "text": pa.string(),
        "voice": pa.string(),
        "units": pa.list_(pa.uint16()),
        "durations": pa.list_(pa.uint32()),
    }
    schema = pa.schema([(name, kind) for name, kind in types.items() if name in rows[0]])
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def input_path(root: Path, shard: str) -> Path:
    return root / "plan" / "inputs" / f"{shard}.parquet"


def read_inputs(root: Path, shard: str) -> list[Input]:
    """The rows of a shard. Raises DamagedError where the file is missing or cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = input_path(root, shard)
    try:
        return [_input(row) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise DamagedError(f"plan/inputs/{path.name} cannot be read: {error}") from None


def _input(row: dict[str, Any]) -> Input:
    if "units" in row:
        row["units"] = np.array(row["units"], np.uint16)
    if row.get("durations") is not None:
        row["durations"] = np.array(row["durations"], np.uint32)
    return Input(**row)
