"""Recordings in a data set of the Hugging Face Hub, or in a local folder, prepared by `datasets`.

A plan knows a recording by split and row; a worker finds it there in the data set's memory map.
Audio is never decoded by `datasets`. Invariant: only bytes within the data set are read. A row that
gives but a path is a bad row, for that path may lead anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.audio import HuggingfaceAudioSource
from unitcorpus.sources.base import BadRow, Part, PartedRow
from unitcorpus.sources.columns import identifier
from unitcorpus.sources.huggingface import HubTables

_BATCH = 256


class HuggingfaceAudioRows(HubTables):
    """The recordings of the splits in `section.splits`, with our names for them."""

    def __init__(self, section: HuggingfaceAudioSource, seed: int) -> None:
        section.located()
        super().__init__(section)
        self.split = cache(self._open_split)

    def identity(self) -> dict[str, Any]:
        """The commit on the Hub, or a digest over names and sizes of the folder's files. Raises
        UnitcorpusError."""
        said = {"kind": "huggingface_audio", "name": self._section.name}
        if not self._local:
            return {**said, "path": self._section.path, "revision": self._commit}
        digest = sha256()
        for path in sorted(Path(self._path).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                name = path.relative_to(self._path).as_posix()
                digest.update(f"{name}\n{path.stat().st_size}\n".encode())
        return {**said, "files": digest.hexdigest()}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """Rows of each split in turn. Raises UnitcorpusError for a missing split or column."""
        splits = self._section.splits.items()
        return chain.from_iterable(
            islice(self._split(ours, theirs), self._section.limit) for ours, theirs in splits
        )

    def fetch(self, name: str, size: int, offset: int | None) -> bytes:
        """The bytes of a recording. Raises UnitcorpusError where the data set has changed."""
        split, _, row = name.rpartition("/")
        data = self.split(split)
        found = data[int(row)][self._section.audio_column] if int(row) < len(data) else None
        sound: bytes = (found or {}).get("bytes") or b""
        if len(sound) != size:
            raise UnitcorpusError(
                f"{self._section.path}, {name}, has {len(sound)} bytes, planned were {size}: the "
                "source changed; put it back, or build again with --overwrite"
            )
        return sound

    def _open_split(self, theirs: str) -> Any:
        """The split as a memory-mapped data set, its audio as stored."""
        from datasets import Audio, load_dataset

        section, revision = self._section, None if self._local else self._commit
        try:
            data: Any = load_dataset(self._path, section.name, revision=revision, split=theirs)
        except Exception as error:  # datasets raises anything, from ValueError to HTTP errors
            raise self._unreadable(error) from error
        for key in ("audio", "text", "speaker", "id"):
            name = getattr(section, f"{key}_column")
            if name is not None and name not in data.column_names:
                raise UnitcorpusError(
                    f"split '{theirs}' of {section.path} has no column '{name}' "
                    f"(source.{key}_column){nearest(name, data.column_names)}; its columns: "
                    f"{', '.join(data.column_names)}"
                )
        return data.cast_column(section.audio_column, Audio(decode=False))

    def _split(self, ours: str, theirs: str) -> Iterator[PartedRow | BadRow]:
        import pyarrow.compute as pc

        data = self.split(theirs)
        section, number = self._section, 0
        for table in data.with_format("arrow").iter(_BATCH):
            sound = table.column(section.audio_column)
            sizes = pc.binary_length(pc.struct_field(sound, "bytes")).to_pylist()
            known = {
                key: table.column(column).to_pylist()
                for key in ("text", "speaker", "id")
                if (column := getattr(section, f"{key}_column") or key) in table.column_names
            }
            for row, size in enumerate(sizes):
                where = f"{theirs} row {number}"
                text, voice, ident = (
                    identifier(known[key][row]) if key in known else ""
                    for key in ("text", "speaker", "id")
                )
                if not size:
                    yield BadRow(where, "no_audio", "the row holds no bytes of a recording")
                else:
                    part = Part(text, audio=f"{theirs}/{number}", audio_bytes=size)
                    yield PartedRow((part,), where, ident or f"{theirs}-{number}", ours, voice)
                number += 1
