"""Published units: passed on exactly, or marked bad; never repaired."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.recipe.sources import UnitsSource
from unitcorpus.sources.base import BadRow, PartedRow, Row
from unitcorpus.sources.units import UnitRows

UNITS = st.lists(st.integers(0, 65_535), min_size=1, max_size=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def read(folder: Path, *lines: Any, limit: int | None = None) -> list[Row | BadRow]:
    path = folder / "units.jsonl"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    rows = list(UnitRows(UnitsSource(path=str(path), limit=limit), 0).rows())
    assert all(isinstance(row, Row | BadRow) for row in rows)
    return rows  # type: ignore[return-value]


def one(folder: Path, line: Any) -> Row:
    [row] = read(folder, line)
    assert isinstance(row, Row), row
    assert row.units is not None
    assert row.units.dtype == np.int64
    return row


def problem(folder: Path, line: Any) -> str:
    [row] = read(folder, line)
    assert isinstance(row, BadRow), row
    assert row.where == "line 1"
    assert row.detail
    assert "\n" not in row.detail
    return row.reason


@settings(max_examples=80, deadline=None)
@given(units=UNITS, seed=st.integers(0, 9))
def test_both_layouts_give_the_units_as_published(
    units: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("units")
    durations = np.random.default_rng(seed).integers(1, 9, len(units)).tolist()
    listed = one(folder, {"id": "a", "units": units, "duration": durations})
    spelt = one(folder, {"id": "a", "audio_repr": "".join(f"<Un{u}>" for u in units)})
    assert listed.units is not None
    assert spelt.units is not None
    assert listed.durations is not None
    assert listed.units.tolist() == spelt.units.tolist() == units
    assert listed.durations.tolist() == durations
    assert listed.durations.dtype == np.int64
    assert spelt.durations is None


@settings(max_examples=200, deadline=None)
@given(units=JSON, durations=JSON, spelt=JSON)
def test_no_json_value_does_worse_than_a_bad_row(
    units: Any, durations: Any, spelt: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line = {"units": units, "durations": durations, "audio_repr": spelt}
    [row] = read(tmp_path_factory.mktemp("units"), line)
    if isinstance(row, Row):
        assert row.units is not None
        assert len(row.units) > 0
        assert row.durations is None or len(row.durations) == len(row.units)


def test_ids_and_texts_come_from_their_fields(tmp_path: Path) -> None:
    assert one(tmp_path, {"units": [1], "id": 7, "file_name": "a.flac"}).id == "7"
    assert one(tmp_path, {"units": [1], "id": None, "file_name": "a.flac"}).id == "a.flac"
    assert one(tmp_path, {"units": [1]}).id == ""
    assert one(tmp_path, {"units": [1], "text": "A fox."}).text == "A fox."
    assert one(tmp_path, {"units": [1], "text": 3}).text == ""


def test_repeated_units_are_not_collapsed(tmp_path: Path) -> None:
    units = one(tmp_path, {"units": [17, 17, 17, 296, 296]}).units
    assert units is not None
    assert units.tolist() == [17, 17, 17, 296, 296]


def test_seconds_named_duration_are_no_run_lengths(tmp_path: Path) -> None:
    assert one(tmp_path, {"units": [1, 2], "duration": 12.5}).durations is None
    assert one(tmp_path, {"units": [1, 2], "duration": 12}).durations is None
    assert problem(tmp_path, {"units": [1, 2], "durations": 12.5}) == "bad_durations"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"units": [1', "malformed_json"),
        ("[1, 2]", "malformed_json"),
        ({"id": "a"}, "missing_units"),
        ({"units": None}, "missing_units"),
        ({"units": []}, "bad_units"),
        ({"units": "1 2"}, "bad_units"),
        ({"units": [1, 2.0]}, "bad_units"),
        ({"units": [1, True]}, "bad_units"),
        ({"units": [1, None]}, "bad_units"),
        ({"units": [1, -1]}, "bad_units"),
        ({"units": [1, 65_536]}, "bad_units"),
        ({"units": [1, 10**30]}, "bad_units"),
        ({"audio_repr": 3}, "bad_units"),
        ({"audio_repr": ""}, "bad_units"),
        ({"audio_repr": "3 49 7"}, "bad_units"),
        ({"audio_repr": "<Un3><Un-1>"}, "bad_units"),
        ({"audio_repr": "<Un3>, <Un4>"}, "bad_units"),
        ({"audio_repr": "<Un3><Un4"}, "bad_units"),
        ({"audio_repr": "<Un65536>"}, "bad_units"),
        ({"audio_repr": f"<Un{'9' * 5000}>"}, "bad_units"),
        ({"audio_repr": "<Un\u0663>"}, "bad_units"),
        ({"units": [1, 2], "duration": [1]}, "bad_durations"),
        ({"units": [1, 2], "duration": [1, 0]}, "bad_durations"),
        ({"units": [1, 2], "duration": [1, 1.5]}, "bad_durations"),
        ({"units": [1, 2], "duration": [1, True]}, "bad_durations"),
        ({"units": [1, 2], "duration": [1, 2**32]}, "bad_durations"),
        ({"units": [1, 2], "duration": "1 1"}, "bad_durations"),
        ({"units": [1, 2], "durations": []}, "bad_durations"),
        ('{"units": [1], "text": "\\ud83d"}', "not_text"),
    ],
)
def test_a_row_that_is_no_unit_sequence_is_bad(line: Any, reason: str, tmp_path: Path) -> None:
    assert problem(tmp_path, line) == reason


def test_the_largest_values_that_shards_can_hold_are_good(tmp_path: Path) -> None:
    row = one(tmp_path, {"units": [65_535], "durations": [2**32 - 1]})
    assert row.durations is not None
    assert row.durations.tolist() == [2**32 - 1]


def test_compression_limit_and_identity_are_those_of_files(tmp_path: Path) -> None:
    data = gzip.compress(b'{"units": [1]}\nbroken\n{"units": [2]}\n', mtime=0)
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    source = UnitRows(UnitsSource(path=str(tmp_path / "a.jsonl.gz"), limit=2), 0)
    assert [type(row) for row in source.rows()] == [Row, BadRow]
    assert source.identity() == {
        "kind": "units",
        "format": "jsonl",
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "limit": 2,
    }


PAIR = {
    "speaker": "af_heart",
    "prompt_text": "A.",
    "prompt": "<Un1><Un2>",
    "chosen": [3, 4],
    "rejected": [5],
}


def test_parquet_and_its_folders_give_the_pairs_of_jsonl(tmp_path: Path) -> None:
    """As data sets of the Hub are kept; a folder's splits are those of its files' names."""
    texts = [{**PAIR, "prompt": "<Un7>" * n, "chosen": "<Un3>"} for n in range(1, 4)]
    lists = [{**PAIR, "prompt": [n, 2], "prompt_durations": [1, n]} for n in range(1, 4)]
    for name, rows in (("texts", texts), ("lists", lists)):
        folder = tmp_path / name
        folder.mkdir()
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
        pq.write_table(pa.Table.from_pylist(rows[:1]), folder / "validation.parquet")
        plain = pair_parts(tmp_path / f"{name}.jsonl")
        assert len(plain) == 3
        assert pair_parts(folder / "train.parquet") == plain
        splits = {"train": "train", "validation": "validation"}
        both = pair_parts(folder, splits=splits)
        assert [part[1:] for part in both] == [part[1:] for part in plain + plain[:1]]
        assert [part[0] for part in both] == ["train"] * 3 + ["validation"]


def pair_parts(path: Path, **more: Any) -> list[list[Any]]:
    """Split, voice and parts of each row of a table of pairs."""
    found = UnitRows(UnitsSource(path=str(path), layout="pairs", **more), 0).rows()
    rows = [row for row in found if isinstance(row, PartedRow)]
    return [
        [row.split, row.voice, *((p.text, str(p.units), str(p.durations)) for p in row.parts)]
        for row in rows
    ]
