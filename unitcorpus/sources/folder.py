"""A folder of recordings, as sources read it.

Invariant: nothing outside the folder is read, and no path leaves that is not relative to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from unitcorpus.errors import UnitcorpusError
from unitcorpus.sources.base import BadRow, Part, PartedRow
from unitcorpus.sources.columns import RowError

SUFFIXES = (".wav", ".flac")
"""Of the recordings of test sets."""


class Folder:
    """A folder of recordings."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise UnitcorpusError(f"no such folder: {path} (source.path)")
        self._real = os.path.realpath(self.path).rstrip(os.sep) + os.sep

    def part(
        self, name: str, text: str, start: float | None = None, end: float | None = None
    ) -> Part:
        """The recording `name`, or of it what lies between `start` and `end` in seconds. Raises
        RowError where it is missing or not inside the folder."""
        if not name.strip():
            raise RowError("missing_file", "the path of a recording is empty")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise RowError("not_utf8", f"{name!a} cannot be written as UTF-8") from None
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RowError("outside", f"{name} leads out of source.path")
        try:
            real = os.path.realpath(self.path / name)
            found = Path(real).stat()
        except (OSError, ValueError):  # not there; a name too long, or with a zero byte
            raise RowError("missing_file", f"{name} is not there") from None
        if not real.startswith(self._real):
            raise RowError("outside", f"{name} is a link that leads out of source.path")
        if not S_ISREG(found.st_mode):
            raise RowError("missing_file", f"{name} is not a file")
        return Part(text, audio=name, audio_bytes=found.st_size, start=start, end=end)

    def names(self, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[str | BadRow]:
        """The files with these endings in all its folders, sorted; those whose name begins with a
        dot are none.
        Folders behind a link are not gone into. Raises UnitcorpusError where there is none."""
        found = False
        for place, folders, files in os.walk(self.path, onerror=self._unreadable):
            inside = Path(place).relative_to(self.path)
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in folders:
                if (Path(place) / name).is_symlink():
                    link = shown((inside / name).as_posix())
                    yield BadRow(link, "linked_folder", "a folder behind a link is not read")
            for name in sorted(files):
                if name.lower().endswith(suffixes) and not name.startswith("."):
                    found = True
                    yield (inside / name).as_posix()
        if not found:
            raise UnitcorpusError(
                f"{self.path} holds no {' or '.join(suffixes)} file: source.path has to be the "
                "unpacked recordings"
            )

    def _unreadable(self, error: OSError) -> None:
        raise UnitcorpusError(f"cannot read {error.filename}: {error.strerror}")


def shown(name: str) -> str:
    """A file's name that can be written and read."""
    return name if name.isprintable() else ascii(name)


def files_digest(rows: Iterator[PartedRow | BadRow]) -> str:
    """sha256 over the names and sizes of the recordings of rows, and over what is wrong with
    others."""
    digest = sha256()
    for row in rows:
        used = (
            [(row.where, row.reason, row.detail)]
            if isinstance(row, BadRow)
            else [(part.audio, part.audio_bytes) for part in row.parts]
        )
        digest.update(repr(used).encode())
    return digest.hexdigest()
