"""Texts of a data set on the Hugging Face Hub, or in a local folder, read by `datasets`.

Invariant: rows come split by split as the recipe lists them, streamed, and from the commit that
`identity` names: a branch that moves in between changes neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.models import is_local
from unitcorpus.recipe.sources import HuggingfaceSource
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.columns import require, require_strings, table_rows
from unitcorpus.sources.files import one_line, stored

_BATCH = 1024


class HubTables:
    """A data set as tables: of a section with `path`, `name`, `revision`, `splits` and `limit`."""

    def __init__(self, section: Any) -> None:
        self._section = section
        self._local = is_local(section.path)
        self._path = str(Path(section.path).expanduser()) if self._local else section.path
        if self._local and not Path(self._path).is_dir():
            raise UnitcorpusError(
                f"no such folder: {section.path} (source.path); a single file is read by "
                "source.kind 'text'"
            )

    def identity(self) -> dict[str, Any]:
        """The commit on the Hub, or a digest of the folder's files. Raises UnitcorpusError."""
        section = self._section
        contents = (
            {"sha256": _folder_digest(Path(self._path))}
            if self._local
            else {"path": section.path, "revision": self._commit}
        )
        return {
            "kind": "huggingface",
            "name": section.name,
            **contents,
            "limit": section.limit,
        }

    def splits(self) -> Iterator[tuple[str, str, Iterator[Any]]]:
        """(our name, theirs, arrow tables) of each split. Raises UnitcorpusError where one is
        missing."""
        data = self._load()
        for ours, theirs in self._section.splits.items():
            if theirs not in data:
                raise UnitcorpusError(
                    f"{self._section.path} has no split '{theirs}' (source.splits.{ours}); its "
                    f"splits: {', '.join(map(str, data))}{nearest(theirs, map(str, data))}"
                )
        for ours, theirs in self._section.splits.items():
            yield ours, theirs, self._tables(data[theirs])

    def _load(self) -> Any:
        """The data set as a streaming dict of splits."""
        from datasets import load_dataset

        revision = None if self._local else self._commit
        try:
            return load_dataset(self._path, self._section.name, revision=revision, streaming=True)
        except Exception as error:  # datasets raises anything, from ValueError to HTTP errors
            raise self._unreadable(error) from error

    def _tables(self, data: Any) -> Iterator[Any]:
        """Arrow tables: no column is decoded, so audio or images beside the text cost nothing."""
        tables = data.with_format("arrow").iter(batch_size=_BATCH)
        while True:
            try:
                table = next(tables, None)
            except Exception as error:  # a damaged file, a lost connection: see _load
                raise self._unreadable(error) from error
            if table is None:
                return
            yield table

    def _unreadable(self, error: Exception) -> UnitcorpusError:
        section = self._section
        name = f", configuration '{section.name}'" if section.name else ""
        return UnitcorpusError(
            f"cannot read the data set {section.path}{name}: {one_line(error)}; check source.path, "
            "source.name and source.revision"
        )

    @cached_property
    def _commit(self) -> str:
        """The commit that the revision names now; offline, the one the local cache has for it."""
        section = self._section
        if re.fullmatch(r"[0-9a-f]{40}", section.revision or ""):
            return str(section.revision)
        from huggingface_hub import HfApi
        from huggingface_hub import errors as hub

        try:
            return str(HfApi().dataset_info(section.path, revision=section.revision).sha)
        except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, ValueError) as error:
            raise self._unreadable(error) from error
        except Exception as error:  # no connection, a server in trouble, or offline mode
            return self._cached_commit(error)

    def _cached_commit(self, offline: Exception) -> str:
        """What the revision named when it was last downloaded here."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        section = self._section
        cache = Path(constants.HF_HUB_CACHE)
        folder = repo_folder_name(repo_id=section.path, repo_type="dataset")
        ref = cache / folder / "refs" / (section.revision or "main")
        if not ref.is_file():
            raise UnitcorpusError(
                f"the commit of data set {section.path} cannot be looked up here "
                f"({one_line(offline)}): connect, or set source.revision to a commit"
            ) from offline
        return ref.read_text().strip()


class HuggingfaceRows(HubTables):
    """Texts of the splits in `section.splits`, with our names for them. The limit is per split."""

    def __init__(self, section: HuggingfaceSource, seed: int) -> None:
        super().__init__(section)

    def rows(self) -> Iterator[Row | BadRow]:
        """Rows of each split in turn. Raises UnitcorpusError for a missing split or column."""
        for ours, theirs, tables in self.splits():
            yield from islice(self._split(ours, theirs, tables), self._section.limit)

    def _split(self, ours: str, theirs: str, tables: Iterator[Any]) -> Iterator[Row | BadRow]:
        section, where = self._section, f"split '{theirs}' of {self._section.path}"
        places = (f"{theirs} row {number}" for number in count())
        for table in tables:
            require(table.schema.names, section.text_column, section.id_column, where)
            require_strings(table.schema, section.text_column, where)
            yield from table_rows(table, section.text_column, section.id_column, places, ours)


def _folder_digest(folder: Path) -> str:
    """sha256 over the names, sizes and sha256 of a folder's files; hidden ones are not data."""
    digest = sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            contents = stored(str(path))
            digest.update(
                f"{name.as_posix()}\n{contents['bytes']}\n{contents['sha256']}\n".encode()
            )
    return digest.hexdigest()
