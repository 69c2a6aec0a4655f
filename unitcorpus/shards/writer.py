"""Files that are there whole or not at all: a temporary name, fsync, rename, fsync the folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from unitcorpus.shards import tar

TEMPORARY = ".tmp-"
"""Marks unfinished files; they never match *.tar, *.json or *.jsonl."""


class AtomicFile:
    """A file that appears under its name only when the block ends without an error.

    `sha256` and `size` (bytes) are those of the content. The temporary name is of this writer
    alone, so that two writers of the same file never share one, and a link that somebody put there
    is never followed; a link at the name itself is replaced. `durable`: also after a power cut.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self.size = 0
        self._hash = sha256()
        self._temporary = path.with_name(f".{path.name}{TEMPORARY}{secrets.token_hex(4)}")

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        self._stream: IO[bytes] = os.fdopen(os.open(self._temporary, flags, 0o644), "wb")
        return self

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._stream.write(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._stream.flush()
                if self._durable:
                    os.fsync(self._stream.fileno())
            self._stream.close()
            if error is None:
                self._temporary.replace(self.path)
                if self._durable:
                    sync_folder(self.path.parent)
        finally:
            self._temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, durable: bool = True) -> str:
    """Writes a small file whole; returns the sha256 of `data`."""
    with AtomicFile(path, durable) as file:
        file.write(data)
    return file.sha256


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class ShardWriter(AtomicFile):
    """A tar of samples, in the order they are written; atomic as any file here."""

    def sample(self, key: str, members: Mapping[str, bytes]) -> None:
        """Adds one sample: {member name: content}."""
        tar.write_sample(self, key, members)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.write(tar.end(self.size))
        super().__exit__(kind, error, trace)
