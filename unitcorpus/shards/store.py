"""The files of a corpus at an fsspec URL: listed, read, fetched, put and deleted.

Names are those of docs/format.md, relative to the URL; a store may be full of other names, and one
that leads out of a folder is never followed. Whatever a store raises comes back as one line of
ours. A `put` need not be atomic: what is half there is not what a receipt says, and half a receipt
is none.

    store = Store("s3://bucket/corpus"); store.put(Path("a.tar"), "data/a.tar"); store.sizes()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from unitcorpus.errors import UnitcorpusError, redacted, without_secrets
from unitcorpus.shards.writer import AtomicFile


def is_url(where: Path | str) -> bool:
    """Whether a corpus lies at a URL; `file://` is a folder."""
    return "://" in str(where) and not str(where).startswith("file://")


def folder_of(where: Path | str) -> Path:
    """The folder that a path, or a `file://` URL, names."""
    return Path(str(where).removeprefix("file://")).expanduser()


def is_safe(name: str) -> bool:
    """Whether a name leads to a place below the folder that it is joined to."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not ({"..", "/", "//"} & set(parts) or "\\" in name or "\0" in name)


class Store:
    """Raises UnitcorpusError where the store cannot be reached, refuses, or has no such bucket."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = without_secrets(url.rstrip("/"))
        with self._told("open"):
            self._system, top = fsspec.core.url_to_fs(url.rstrip("/"))
        self._top = str(top).rstrip("/")

    def sizes(self) -> dict[str, int]:
        """The bytes of every file, by name; nothing where nothing is."""
        with self._told("list"):
            self._system.invalidate_cache()
            found = self._system.find(self._top, detail=True)
        start = len(self._top) + 1
        sizes = {path[start:]: int(info["size"] or 0) for path, info in found.items()}
        sizes.pop("", None)  # a mark that some tools make of a folder
        for name in sizes:
            if not is_safe(name):
                raise UnitcorpusError(f"{self.url} holds {name!r}: a name that leads out of it")
        return sizes

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A file's content. Raises FileNotFoundError; UnitcorpusError where it has more bytes than
        `limit`."""
        path = f"{self._top}/{name}"
        with self._told("read", missing=True):
            if limit is not None and (size := int(self._system.size(path) or 0)) > limit:
                raise UnitcorpusError(f"{self.url}/{name} has {size} bytes: too large to be ours")
            data: bytes = self._system.cat_file(path)
        return data

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of small files, fetched together where the store can."""
        if not names:
            return {}
        with self._told("read"):
            found = self._system.cat([f"{self._top}/{name}" for name in names])
        return {path[len(self._top) + 1 :]: data for path, data in found.items()}

    def fetch(self, name: str, target: Path) -> None:
        """Copies a file to `target`, whole or not at all. Raises FileNotFoundError."""
        with (
            self._told("read", missing=True),
            self._system.open(f"{self._top}/{name}", "rb") as stream,
            AtomicFile(target) as file,
        ):
            while block := stream.read(1 << 22):
                file.write(block)

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copies files to these names, in any order; all are there when it returns."""
        here = [str(path) for path, _ in files]
        there = [f"{self._top}/{name}" for _, name in files]
        with self._told("write to"):
            if not self._system.async_impl:  # a file system with folders, which want to be made
                for folder in {path.rpartition("/")[0] for path in there}:
                    self._system.makedirs(folder, exist_ok=True)
            self._system.put(here, there)

    def delete(self, names: Sequence[str]) -> None:
        with self._told("delete in"):
            if names:
                self._system.rm([f"{self._top}/{name}" for name in names])

    @contextmanager
    def _told(self, verb: str, missing: bool = False) -> Iterator[None]:
        """Errors of the block as UnitcorpusError; a FileNotFoundError as itself where a file may be
        `missing`. Each store raises its own, few of which are OSError."""
        try:
            yield
        except UnitcorpusError:
            raise
        except ImportError as error:
            said = f"{self.url}: {_line(error)}, e.g. with pip"
            raise UnitcorpusError(f"cannot {verb} {said}") from None
        except FileNotFoundError as error:
            if missing:
                raise
            said = f"{self.url}: there is no such bucket or folder ({_line(error)})"
            raise UnitcorpusError(f"cannot {verb} {said}") from None
        except Exception as error:
            advice = "; check its keys and permissions" if _is_refusal(error) else ""
            raise UnitcorpusError(f"cannot {verb} {self.url}: {_line(error)}{advice}") from None


def _line(error: BaseException) -> str:
    """What an exception says, in one line without secrets."""
    return redacted(" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, PermissionError) or "Credentials" in type(error).__name__
