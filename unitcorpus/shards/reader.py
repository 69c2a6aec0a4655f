"""The public reader: `unitcorpus.open(dir)`.

    corpus = unitcorpus.open("corpora/demo")
    for sample in corpus.samples("train"): ...
    corpus["train-000000-000042"].meta["text"]

A shard is mapped into memory and its tar headers are scanned; arrays are views of the map, and the
JSON of a sample is parsed when asked for. Any fsspec URL works in place of a folder: its shards are
then fetched whole, one at a time.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards import tar
from unitcorpus.shards.format import (
    FORMAT,
    MAX_JSON,
    MAX_META,
    DamagedError,
    read_npy,
    shard_of,
    unseal,
)
from unitcorpus.shards.layout import LAYOUTS, Layout
from unitcorpus.shards.schema import check_corpus, check_index
from unitcorpus.shards.store import Store, folder_of, is_url


@dataclass(frozen=True)
class Sample:
    """One utterance, or several that belong together (`part`).

    `key` is unique over the corpus; `members` are its files ({name: bytes}) as views of the shard.
    """

    key: str
    members: dict[str, memoryview]

    @property
    def units(self) -> NDArray[np.uint16]:
        """uint16 [n], consecutive repeats collapsed. A read-only view."""
        return self.part("units")

    @property
    def durations(self) -> NDArray[np.uint32] | None:
        """uint32 [n] run lengths in frames, or None where the corpus has none. A read-only view."""
        return self.part_durations("units")

    def part(self, name: str) -> NDArray[np.uint16]:
        """The units of one part, by its name (`prompt`, `chosen`, `rejected`, `right`, `wrong`)."""
        return read_npy(self._member(f"{name}.npy"), "<u2")

    def part_durations(self, name: str) -> NDArray[np.uint32] | None:
        """The run lengths of one part."""
        member = "durations.npy" if name == "units" else f"{name}_durations.npy"
        return read_npy(self.members[member], "<u4") if member in self.members else None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The fields of KEY.json: id, text, voice, …"""
        member = self._member("json")
        if len(member) > MAX_META:
            raise DamagedError(f"sample {self.key}: its JSON has {len(member)} bytes: too large")
        try:
            value = json.loads(bytes(member))
        except (ValueError, RecursionError):
            raise DamagedError(f"sample {self.key}: its JSON cannot be read") from None
        if not isinstance(value, dict):
            raise DamagedError(f"sample {self.key}: its JSON is not an object")
        return value

    def _member(self, name: str) -> memoryview:
        try:
            return self.members[name]
        except KeyError:
            raise DamagedError(f"sample {self.key} has no {name}") from None


class Corpus:
    """A finished corpus. `info` is the content of corpus.json; nothing else is read until asked."""

    def __init__(self, root: Path | str) -> None:
        self._files = _Remote(str(root)) if is_url(root) else _Local(folder_of(root))
        self.info = self._sealed("corpus.json")
        if self.info.get("format") != FORMAT:
            raise UnitcorpusError(
                f"{root} is of format {self.info.get('format')}; this version reads {FORMAT}"
            )
        check_corpus(self.info)
        self._recent: dict[str, dict[str, dict[str, memoryview]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the shards in memory, for processes that load data."""
        return {**self.__dict__, "_recent": {}}

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def layout(self) -> Layout:
        """What a sample holds: one utterance, or the parts of a pair."""
        return LAYOUTS[self.info["layout"]["kind"]]

    @property
    def splits(self) -> list[str]:
        return list(self.info["splits"])

    @property
    def unit_spec(self) -> dict[str, Any]:
        """What the units are; corpora are mixed only where its `fingerprint` is the same."""
        return dict(self.info["units"])

    @cached_property
    def index(self) -> list[dict[str, Any]]:
        """The shards: {url, nsamples, filesize, sha256} each, in order."""
        return check_index(self._sealed("index.json"))

    def __len__(self) -> int:
        return sum(int(split["samples"]) for split in self.info["splits"].values())

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def __getitem__(self, key: str) -> Sample:
        """The sample of a key; the offsets of a shard's samples are found once. Raises KeyError."""
        shard = shard_of(key)
        if shard not in self._names:
            raise KeyError(key)
        return Sample(key, self._shard(shard)[key])

    def samples(self, split: str | None = None) -> Iterator[Sample]:
        """The samples of a split (or of all) in the corpus's order."""
        for name in self.shards(split):
            try:
                for key, members in tar.scan(self._files.read(f"data/{name}.tar")):
                    yield Sample(key, members)
            except DamagedError as error:
                raise DamagedError(f"shard {name}: {error}") from None

    def shards(self, split: str | None = None) -> list[str]:
        """The names of the shards of a split (or of all)."""
        if split is not None and split not in self.splits:
            raise UnitcorpusError(
                f"{self.name} has no split '{split}'; its splits are {', '.join(self.splits)}"
            )
        names = [Path(entry["url"]).stem for entry in self.index]
        return [n for n in names if split is None or n.startswith(f"{split}-")]

    def archive(self, name: str) -> memoryview:
        """The bytes of a shard's tar. Raises DamagedError where they are not those of the index."""
        data = self._files.read(f"data/{name}.tar")
        digests = {Path(entry["url"]).stem: entry["sha256"] for entry in self.index}
        if sha256(data).hexdigest() != digests[name]:
            raise DamagedError(f"shard {name} is damaged: its bytes are not those of the index")
        return data

    def _shard(self, name: str) -> dict[str, dict[str, memoryview]]:
        """The members of every sample of a shard; the last few shards are kept."""
        if name not in self._recent:
            if len(self._recent) == 8:
                self._recent.pop(next(iter(self._recent)))
            self._recent[name] = dict(tar.scan(self._files.read(f"data/{name}.tar")))
        return self._recent[name]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.shards())

    def _sealed(self, name: str) -> dict[str, Any]:
        data = self._files.read(name)
        if len(data) > MAX_JSON:
            raise DamagedError(f"{name} has {len(data)} bytes: too large to be ours")
        return unseal(bytes(data), name)


class _Local:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> memoryview:
        """A file's content, mapped into memory rather than read."""
        path = self.root / name
        try:
            with path.open("rb") as stream:
                if path.stat().st_size == 0:
                    return memoryview(b"")
                return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            raise _missing(str(self.root), name) from None
        except OSError as error:
            raise UnitcorpusError(f"cannot read {path}: {error.strerror}") from None


class _Remote:
    def __init__(self, root: str) -> None:
        self.store = Store(root)

    def read(self, name: str) -> memoryview:
        limit = None if name.endswith(".tar") else MAX_JSON
        try:
            return memoryview(self.store.read(name, limit))
        except FileNotFoundError:
            raise _missing(self.store.url, name) from None


def _missing(root: str, name: str) -> UnitcorpusError:
    if name == "corpus.json":
        return UnitcorpusError(
            f"{root} is not a finished corpus: it has no corpus.json. If a build was stopped "
            "there, run the same command again"
        )
    return DamagedError(f"{root}: {name} is missing")


def open_corpus(root: Path | str) -> Corpus:
    """Opens a finished corpus: a folder or any fsspec URL (`hf://datasets/user/name`).

    Raises UnitcorpusError where there is none, DamagedError where corpus.json was changed.
    """
    return Corpus(root)
