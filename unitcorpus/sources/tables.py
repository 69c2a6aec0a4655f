"""Rows of a table as dicts, whatever it is kept in: JSONL, CSV, parquet, a data set of the Hub.

Invariant: every row of the table gives exactly one Record or BadRow. Values are as the container
has them: a CSV knows only strings.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.sources.base import BadRow
from unitcorpus.sources.files import endings, json_rows, lines, not_utf8, one_line, opened, stored
from unitcorpus.sources.huggingface import HubTables

# csv stops at 131,072 characters by default. A bound there must be: a quote that is never closed
# draws what follows into its cell.
_LONGEST_CELL = 1 << 24
_BATCH = 1024
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # its byte order marks


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a table. `where` places it for a person; `split` is empty where there is none."""

    where: str
    values: dict[str, Any]
    split: str = ""


class Table:
    """The table that a section's `path` and `format` name: a file (told by its ending), else a
    folder or a Hub data set. Raises UnitcorpusError for what cannot be a table."""

    def __init__(self, section: Any) -> None:
        self._section = section
        kind, compression = endings(section.path)
        self.format = kind.removeprefix(".") if section.format == "auto" else section.format
        if self.format == "parquet" and compression:
            raise UnitcorpusError(
                f"{section.path}: a parquet file is not read through {compression}; "
                "decompress it first"
            )
        if self.format not in READERS and Path(section.path).expanduser().is_file():
            raise UnitcorpusError(
                f"cannot tell the format of {section.path} by its ending: the known ones are "
                ".jsonl, .csv (each also with .gz, .bz2, .xz or .zst) and .parquet; or set "
                "source.format"
            )
        self._hub = None if self.format in READERS else HubTables(section)

    @property
    def name(self) -> str:
        return str(self._section.path)

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: of a file its sha256, of a Hub data set the commit."""
        if self._hub is not None:
            return self._hub.identity()
        return {
            "format": self.format,
            **stored(self._section.path),
            "limit": self._section.limit,
        }

    def records(self) -> Iterator[Record | BadRow]:
        """The rows in order; the section's limit is per split. Raises UnitcorpusError."""
        if self._hub is None:
            yield from islice(READERS[self.format](self._section.path), self._section.limit)
            return
        for ours, theirs, tables in self._hub.splits():
            rows = (
                Record(f"{theirs} row {number}", values, ours)
                for number, values in enumerate(r for table in tables for r in table.to_pylist())
            )
            yield from islice(rows, self._section.limit)


def _jsonl(path: str) -> Iterator[Record | BadRow]:
    for item in json_rows(path):
        yield item if isinstance(item, BadRow) else Record(*item)


def _csv(path: str) -> Iterator[Record | BadRow]:
    cells = csv_records(path)
    names = csv_header(path, cells)
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise UnitcorpusError(f"{path} has the column '{twice[0]}' more than once: rename one")
    for where, record in cells:
        if isinstance(record, str):
            yield BadRow(where, "malformed_csv", record)
        elif len(record) != len(names):
            detail = f"{len(record)} cells under a header of {len(names)}"
            yield BadRow(where, "malformed_csv", detail)
        else:
            yield _utf8(where, dict(zip(names, record, strict=True)))


def csv_header(path: str, records: Iterator[tuple[str, list[str] | str]]) -> list[str]:
    """The names in the first of a CSV file's records. Raises UnitcorpusError where it has none."""
    _, names = next(records, ("", ""))
    if isinstance(names, str):
        raise UnitcorpusError(f"{path} is a CSV file without a header row")
    return names


def _utf8(where: str, values: dict[str, str]) -> Record | BadRow:
    """The record, if its bytes were UTF-8; others came as lone surrogates."""
    try:
        "".join(values.values()).encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(where, error)
    return Record(where, values)


def csv_records(path: str) -> Iterator[tuple[str, list[str] | str]]:
    """Records of a CSV file with their place: the cells, or what csv says is wrong.

    Bytes that are not UTF-8 come as lone surrogates, so that only their own record is bad. Raises
    UnitcorpusError for a file in UTF-16.
    """
    csv.field_size_limit(_LONGEST_CELL)
    text = (_text(path, number, line) for number, line in lines(path))
    reader = csv.reader(text, strict=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield where, one_line(error)
        else:
            if cells:
                yield where, cells


def _text(path: str, number: int, line: bytes) -> str:
    if number == 1 and line.startswith(_UTF16):
        raise UnitcorpusError(f"{path} is in UTF-16, as Excel writes it: save it as UTF-8")
    return line.decode("utf-8", "surrogateescape")


def _parquet(path: str) -> Iterator[Record | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with opened(path) as raw:
        try:
            for batch in pq.ParquetFile(raw).iter_batches(_BATCH):
                for values in batch.to_pylist():
                    yield Record(f"row {number}", values)
                    number += 1
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise UnitcorpusError(f"cannot read {path}: {one_line(error)}") from error


READERS: dict[str, Callable[[str], Iterator[Record | BadRow]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
