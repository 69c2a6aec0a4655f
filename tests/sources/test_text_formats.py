"""What each text format makes of odd input: separators, quotes, nulls, bytes that are no text."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import TextSource
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.text import FileRows


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


# --- txt --------------------------------------------------------------------------------------


def test_txt_stories_stand_between_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeff\n\nOne.\r\nMore.\r\n\r\n \t\n\nTwo.\n\nThree.")
    assert read(path) == [
        Row("One.\nMore.", "line 3"),
        Row("Two.", "line 8"),
        Row("Three.", "line 10"),
    ]


@pytest.mark.parametrize("end", ["<|endoftext|>\n", ""])
def test_txt_stories_may_hold_blank_lines_where_markers_end_them(end: str, tmp_path: Path) -> None:
    data = "One.\n\nStill one.\n<|endoftext|>\nTwo.<|endoftext|>Three.\n\n<|endoftext|>\n\n" + end
    assert read(write(tmp_path / "a.txt", data)) == [
        Row("One.\n\nStill one.", "line 1"),
        Row("Two.", "line 5"),
        Row("Three.", "line 5"),
    ]


def test_one_marker_at_the_end_is_enough_to_keep_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "One.\n\n" * 1000 + "<|endoftext|>")
    assert len(texts(path)) == 1
    assert texts(write(tmp_path / "b.txt", "One.\n\nMore.<|endoftext|>Two.")) == [
        "One.\n\nMore.",
        "Two.",
    ]


def test_a_txt_story_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    one, two, three = read(write(tmp_path / "a.txt", b"One.\n\nTw\xff.\nMore.\n\nThree."))
    assert two == BadRow("line 3", "not_utf8", "byte 0xff at offset 2 is not UTF-8")
    assert isinstance(one, Row)
    assert isinstance(three, Row)


def test_an_empty_txt_has_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", "")) == []
    assert read(write(tmp_path / "b.txt", " \n\n\n")) == []


# --- jsonl ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"text": "cut', "malformed_json", "Unterminated string"),
        (b'["a", "list"]', "malformed_json", "list"),
        (b"3", "malformed_json", "int"),
        (b"[" * 100_000, "malformed_json", ""),
        (b'{"text": ' + b"9" * 10_000 + b"}", "malformed_json", "digit"),
        (b'{"text": null}', "not_text", "null"),
        (b'{"text": 3}', "not_text", "int"),
        (b'{"text": "\\ud83d"}', "not_text", "surrogate"),
        (b'{"text": "a", "id": "\\ud83d"}', "not_text", "surrogate"),
        (b'{"text": "\xff"}', "not_utf8", "0xff"),
        (b'{"story": "a"}', "missing_text", "text"),
    ],
)
def test_a_bad_json_line_is_one_bad_row(
    line: bytes, reason: str, detail: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n' + line + b'\n{"text": "b"}')
    first, bad, last = read(path)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert (bad.where, bad.reason) == ("line 2", reason)
    assert detail in bad.detail
    assert "\n" not in bad.detail


def test_json_ids_become_strings_and_null_is_none(tmp_path: Path) -> None:
    lines = [{"text": "", "id": i} for i in (0, "x", None, 1.5)] + [{"text": ""}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert [row.id for row in read(path) if isinstance(row, Row)] == ["0", "x", "", "1.5", ""]


def test_a_byte_order_mark_and_blank_lines_are_no_part_of_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '\ufeff{"text": "a"}\r\n\r\n{"text": "b"}\r\n')
    assert read(path) == [Row("a", "line 1"), Row("b", "line 3")]


# --- columns ----------------------------------------------------------------------------------


def as_file(kind: str, folder: Path) -> Path:
    row = {"story": "a", "identifier": "7", "split": "train"}
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), folder / "a.parquet")
        return folder / "a.parquet"
    text = json.dumps(row) if kind == "jsonl" else "story,identifier,split\na,7,train\n"
    return write(folder / f"a.{kind}", text)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_missing_column_names_those_there_are_and_the_nearest(kind: str, tmp_path: Path) -> None:
    path = as_file(kind, tmp_path)
    message = error_of(path, text_column="stroy")
    assert "source.text_column" in message
    assert "story, identifier" in message
    assert "did you mean 'story'" in message
    message = error_of(path, text_column="story", id_column="identifer")
    assert "source.id_column" in message
    assert "did you mean 'identifier'" in message


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_other_columns_are_read_when_named_and_no_split_is_taken(kind: str, tmp_path: Path) -> None:
    path = as_file(kind, tmp_path)
    [row] = read(path, text_column="story", id_column="identifier")
    assert isinstance(row, Row)
    assert (row.text, row.id, row.split) == ("a", "7", "")
    [row] = read(path, text_column="story")
    assert isinstance(row, Row)
    assert row.id == ""


# --- csv --------------------------------------------------------------------------------------


def test_a_csv_record_with_the_wrong_cells_is_one_bad_row(tmp_path: Path) -> None:
    data = 'id,text\n1,a\n2\n3,b,c\n\n4,"two\nlines"\n5,"x"y\n6,"b"'
    rows = read(write(tmp_path / "a.csv", data))
    assert [(row.where, row.reason) for row in rows if isinstance(row, BadRow)] == [
        ("line 3", "malformed_csv"),
        ("line 4", "malformed_csv"),
        ("line 8", "malformed_csv"),
    ]
    assert [row for row in rows if isinstance(row, Row)] == [
        Row("a", "line 2", "1"),
        Row("two\nlines", "line 6", "4"),
        Row("b", "line 9", "6"),
    ]


def test_a_csv_quote_that_is_never_closed_is_reported(tmp_path: Path) -> None:
    first, bad = read(write(tmp_path / "a.csv", 'text,id\na,1\n"b,2\nc,3\n'))
    assert isinstance(first, Row)
    assert isinstance(bad, BadRow)
    assert (bad.where, bad.reason) == ("line 3", "malformed_csv")


def test_csv_cells_may_be_long_and_hold_a_nul(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert texts(write(tmp_path / "a.csv", f"text,id\n{long},1\nn\0ul,2\n")) == [long, "n\0ul"]


def test_csv_bytes_that_are_not_utf8_spoil_their_own_record_only(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", b"\xef\xbb\xbftext,id\na,1\nb\xe9,2\nc,\xff\nd,4\n"))
    assert [getattr(row, "reason", "") for row in rows] == ["", "not_utf8", "not_utf8", ""]


def test_a_csv_needs_a_header(tmp_path: Path) -> None:
    assert "header" in error_of(write(tmp_path / "a.csv", ""))
    error_of(write(tmp_path / "b.csv", b"caf\xe9,id\n")).encode()


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_csv_in_utf16_is_told_as_such(tmp_path: Path, order: str) -> None:
    data = "\ufefftext,id\r\nA story.,1\r\n".encode(f"utf-16-{order[0]}e")
    assert "is in UTF-16, as Excel writes it: save it as UTF-8" in error_of(
        write(tmp_path / "a.csv", data)
    )


# --- parquet ----------------------------------------------------------------------------------


def test_parquet_rows_come_in_order_with_nulls_marked(tmp_path: Path) -> None:
    values = [None if i % 7 == 3 else f"story {i}" for i in range(5000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(5000), "text": values}), path, row_group_size=700)
    for i, row in enumerate(read(path)):
        assert row.where == f"row {i}"
        if isinstance(row, Row):
            assert (row.text, row.id) == (values[i], str(i))
        else:
            assert (row.reason, values[i]) == ("not_text", None)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_parquet_strings_of_every_kind_are_read(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array(["a", "b", "a"]).cast(kind)
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b", "a"]


def test_parquet_bytes_that_are_not_utf8_are_one_bad_row(tmp_path: Path) -> None:
    data = pa.py_buffer(b"fine" + b"b\xffd" + b"good")
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 7, 11)))
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    first, bad, last = read(tmp_path / "a.parquet")
    assert (first, last) == (Row("fine", "row 0"), Row("good", "row 2"))
    assert isinstance(bad, BadRow)
    assert bad.reason == "not_utf8"


def test_a_parquet_column_of_numbers_or_a_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    assert "int64" in error_of(tmp_path / "a.parquet")
    assert "cannot read" in error_of(write(tmp_path / "b.parquet", b"PAR1 no such thing"))


def test_parquet_is_read_by_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{i} " * 200 for i in range(20_000)]})
    pq.write_table(table, path, row_group_size=1000)
    whole = table.nbytes
    del table
    before = pa.total_allocated_bytes()
    rows = FileRows(TextSource(path=str(path)), 0).rows()
    seen = [pa.total_allocated_bytes() - before for _ in islice(rows, 0, None, 500)]
    assert max(seen) < whole / 4
