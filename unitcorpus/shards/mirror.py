"""The files of a corpus as verify wants them, on a disk: where they lie, or fetched when needed.

A remote corpus is fetched into a temporary folder: what is small at once, the archives of a shard
while that shard is looked at. Nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.store import Store, folder_of, is_url

LARGE = ("data", "audio")

MAX_SMALL = 1 << 30
"""Bytes: what is not a shard has no more, or is not fetched."""


class Files(Protocol):
    """`root` is a folder in which the small files lie, and a shard's inside `shard(name)`."""

    root: Path

    def names(self, folder: str) -> list[str]:
        """The names in a folder of the corpus, sorted; none where there is no such one."""
        ...

    def shard(self, name: str) -> Any: ...


class LocalFiles:
    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob("*"))

    @contextmanager
    def shard(self, name: str) -> Iterator[None]:
        yield


class RemoteFiles:
    """A corpus at an fsspec URL, mirrored into `root`."""

    def __init__(self, url: str, root: Path) -> None:
        self.root = root
        self._store = Store(url)
        self._sizes = self._store.sizes()
        for name, size in self._sizes.items():
            if name.split("/")[0] in LARGE:
                continue
            if size > MAX_SMALL:
                raise UnitcorpusError(f"{url}/{name} has {size} bytes: too large to be ours")
            self._fetch(name)

    def names(self, folder: str) -> list[str]:
        inside = {
            name.removeprefix(f"{folder}/").split("/")[0]
            for name in self._sizes
            if name.startswith(f"{folder}/")
        }
        return sorted(inside)

    @contextmanager
    def shard(self, name: str) -> Iterator[None]:
        fetched = [self._fetch(f"{folder}/{name}.tar") for folder in LARGE]
        try:
            yield
        finally:
            for path in fetched:
                path.unlink(missing_ok=True)

    def _fetch(self, name: str) -> Path:
        target = self.root / name
        if name in self._sizes:
            self._store.fetch(name, target)
        return target


@contextmanager
def files_of(root: Path | str) -> Iterator[Files]:
    """The files of a corpus in a folder or at an fsspec URL. Raises UnitcorpusError."""
    if not is_url(root):
        yield LocalFiles(folder_of(root))
        return
    with TemporaryDirectory(prefix="unitcorpus-") as folder:
        yield RemoteFiles(str(root), Path(folder))
