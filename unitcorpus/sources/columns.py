"""Columns become rows: which column holds the text, which the id, and which values are no text.

Invariant: every input row gives exactly one Row or BadRow, whatever its values are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.files import not_utf8

if TYPE_CHECKING:
    import pyarrow as pa


class RowError(ValueError):
    """Why a row gives nothing: (reason, detail)."""


def text_of(values: Mapping[str, Any], name: str) -> str:
    """The text in a column. Raises RowError where it is missing or none."""
    value = values.get(name)
    if not isinstance(value, str):
        kind = "missing" if name not in values else type(value).__name__
        raise RowError("not_text", f"column {name} is {kind}, not a text")
    return value


def require(columns: Collection[str], text: str, ident: str | None, where: str) -> None:
    """Raise UnitcorpusError unless the text column, and the id column if one is named, exist."""
    for key, name in (("text_column", text), ("id_column", ident)):
        if name is not None and name not in columns:
            known = ", ".join(columns).encode(errors="replace").decode() or "none"
            raise UnitcorpusError(
                f"{where} has no column '{name}' (source.{key}); its columns: {known}"
                f"{nearest(name, columns)}"
            )


def identifier(value: object) -> str:
    """The id that a value gives; nothing gives none."""
    return "" if value is None else str(value)


def row_of(text: object, ident: object, where: str, split: str = "") -> Row | BadRow:
    """The row of a text and an id. Text must be a string that can be written as UTF-8."""
    name = identifier(ident)
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return BadRow(where, "not_text", f"the text is {kind}, not a string")
    if not (_encodable(text) and _encodable(name)):
        return BadRow(where, "not_text", "it holds half a character (a lone surrogate)")
    return Row(text, where, name, split)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def table_rows(
    table: pa.Table | pa.RecordBatch,
    text: str,
    ident: str | None,
    places: Iterator[str],
    split: str = "",
) -> Iterator[Row | BadRow]:
    """The rows of an arrow table. `ident` None: the column 'id' where there is one."""
    name = ident or ("id" if "id" in table.schema.names else None)
    texts = _values(table, text)
    idents = _values(table, name) if name else [None] * table.num_rows
    for value, number, where in zip(texts, idents, places, strict=False):
        try:
            yield row_of(_decoded(value), _decoded(number), where, split)
        except UnicodeDecodeError as error:
            yield not_utf8(where, error)


def require_strings(schema: pa.Schema, text: str, where: str) -> None:
    """Raise UnitcorpusError unless the text column may hold strings."""
    kind = _plain(schema.field(text).type)
    if not (_is_string(kind) or str(kind) == "null"):
        raise UnitcorpusError(
            f"column '{text}' of {where} holds {kind}, not strings; set source.text_column"
        )


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values: a dictionary's own say nothing of its encoding."""
    return kind.value_type if str(kind).startswith("dictionary<") else kind


def _is_string(kind: pa.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _values(table: pa.Table | pa.RecordBatch, name: str) -> list[Any]:
    """The values of a column; strings as bytes, since arrow does not promise that they decode."""
    import pyarrow as pa

    column = table.column(name)
    column = column.cast(_plain(column.type))
    values = column.cast(pa.large_binary()) if _is_string(column.type) else column
    return list(values.to_pylist())


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
