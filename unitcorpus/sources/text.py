"""Texts in a file: txt, JSONL, CSV or parquet, by path or fsspec URL; the first three compressed
(.gz, .bz2, .xz, .zst) as well.

Invariant: the file is streamed, and what is broken in one row (a cut line, a stray byte, a cell too
many) is one BadRow with its line, never the end of the others. Only what no row could be read
without (no such file, no such column) is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import TextSource
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.columns import require, require_strings, row_of, table_rows
from unitcorpus.sources.files import endings, json_rows, lines, not_utf8, one_line, opened, stored
from unitcorpus.sources.tables import csv_header, csv_records

MARKER = b"<|endoftext|>"
_BATCH = 1024


class FileRows:
    """Rows of one file. Without `id_column`, a column `id` gives the ids where there is one."""

    def __init__(self, section: TextSource, seed: int) -> None:
        self._section = section
        self._format = _format(section)

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: format, size and sha256 of the file, and the limit."""
        return {
            "kind": "text",
            "format": self._format,
            **stored(self._section.path),
            "limit": self._section.limit,
        }

    def rows(self) -> Iterator[Row | BadRow]:
        """Rows in the file's order. Raises UnitcorpusError for a missing file or column."""
        return islice(_READERS[self._format](self._section), self._section.limit)


def _format(section: TextSource) -> str:
    kind, compression = endings(section.path)
    name = kind.removeprefix(".") if section.format == "auto" else section.format
    if name not in _READERS:
        raise UnitcorpusError(
            f"cannot tell the format of {section.path} by its ending: the known ones are "
            ".txt, .jsonl, .csv (each also with .gz, .bz2, .xz or .zst) and .parquet; "
            "or set source.format"
        )
    if name == "parquet" and compression:
        raise UnitcorpusError(
            f"{section.path}: a parquet file is not read through {compression}; decompress it first"
        )
    return name


def _txt(section: TextSource) -> Iterator[Row | BadRow]:
    for start, story in _stories(section.path):
        where = f"line {start}"
        try:
            text = story.decode().replace("\r\n", "\n").strip()
        except UnicodeDecodeError as error:
            yield not_utf8(where, error)
        else:
            if text:
                yield Row(text, where)


def _stories(path: str) -> Iterator[tuple[int, bytes]]:
    """What stands between blank lines, or between markers if the file has any; and its line."""
    marked = any(MARKER in line for _, line in lines(path))
    story: list[bytes] = []
    start = 1
    for number, line in lines(path):
        for index, piece in enumerate(_pieces(line, marked)):
            if index:
                yield start, b"".join(story)
                story = []
            if story or piece.strip():
                start = start if story else number
                story.append(piece)
    yield start, b"".join(story)


def _pieces(line: bytes, marked: bool) -> list[bytes]:
    """A line, cut where one story ends and the next begins."""
    if marked:
        return line.split(MARKER)
    return [line] if line.strip() else [b"", b""]


def _jsonl(section: TextSource) -> Iterator[Row | BadRow]:
    checked = False
    for item in json_rows(section.path):
        if isinstance(item, BadRow):
            yield item
            continue
        where, data = item
        if not checked:
            require(data, section.text_column, section.id_column, f"{section.path}, {where},")
            checked = True
        if section.text_column in data:
            yield row_of(data[section.text_column], data.get(section.id_column or "id"), where)
        else:
            yield BadRow(where, "missing_text", f"no field '{section.text_column}'")


def _csv(section: TextSource) -> Iterator[Row | BadRow]:
    records = csv_records(section.path)
    names = csv_header(section.path, records)
    require(names, section.text_column, section.id_column, section.path)
    text = names.index(section.text_column)
    wanted = section.id_column or "id"
    ident = names.index(wanted) if wanted in names else None
    for where, cells in records:
        if isinstance(cells, str):
            yield BadRow(where, "malformed_csv", cells)
        elif len(cells) != len(names):
            detail = f"{len(cells)} cells under a header of {len(names)}"
            yield BadRow(where, "malformed_csv", detail)
        else:
            yield _cells_row(cells[text], "" if ident is None else cells[ident], where)


def _cells_row(text: str, ident: str, where: str) -> Row | BadRow:
    try:
        f"{text}{ident}".encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(where, error)
    return Row(text, where, ident)


def _parquet(section: TextSource) -> Iterator[Row | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = (f"row {number}" for number in count())
    with opened(section.path) as raw:
        try:
            file = pq.ParquetFile(raw)
            schema = file.schema_arrow
            require(schema.names, section.text_column, section.id_column, section.path)
            require_strings(schema, section.text_column, section.path)
            wanted = (section.text_column, section.id_column or "id")
            columns = [name for name in schema.names if name in wanted]
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield from table_rows(batch, section.text_column, section.id_column, places)
        except pa.ArrowException as error:
            raise UnitcorpusError(f"cannot read {section.path}: {one_line(error)}") from error


_READERS: dict[str, Callable[[TextSource], Iterator[Row | BadRow]]] = {
    "txt": _txt,
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
