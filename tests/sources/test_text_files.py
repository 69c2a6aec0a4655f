"""Texts in files: every format reads the same rows; what is broken in one row stays in that row."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import TextSource
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.text import FileRows

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20)


def read(path: Path | str, **section: Any) -> list[Row | BadRow]:
    return list(FileRows(TextSource(path=str(path), **section), 0).rows())


def texts(path: Path | str, **section: Any) -> list[str]:
    rows = read(path, **section)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.text for row in rows if isinstance(row, Row)]


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def error_of(path: Path | str, **section: Any) -> str:
    with pytest.raises(UnitcorpusError) as caught:
        read(path, **section)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue())


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def jsonl_of(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in pairs).encode()


def csv_of(pairs: list[tuple[str, str]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows([("id", "text"), *pairs])
    return sink.getvalue().encode()


# --- all formats ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_jsonl_csv_and_parquet_give_back_the_same_rows(
    pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    table = pa.table({"id": [i for i, _ in pairs], "text": [t for _, t in pairs]})
    pq.write_table(table, folder / "a.parquet")
    write(folder / "a.jsonl", jsonl_of(pairs))
    write(folder / "a.csv", csv_of(pairs))
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        rows = read(folder / name)
        assert [(row.id, row.text) for row in rows if isinstance(row, Row)] == pairs, name
        assert len({row.where for row in rows}) == len(pairs)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), ending=st.sampled_from(["txt", "jsonl", "csv", "parquet"]))
def test_no_bytes_do_worse_than_a_bad_row_or_a_clear_error(
    data: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    head = {"csv": b"id,text\n", "jsonl": b'{"text": ""}\n'}.get(ending, b"")
    path = write(tmp_path_factory.mktemp("fuzz") / f"a.{ending}", head + data)
    with suppress(UnitcorpusError) if ending == "parquet" else nullcontext():
        for row in read(path):
            strings = (row.text, row.id) if isinstance(row, Row) else (row.reason, row.detail)
            "".join(strings).encode()


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_compressed_files_read_as_the_plain_one(kind: str, ending: str, tmp_path: Path) -> None:
    stories = [f"Story {i} of a fox" for i in range(3000)]
    pairs = [(str(i), text) for i, text in enumerate(stories)]
    plain = {"txt": "\n\n".join(stories).encode(), "jsonl": jsonl_of(pairs), "csv": csv_of(pairs)}
    path = write(tmp_path / f"a.{kind}{ending}", COMPRESS[ending](plain[kind]))
    assert texts(path) == stories


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_of_several_parts_is_read_to_its_end(ending: str, tmp_path: Path) -> None:
    parts = [COMPRESS[ending](f"part {i}\n\n".encode()) for i in range(3)]
    assert texts(write(tmp_path / f"a.txt{ending}", b"".join(parts))) == [
        "part 0",
        "part 1",
        "part 2",
    ]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_that_is_cut_off_is_an_error(ending: str, tmp_path: Path) -> None:
    data = "\n\n".join(sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(5000))
    whole = COMPRESS[ending](data.encode())
    path = write(tmp_path / f"a.txt{ending}", whole[: len(whole) // 2])
    assert str(path) in error_of(path)


def test_the_ending_tells_the_format_and_the_recipe_may_override_it(tmp_path: Path) -> None:
    path = write(tmp_path / "stories.data", '{"text": "a"}\n')
    message = error_of(path)
    assert all(known in message for known in (".txt", ".jsonl", ".csv", ".parquet"))
    assert texts(path, format="jsonl") == ["a"]
    assert texts(write(tmp_path / "A.JSONL", '{"text": "b"}\n')) == ["b"]
    assert texts(write(tmp_path / "c.jsonl", "plain"), format="txt") == ["plain"]
    assert ".gz" in error_of(write(tmp_path / "d.parquet.gz", b""))


def test_urls_of_fsspec_are_read(tmp_path: Path) -> None:
    with fsspec.open("memory://stories/a.jsonl", "wb") as file:
        file.write(b'{"text": "from memory"}\n')
    assert texts("memory://stories/a.jsonl") == ["from memory"]
    path = write(tmp_path / "b.txt.gz", gzip.compress(b"from a file"))
    assert texts(f"file://{path}") == ["from a file"]


@pytest.mark.parametrize("name", ["gone.txt", "gone.parquet", "gone.csv", "gone.jsonl.gz"])
def test_a_missing_file_is_a_clear_error(name: str, tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / name)
    with pytest.raises(UnitcorpusError, match="no such file"):
        FileRows(TextSource(path=str(tmp_path / name)), 0).identity()


def test_folders_and_unknown_protocols_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert "folder" in error_of(tmp_path / "a.txt")
    assert "nowhere" in error_of("nowhere://a.txt")


def test_the_limit_counts_good_and_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\nbroken\n{"text": "b"}\n{"text": "c"}\n')
    rows = read(path, limit=3)
    assert [type(row) for row in rows] == [Row, BadRow, Row]


def test_the_identity_is_that_of_the_bytes_and_names_no_path(tmp_path: Path) -> None:
    def identity(path: Path, **section: Any) -> dict[str, Any]:
        return FileRows(TextSource(path=str(path), **section), 0).identity()

    data = b'{"text": "a"}\n'
    first, second = write(tmp_path / "a.jsonl", data), write(tmp_path / "b.jsonl", data)
    assert identity(first) == identity(second)
    assert identity(first)["sha256"] == sha256(data).hexdigest()
    assert identity(first)["bytes"] == len(data)
    assert str(tmp_path) not in json.dumps(identity(first))
    assert identity(write(second, data + b" ")) != identity(first)
    assert identity(first, limit=2) != identity(first)
    assert identity(first, format="txt") != identity(first)


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    line = b'{"text": "' + b"once upon a time " * 60 + b'"}\n'
    path = write(tmp_path / "a.jsonl", line * 20_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in FileRows(TextSource(path=str(path)), 0).rows()) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6 < path.stat().st_size
