"""The rows of a plan in the making: payloads on disk, some 130 bytes a row in memory.

A million stories are about a gigabyte; only their hashes need to be compared, and the rows are read
back once, in the order of the shards.
"""

from __future__ import annotations

import mmap
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.rows import Candidate
from unitcorpus.seeds import seed_of


class Spool:
    """Rows in the order they came. `ids` and hashes are kept as arrays; `freeze` ends the writing.

    Attributes after freeze, each [rows]: `order` uint64, the canonical order, by hash of
    (seed, id); `id_hash` (of the source's split and the id), `content` and `duplicate`, hashes as
    two integers; `split` int64 into `splits`.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.seed = seed
        self.splits: list[str] = []
        self._path = path
        self._stream = path.open("wb")
        self._offsets = array("q", [0])
        self._id_lengths = array("i")
        self._order = array("Q")
        self._split = array("b")
        self._hashes = bytearray()
        self._seen_content: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, row: Candidate) -> None:
        name = row.id or self._content_id(row.content)
        encoded = name.encode("utf-8", "replace")
        self._stream.write(encoded)
        self._stream.write(row.payload)
        self._offsets.append(self._offsets[-1] + len(encoded) + len(row.payload))
        self._id_lengths.append(len(encoded))
        self._order.append(seed_of(self.seed, "order", name))
        if row.split not in self.splits:
            self.splits.append(row.split)
        self._split.append(self.splits.index(row.split))
        # A source with splits of its own may number each of them from 0.
        identity = row.split.encode() + b"\0" + encoded
        self._hashes += _id_hash(identity) + row.content + row.duplicate

    def _content_id(self, content: bytes) -> str:
        """The id of a row without one: its content, and which of its equals it is."""
        ordinal = self._seen_content.get(content, 0)
        self._seen_content[content] = ordinal + 1
        return f"{content.hex()[:16]}-{ordinal}"

    def freeze(self) -> None:
        self._stream.close()
        self._seen_content.clear()
        self.order = np.frombuffer(self._order, np.uint64)
        self.split = np.frombuffer(self._split, np.int8).astype(np.int64)
        hashes = np.frombuffer(self._hashes, "S16").reshape(-1, 3)
        self.id_hash, self.content, self.duplicate = (_sortable(hashes[:, i]) for i in range(3))
        with self._path.open("rb") as stream:
            size = self._offsets[-1]
            self._map = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def read(self, row: int) -> tuple[str, bytes]:
        """(id, payload) of a row."""
        start, stop = self._offsets[row], self._offsets[row + 1]
        data = self._map[start:stop]
        cut = self._id_lengths[row]
        return data[:cut].decode(), data[cut:]


def _id_hash(name: bytes) -> bytes:
    from hashlib import blake2b

    return blake2b(name, digest_size=16).digest()


def _sortable(column: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """16-byte hashes as rows of two integers [rows, 2]: equal where the hashes are, and sortable
    (numpy's own byte strings would drop trailing zeros)."""
    return np.ascontiguousarray(column).view(">u8").reshape(-1, 2).astype(np.uint64)
