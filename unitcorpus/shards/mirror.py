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

LARGE = ("data", "audio")


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
        import fsspec

        self.root = root
        self._system, top = fsspec.core.url_to_fs(url.rstrip("/"))
        top = top.rstrip("/")
        found = [str(path) for path in self._system.find(top)]
        self._remote = {path[len(top) + 1 :]: path for path in found}
        for name in self._remote:
            if name.split("/")[0] not in LARGE:
                self._fetch(name)

    def names(self, folder: str) -> list[str]:
        inside = {
            name.removeprefix(f"{folder}/").split("/")[0]
            for name in self._remote
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
        if name in self._remote:
            if ".." in Path(name).parts:
                raise UnitcorpusError(f"{name}: a name that leads out of the corpus")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._system.get_file(self._remote[name], str(target))
        return target


@contextmanager
def files_of(root: Path | str) -> Iterator[Files]:
    """The files of a corpus in a folder or at an fsspec URL. Raises UnitcorpusError."""
    if "://" not in str(root):
        yield LocalFiles(Path(root).expanduser())
        return
    with TemporaryDirectory(prefix="unitcorpus-verify-") as folder:
        try:
            files = RemoteFiles(str(root), Path(folder))
        except (ValueError, ImportError, OSError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UnitcorpusError(f"cannot read {root}: {said}") from None
        yield files
