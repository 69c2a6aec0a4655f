"""Unit sequences that others published, as JSONL, parquet or a data set of the Hub: `units` (a
list) or `audio_repr` ("<Un3><Un49>").

Invariant: units and run lengths are passed on as they were published, collapsed or not; a row that
is not exactly such a sequence is a BadRow, never a repaired one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.recipe.sources import UnitsSource
from unitcorpus.sources.base import BadRow, Part, PartedRow, Row
from unitcorpus.sources.columns import identifier, row_of
from unitcorpus.sources.tables import Table

_UNIT = re.compile(r"<Un([0-9]{1,9})>")
_LARGEST_UNIT = 2**16 - 1  # shards keep units as uint16
_LONGEST_RUN = 2**32 - 1  # and run lengths as uint32, in frames


class _FieldError(ValueError):
    """Why a field is not what it should be: (reason, detail)."""


class UnitRows:
    """Rows of a table; JSONL may be compressed (.gz, .bz2, .xz, .zst)."""

    def __init__(self, section: UnitsSource, seed: int) -> None:
        self._table = Table(section)
        self._read = _pair if section.layout == "pairs" else _row

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: of a file its size and sha256, of a Hub data set the commit."""
        return {"kind": "units", **self._table.identity()}

    def rows(self) -> Iterator[Row | PartedRow | BadRow]:
        """Rows in the table's order. Raises UnitcorpusError for a missing file."""
        for record in self._table.records():
            if isinstance(record, BadRow):
                yield record
                continue
            row = self._read(record.where, record.values)
            yield row if isinstance(row, BadRow) else replace(row, split=record.split)


def _pair(where: str, data: dict[str, Any]) -> PartedRow | BadRow:
    """A row of the published pairs: prompt, chosen and rejected, each a list of units or a string
    of them, with prompt_text … and speaker beside them, and durations where we wrote them."""
    parts = []
    for name in ("prompt", "chosen", "rejected"):
        value = data.get(name)
        kind = "audio_repr" if isinstance(value, str) else "units"
        text, runs = data.get(f"{name}_text"), data.get(f"{name}_durations")
        if not isinstance(text, str | None):  # scores and filters look at it
            detail = f"{name}_text is {type(text).__name__}, not a string"
            return BadRow(where, "not_text", detail)
        part = _row(where, {kind: value, "text": text, "durations": runs})
        if isinstance(part, BadRow):
            return BadRow(where, part.reason, f"{name}: {part.detail}")
        parts.append(Part(part.text, part.units, part.durations))
    named = row_of("", data["id"] if data.get("id") is not None else data.get("file_name"), where)
    if isinstance(named, BadRow):
        return named
    return PartedRow(tuple(parts), where, named.id, voice=identifier(data.get("speaker")))


def _row(where: str, data: dict[str, Any]) -> Row | BadRow:
    text = data["text"] if isinstance(data.get("text"), str) else ""
    ident = data["id"] if data.get("id") is not None else data.get("file_name")
    base = row_of(text, ident, where)
    if isinstance(base, BadRow):
        return base
    try:
        units = _units(data)
        durations = _durations(data, len(units))
    except _FieldError as problem:
        return BadRow(where, *problem.args)
    return Row(base.text, where, base.id, units=units, durations=durations)


def _units(data: dict[str, Any]) -> NDArray[np.int64]:
    """The units of a row, int64 [length]. Raises _FieldError."""
    if data.get("units") is not None:
        return _whole_numbers(data["units"], "units", 0, _LARGEST_UNIT, "bad_units")
    published = data.get("audio_repr")
    if published is None:
        raise _FieldError("missing_units", "neither 'units' nor 'audio_repr'")
    if not isinstance(published, str):
        raise _FieldError("bad_units", f"audio_repr is {type(published).__name__}, not a string")
    if rest := _UNIT.sub("", published).strip():
        raise _FieldError("bad_units", f"audio_repr holds what is no unit: {rest[:40]!r}")
    units = [int(number) for number in _UNIT.findall(published)]
    return _whole_numbers(units, "audio_repr", 0, _LARGEST_UNIT, "bad_units")


def _durations(data: dict[str, Any], length: int) -> NDArray[np.int64] | None:
    """Run lengths, int64 [length], or None where the row has none. Raises _FieldError.

    A plain number named `duration` is the utterance's seconds, as in many manifests, and no list
    of run lengths.
    """
    name = "durations" if data.get("durations") is not None else "duration"
    value = data.get(name)
    if value is None or (name == "duration" and type(value) in (int, float)):
        return None
    durations = _whole_numbers(value, name, 1, _LONGEST_RUN, "bad_durations")
    if len(durations) != length:
        raise _FieldError("bad_durations", f"{len(durations)} {name} for {length} units")
    return durations


def _whole_numbers(values: Any, name: str, least: int, most: int, reason: str) -> NDArray[np.int64]:
    """A non-empty list of integers in [least, most] as int64. Raises _FieldError with `reason`."""
    if not isinstance(values, list):
        raise _FieldError(reason, f"{name} is {type(values).__name__}, not a list")
    if not values:
        raise _FieldError(reason, f"{name} is empty")
    for value in values:
        if type(value) is not int or not least <= value <= most:  # a bool is an int to isinstance
            raise _FieldError(
                reason, f"{name} holds {repr(value)[:40]}, not a number {least}-{most}"
            )
    return np.array(values, dtype=np.int64)
