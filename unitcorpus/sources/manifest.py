"""Recordings that belong together, as a table lists them: pairs and test sets of one's own.

A column for each part (prompt, chosen, rejected; right, wrong) holds the path of a recording,
relative to the table's folder. Invariant: nothing outside that folder is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.sources import ManifestSource
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.columns import RowError, identifier, text_of
from unitcorpus.sources.folder import Folder, files_digest
from unitcorpus.sources.tables import READERS, Record, Table

PARTS = {"pairs": ("prompt", "chosen", "rejected"), "contrasts": ("right", "wrong")}


class ManifestRows:
    """The rows of one table of recordings."""

    def __init__(self, section: ManifestSource, seed: int) -> None:
        self._section = section
        self._table = Table(section)
        if "://" in section.path or self._table.format not in READERS:
            raise UnitcorpusError(
                f"{section.path} (source.path) has to be a .jsonl, .csv or .parquet file of this "
                "machine, with the recordings below its folder"
            )
        self._folder = Folder(str(Path(section.path).expanduser().parent))
        self._parts = PARTS[section.layout]

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the table's sha256, and the names and sizes of the files."""
        files = files_digest(self.rows())
        return {"kind": "manifest", **self._table.identity(), "files": files}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """One group a row. Raises UnitcorpusError for a missing file or column."""
        checked = False
        for record in self._table.records():
            if isinstance(record, BadRow):
                yield record
                continue
            if not checked:
                self._require(record)
                checked = True
            try:
                yield self._row(record)
            except RowError as error:
                yield BadRow(record.where, *error.args)

    def _require(self, first: Record) -> None:
        for name in (*self._parts, *filter(None, [self._section.id_column])):
            if name not in first.values:
                raise UnitcorpusError(
                    f"{self._section.path}, {first.where}, has no column '{name}'"
                    f"{nearest(name, first.values)}; its columns: {', '.join(first.values)}"
                )

    def _row(self, record: Record) -> PartedRow:
        values = record.values
        parts = tuple(
            self._folder.part(text_of(values, part), identifier(values.get(f"{part}_text")))
            for part in self._parts
        )
        split = record.split or ("test" if self._section.layout == "contrasts" else "")
        ident = identifier(values.get(self._section.id_column or "id"))
        voice, group = (identifier(values.get(name)) for name in ("speaker", "group"))
        return PartedRow(parts, record.where, ident, split, voice, group)
