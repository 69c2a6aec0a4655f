"""Corpora as flat token arrays: PAD 0, BOS = EOS = 1, unit i at i + 2, as in the published models.

    tokens = open_tokens("corpora/stinystories", "train")
    tokens.tokens[tokens.offsets[i] : tokens.offsets[i + 1]]      # document i: [1, units + 2, 1]

The shards of a split are read once, checked against the index, and kept as a uint16 memory map in a
cache folder that is named by the digest of corpus.json. It appears whole or not at all, and
processes that want the same one at the same time wait for the first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

import unitcorpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards import tar
from unitcorpus.shards.format import DamagedError, fingerprint, seal, unseal
from unitcorpus.shards.reader import Corpus, Sample
from unitcorpus.shards.writer import sync_folder

PAD, BOS, EOS = 0, 1, 1
FIRST_UNIT = 2
LAYOUT = 1
"""Version of the cached files; in their fingerprint."""


class Units(Protocol):
    """What is made of units of some unit spec."""

    @property
    def name(self) -> str: ...
    @property
    def unit_spec(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Tokens:
    """The documents of one split of a corpus, in its order.

    `tokens` uint16 [n] is a read-only memory map, `offsets` int64 [documents + 1]; `shards` names
    each shard and its first document; `fingerprint` identifies the content.
    """

    name: str
    split: str
    location: str
    fingerprint: str
    unit_spec: dict[str, Any]
    shards: tuple[tuple[str, int], ...]
    tokens: NDArray[np.uint16]
    offsets: NDArray[np.int64]

    @property
    def vocabulary(self) -> int:
        return vocabulary(self.unit_spec)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def key(self, document: int) -> str:
        """The sample key of a document, looked up in the corpus."""
        shard, first = next(entry for entry in reversed(self.shards) if entry[1] <= document)
        try:
            samples = read_shard(unitcorpus.open(self.location), shard)
            return next(one.key for i, one in enumerate(samples, first) if i == document)
        except UnitcorpusError:  # the corpus is gone; the compiled tokens are not
            return f"sample {document - first} of {shard}"


def vocabulary(unit_spec: dict[str, Any]) -> int:
    """The number of tokens: units + PAD + BOS/EOS."""
    return int(unit_spec["size"]) + FIRST_UNIT


def unit_words(unit_spec: Mapping[str, Any]) -> str:
    """A unit spec for a message: extractor, size and the start of its fingerprint."""
    extractor = unit_spec["extractor"]
    kind = extractor.get("name") or extractor.get("kind")
    return f"{kind}, {unit_spec['size']} units, spec {unit_spec['fingerprint'][:8]}"


def cache_folder(name: str) -> Path:
    """Where things that can be made again are kept: `$XDG_CACHE_HOME/unitcorpus/NAME`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "unitcorpus" / name


def check_same_units(sources: Sequence[Units]) -> None:
    """Raises UnitcorpusError where two sources are made of different units."""
    for other in sources[1:]:
        one, two = sources[0].unit_spec, other.unit_spec
        if one["fingerprint"] != two["fingerprint"]:
            raise UnitcorpusError(
                f"the units of {sources[0].name} ({unit_words(one)}) are not those of "
                f"{other.name} ({unit_words(two)}): build both with the same units section"
            )


def open_tokens(location: str | Path, split: str = "train", cache: Path | None = None) -> Tokens:
    """The tokens of one split of a finished corpus (a folder or any fsspec URL).

    Compiled on first use into `cache` (default: $XDG_CACHE_HOME/unitcorpus/tokens). Raises
    UnitcorpusError where there is no such corpus or split, DamagedError where a shard is not what
    the build wrote.
    """
    corpus = unitcorpus.open(location)
    if not corpus.layout.plain:
        kind = corpus.layout.kind
        raise UnitcorpusError(f"{location} holds {kind}; pretraining reads a corpus of utterances")
    shards = corpus.shards(split)
    content = {"corpus": fingerprint(corpus.info), "split": split, "layout": LAYOUT}
    root = cache or cache_folder("tokens")
    folder = root / fingerprint(content)[:32]
    with _disk(root):
        root.mkdir(parents=True, exist_ok=True)
        with (root / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _compile(corpus, shards, folder)
    return _open(corpus, split, str(location), folder)


def _open(corpus: Corpus, split: str, location: str, folder: Path) -> Tokens:
    meta = unseal((folder / "meta.json").read_bytes(), str(folder / "meta.json"))
    offsets = np.load(folder / "offsets.npy")
    tokens = np.memmap(folder / "tokens.u16", np.uint16, "r")
    if len(tokens) != offsets[-1]:
        raise DamagedError(f"{folder} is damaged: remove it, and it is made again")
    return Tokens(
        name=corpus.name,
        split=split,
        location=location,
        fingerprint=folder.name,
        unit_spec=corpus.unit_spec,
        shards=tuple((name, first) for name, first in meta["shards"]),
        tokens=tokens.view(np.ndarray),
        offsets=offsets,
    )


def _compile(corpus: Corpus, shards: list[str], folder: Path) -> None:
    """Writes tokens.u16, offsets.npy and meta.json into `folder`, by way of a temporary one.

    The caller holds the lock, so a temporary folder that is there was left by a killed process.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    lengths: list[NDArray[np.int64]] = []
    starts: list[tuple[str, int]] = []
    documents = 0
    with (temporary / "tokens.u16").open("wb") as stream:
        for name in shards:
            starts.append((name, documents))
            tokens, of_shard = _documents(corpus, name)
            stream.write(tokens.data)
            lengths.append(of_shard)
            documents += len(of_shard)
        _sync(stream)
    if not documents:
        raise UnitcorpusError(f"{corpus.name} has no samples in the split that was asked for")
    offsets = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
    with (temporary / "offsets.npy").open("wb") as stream:
        np.save(stream, offsets)
        _sync(stream)
    with (temporary / "meta.json").open("wb") as stream:
        stream.write(seal({"shards": starts}))
        _sync(stream)
    sync_folder(temporary)
    temporary.rename(folder)
    sync_folder(folder.parent)


def _documents(corpus: Corpus, shard: str) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """(tokens of a shard's documents one after the other, length of each)."""
    units = [sample.units for sample in read_shard(corpus, shard)]
    lengths = np.array([len(one) + 2 for one in units], np.int64)
    flat = np.concatenate([np.zeros(0, np.uint16), *units])
    check_units(flat, corpus.unit_spec, f"{corpus.name}, shard {shard}")
    ends = lengths.cumsum()
    tokens = np.empty(int(lengths.sum()), np.uint16)
    is_unit = np.ones(len(tokens), bool)
    is_unit[ends - 1] = is_unit[ends - lengths] = False
    tokens[~is_unit] = BOS
    tokens[is_unit] = flat + np.uint16(FIRST_UNIT)
    return tokens, lengths


def read_shard(corpus: Corpus, shard: str) -> Iterator[Sample]:
    """The samples of a shard, once its bytes are found to be those of the index."""
    try:
        for key, members in tar.scan(corpus.archive(shard)):
            yield Sample(key, members)
    except DamagedError as error:
        raise DamagedError(f"{corpus.name}, shard {shard}: {error}") from None
    except OSError as error:  # of a network
        raise UnitcorpusError(f"cannot read shard {shard} of {corpus.name}: {error}") from error


def check_units(units: NDArray[np.uint16], unit_spec: dict[str, Any], where: str) -> None:
    """Raises DamagedError where a unit is not one of the spec's."""
    if len(units) and int(units.max()) >= unit_spec["size"]:
        raise DamagedError(f"{where}: unit {units.max()} in a codebook of {unit_spec['size']}")


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """Says where tokens are kept when the disk is full or may not be written."""
    try:
        yield
    except OSError as error:
        raise UnitcorpusError(
            f"cannot keep compiled tokens in {root}: {error.strerror or error}; make room there, "
            "or set XDG_CACHE_HOME to a folder on another disk"
        ) from error
