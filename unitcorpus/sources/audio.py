"""Plain corpora of recordings: a folder, a table that lists files, or a corpus as it is downloaded.

`LAYOUTS` says how each kind is read; a further corpus is a file of its own and a line there.
Invariant: every recording that a layout finds gives one row or one bad row, and none leads out of
the source's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.audio import AudioSection
from unitcorpus.sources import librilight, librispeech, peoples_speech, swc, tedlium, voxpopuli
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.columns import RowError, identifier, text_of
from unitcorpus.sources.folder import Folder, shown
from unitcorpus.sources.recording import SUFFIXES, Recording, split_of
from unitcorpus.sources.tables import READERS, Record, Table

Found = Iterator[Recording | BadRow]

AUDIO_COLUMNS = ("audio", "path", "file", "audio_filepath")


class AudioRows:
    """The utterances of one source."""

    def __init__(self, section: AudioSection, seed: int) -> None:
        self._section = section
        path = Path(section.located()).expanduser()
        self._table = path if section.kind == "audio" and path.is_file() else None
        self._folder = Folder(str(path.parent if self._table else path))

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: a digest over names and sizes of the recordings, over all that
        is known of them, and over what is wrong with others."""
        digest = sha256()
        for row in self.rows():
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return {"kind": self._section.kind, "rows": digest.hexdigest()}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """Utterances in the order of the layout. Raises UnitcorpusError for a missing file."""
        return islice(map(self._row, self._found()), self._section.limit)

    def _found(self) -> Found:
        if self._table is not None:
            return Listed(self._section, self._folder).recordings()
        return LAYOUTS[self._section.kind](self._folder, self._section)

    def _row(self, found: Recording | BadRow) -> PartedRow | BadRow:
        if isinstance(found, BadRow):
            return found
        try:
            part = self._folder.part(found.name, found.text, *_span(found))
        except RowError as error:
            return BadRow(found.where, *error.args)
        return PartedRow((part,), found.where, found.id, found.split, found.voice)


def _span(found: Recording) -> tuple[float | None, float | None]:
    """Start and end. Raises RowError where they are no stretch of time."""
    if found.start is None or found.end is None:
        return None, None
    if not 0 <= found.start < found.end < float("inf"):
        raise RowError("bad_span", f"from {found.start:g} s to {found.end:g} s")
    return found.start, found.end


def files(folder: Folder, section: AudioSection) -> Found:
    """Every recording below a folder; ids are their paths without the ending."""
    for name in folder.names(SUFFIXES):
        if isinstance(name, BadRow):
            yield name
        elif not name.isprintable():
            yield BadRow(shown(name), "unknown_name", "its name cannot be written")
        else:
            yield Recording(name, name, id=PurePosixPath(name).with_suffix("").as_posix())


LAYOUTS: dict[str, Callable[[Folder, Any], Found]] = {
    "audio": files,
    "librispeech": lambda folder, _: librispeech.recordings(folder),
    "librilight": lambda folder, section: librilight.recordings(folder, section.cut_seconds),
    "swc": lambda folder, _: swc.recordings(folder),
    "tedlium": lambda folder, _: tedlium.recordings(folder),
    "peoples_speech": lambda folder, _: peoples_speech.recordings(folder),
    "voxpopuli": lambda folder, _: voxpopuli.recordings(folder),
}


class Listed:
    """The recordings that a table lists."""

    def __init__(self, section: Any, folder: Folder) -> None:
        self._section, self._folder = section, folder
        self._table = Table(section)
        if self._table.format not in READERS:
            raise UnitcorpusError(
                f"{section.path} (source.path) has to be a folder of recordings, or a .jsonl, .csv "
                "or .parquet file that lists some"
            )
        self._columns: dict[str, str] = {}
        self._spans = False

    def recordings(self) -> Found:
        """One utterance a row. Raises UnitcorpusError for a missing column."""
        for record in self._table.records():
            if isinstance(record, BadRow):
                yield record
                continue
            if not self._columns:
                self._columns = self._found(record)
                self._spans = "start" in record.values or "end" in record.values
            try:
                yield self._recording(record)
            except RowError as error:
                yield BadRow(record.where, *error.args)

    def _found(self, first: Record) -> dict[str, str]:
        """Which columns hold what, by the first row."""
        section, known = self._section, first.values
        audio = section.audio_column or next(filter(known.__contains__, AUDIO_COLUMNS), "audio")
        named = {
            "audio": audio,
            "text": section.text_column,
            "speaker": section.speaker_column,
            "id": section.id_column,
        }
        for key, name in named.items():
            if name is not None and name not in known:
                raise UnitcorpusError(
                    f"{section.path}, {first.where}, has no column '{name}' (source.{key}_column)"
                    f"{nearest(name, known)}; its columns: {', '.join(known)}"
                )
        return {key: name or key for key, name in named.items()}

    def _recording(self, record: Record) -> Recording:
        values = record.values
        text, ident, voice = (
            identifier(values.get(self._columns[key])) for key in ("text", "id", "speaker")
        )
        times = (_seconds(values, "start"), _seconds(values, "end")) if self._spans else ()
        split = identifier(values.get("split"))
        if split and not split_of(split):
            raise RowError("unknown_split", f"split {split!r} is not train, validation or test")
        name = text_of(values, self._columns["audio"])
        return Recording(record.where, name, text, ident, split_of(split), voice, *times)


def _seconds(values: dict[str, Any], column: str) -> float:
    """A time of a row. Raises RowError where it is none: all rows have one, or none has."""
    try:
        return float(values[column])
    except (KeyError, TypeError, ValueError):
        said = repr(values[column]) if column in values else "missing"
        raise RowError("bad_span", f"column {column} is {said}, not a time in seconds") from None
