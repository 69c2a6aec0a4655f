"""Decompression that a small file cannot turn into a large one: as `joblib.dump` compresses."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

from unitcorpus.errors import UnitcorpusError

MOST_BYTES = 1 << 30
MOST_TIMES = 200
"""Centroids hardly compress, and the labels beside them some ten times."""
MOST_MEMORY = 1 << 28
"""Bytes that LZMA may take for its dictionary."""

Inflate = Callable[[bytes, int], tuple[bytes, bool]]
"""(data, most bytes) to (at most so many bytes, whether that is all)."""


def inflate(data: bytes, name: str) -> bytes:
    """`data` decompressed if it is zlib, gzip, bz2, xz or lzma, else as it is.

    Raises UnitcorpusError, which calls it `name`, where it is damaged or grows beyond all measure.
    """
    read = next((read for magic, read in FORMATS.items() if data.startswith(magic)), None)
    if read is None:
        return data
    most = min(MOST_BYTES, MOST_TIMES * len(data) + (1 << 20))
    try:
        found, whole = read(data, most + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
        raise UnitcorpusError(f"{name} cannot be decompressed: {error}") from error
    if len(found) > most:
        raise UnitcorpusError(
            f"{name} becomes more than {most:,} bytes from {len(data):,}: no codebook does; "
            "export its cluster_centers_ with numpy.save and give that file"
        )
    if not whole:
        raise UnitcorpusError(f"{name} is cut off")
    return found


def _zlib(data: bytes, most: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(wbits=47)  # zlib or gzip, told by the header
    return stream.decompress(data, most), stream.eof


def _bz2(data: bytes, most: int) -> tuple[bytes, bool]:
    stream = bz2.BZ2Decompressor()
    return stream.decompress(data, most), stream.eof


def _lzma(data: bytes, most: int) -> tuple[bytes, bool]:
    stream = lzma.LZMADecompressor(memlimit=MOST_MEMORY)
    return stream.decompress(data, most), stream.eof


def _lz4(data: bytes, most: int) -> tuple[bytes, bool]:
    raise OSError("lz4 is not read here; load it with joblib where it was made")


FORMATS: dict[bytes, Inflate] = {
    **{b"\x78" + level: _zlib for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")},
    b"\x1f\x8b": _zlib,
    b"BZh": _bz2,
    b"\xfd7zXZ\x00": _lzma,
    b"\x5d\x00\x00": _lzma,
    b"\x04\x22\x4d\x18": _lz4,
}
