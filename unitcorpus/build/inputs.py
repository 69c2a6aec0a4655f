"""Shard inputs: `plan/inputs/SHARD.parquet`, all that a worker needs to build a shard.

Columns: key, id, text, and `voice` where the text is to be spoken, or `units` and `durations` where
units were published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.recipe.models import Recipe
from unitcorpus.seeds import pick
from unitcorpus.shards.format import DamagedError, sample_key


@dataclass(frozen=True, slots=True)
class Input:
    """One planned row."""

    key: str
    id: str
    text: str
    voice: str = ""
    units: NDArray[np.uint16] | None = None
    durations: NDArray[np.uint32] | None = None


def plan_rows(
    shard: str, rows: Sequence[tuple[str, bytes]], recipe: Recipe
) -> list[dict[str, Any]]:
    """The input rows of a shard, from the (id, payload) pairs of the spool."""
    planned = []
    for number, (name, payload) in enumerate(rows):
        row = {"key": sample_key(shard, number), "id": name, **json.loads(payload)}
        if recipe.speech is not None:
            row["voice"] = pick(recipe.seed, recipe.speech.voices, "voice", name)
        planned.append(row)
    return planned


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
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"plan/inputs/{path.name} cannot be read: {error}") from None
    return [_input(row) for row in rows]


def _input(row: dict[str, Any]) -> Input:
    if "units" in row:
        row["units"] = np.array(row["units"], np.uint16)
    if row.get("durations") is not None:
        row["durations"] = np.array(row["durations"], np.uint32)
    return Input(**row)
