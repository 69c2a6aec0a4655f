"""The parts of the on-disk format that everything shares: names, sealed JSON, .npy members.

A sealed JSON file is canonical (sorted keys, two spaces, UTF-8, a final newline) and carries the
sha256 of itself without the digest, so that any changed byte is found by reading the file alone.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import UnitcorpusError

FORMAT = 1
"""Version of the format and of everything that decides bytes; in every plan fingerprint."""

MAX_JSON = 1 << 28
"""Bytes: a JSON file above this is refused before it is read."""

MAX_META = 1 << 24
"""Bytes: so is the JSON of a sample, before it is parsed."""


class DamagedError(UnitcorpusError):
    """A file of a corpus that is not what the build wrote."""


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}"


def sample_key(shard: str, row: int) -> str:
    """Unique over the corpus, sorts as the rows do, no dot: `train-000000-000042`."""
    return f"{shard}-{row:06d}"


def shard_of(key: str) -> str:
    """The shard that holds a key: `train-000000-000042` is in `train-000000`."""
    return "-".join(key.split("-")[:2])


def canonical(value: Any) -> bytes:
    """JSON in the one form that is hashed and written."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def fingerprint(value: Any) -> str:
    return sha256(canonical(value)).hexdigest()


def seal(value: dict[str, Any]) -> bytes:
    """Canonical bytes of `value` with its own digest added."""
    return canonical({**value, "digest": fingerprint(value)})


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """The content of a sealed file, without its digest. Raises DamagedError for a changed byte."""
    if len(data) > MAX_JSON:
        raise DamagedError(f"{name} has {len(data)} bytes: too large to be ours")
    try:
        value = json.loads(data)
        digest = value.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise DamagedError(f"{name} is damaged: not a sealed JSON file") from None
    try:
        intact = seal(value) == data and digest == fingerprint(value)
    except (ValueError, TypeError, UnicodeEncodeError):
        intact = False
    if not intact:
        raise DamagedError(f"{name} is damaged: its content does not match its digest")
    return dict(value)


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads and unseals a file. Raises DamagedError, also where it is missing."""
    try:
        if (size := path.stat().st_size) > MAX_JSON:
            raise DamagedError(f"{path.name} has {size} bytes: too large to be ours")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except OSError as error:
        raise UnitcorpusError(f"cannot read {path}: {error.strerror}") from None
    return unseal(data, path.name)


def npy_bytes(array: NDArray[Any]) -> bytes:
    """A one-dimensional array as .npy format 1.0, the same bytes under every numpy version."""
    descr = array.dtype.newbyteorder("<").str
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({array.shape[0]},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    prefix = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    return prefix + np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def read_npy(data: bytes | memoryview, dtype: str) -> NDArray[Any]:
    """The array in a .npy member: one-dimensional, of the given dtype, a read-only view of `data`.

    Nothing is allocated by what the header claims. Raises DamagedError.
    """
    head = bytes(data[:10])
    if len(head) < 10 or head[:8] != b"\x93NUMPY\x01\x00":
        raise DamagedError("not a .npy array of format 1.0")
    start = 10 + int.from_bytes(head[8:10], "little")
    header = bytes(data[10:start])
    expected = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (".encode()
    count, _, rest = header[len(expected) :].partition(b",")
    if (
        not header.startswith(expected)
        or not count.isdigit()
        or len(count) > 12
        or rest.rstrip() not in (b"), }", b")}")
    ):
        raise DamagedError(f"not a one-dimensional .npy array of {dtype}")
    if len(data) - start != int(count) * np.dtype(dtype).itemsize:
        raise DamagedError("a .npy array whose length is not what its header says")
    return np.frombuffer(data, dtype, offset=start)


def count_frames(samples: int, geometry: dict[str, Any]) -> int:
    """Frames of a waveform of `samples`, by the published arithmetic: padding on both sides, then
    each convolution takes (n - kernel) // stride + 1. `geometry` is the unit spec's
    extractor.frames: {"padding": samples a side, "convolutions": [[kernel, stride], …]}."""
    n = samples + 2 * int(geometry["padding"])
    for kernel, stride in geometry["convolutions"]:
        n = (n - kernel) // stride + 1 if n >= kernel else 0
    return n


def file_sha256(path: Path) -> str:
    """sha256 of a file, streamed."""
    from hashlib import file_digest

    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()
