"""Files as the sources read them: opened by path or fsspec URL, decompressed, line by line, hashed.

Invariant: nothing is held but the line in hand, and a compressed file that is cut off is an error,
never a short read. zstd goes through pyarrow, which fsspec has no codec for without a further
package and which, unlike that package's plain reader, reads every frame of a file.
"""

from __future__ import annotations

import json
import lzma
import posixpath
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from hashlib import sha256
from typing import IO, Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.sources.base import BadRow

MAX_LINE = 1 << 26
"""Bytes of a line: a small compressed file may unfold to one that no memory holds."""

_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"


def _gzip(raw: IO[bytes]) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=raw)


def _bz2(raw: IO[bytes]) -> Any:
    import bz2

    return bz2.BZ2File(raw)


def _zstd(raw: IO[bytes]) -> Any:
    import io

    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(raw, compression="zstd"))


COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": _gzip,
    ".bz2": _bz2,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}


def endings(path: str) -> tuple[str, str]:
    """The ending that tells the format and the one that tells the compression, lower case.

    `("", "")` where there is none: `data/a.jsonl.gz` gives `(".jsonl", ".gz")`. The query of a URL
    is no part of its name.
    """
    name = path.split("?", 1)[0] if "://" in path else path
    stem, ending = posixpath.splitext(name)
    if ending.lower() in COMPRESSIONS:
        return posixpath.splitext(stem)[1].lower(), ending.lower()
    return ending.lower(), ""


def one_line(error: BaseException) -> str:
    """What an exception says, for a message of one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file as stored. What goes wrong inside the block becomes UnitcorpusError."""
    import fsspec

    try:
        handle = fsspec.open(path, "rb")
        raw = handle.__enter__()
    except OSError as error:
        raise _unread(path, error) from error
    except Exception as error:  # no such protocol, or its package; and each store raises its own
        raise UnitcorpusError(f"cannot open {path}: {one_line(error)}") from error
    try:
        with closing(handle):
            yield raw
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unread(path, error) from error


def _unread(path: str, error: Exception) -> UnitcorpusError:
    if isinstance(error, FileNotFoundError):
        return UnitcorpusError(f"no such file: {path} (source.path)")
    if isinstance(error, IsADirectoryError):
        return UnitcorpusError(
            f"{path} is a folder: source.path must name one file "
            "(a folder of data files is read by source.kind 'huggingface')"
        )
    return UnitcorpusError(f"cannot read {path}: {one_line(error)}; check it or fetch it again")


def stored(path: str) -> dict[str, Any]:
    """`bytes` and `sha256` of a file as stored, which identify its contents."""
    digest, size = sha256(), 0
    with opened(path) as raw:
        while chunk := raw.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Lines with their number from 1, newline included, decompressed, without a byte order mark."""
    compression = endings(path)[1]
    with (
        opened(path) as raw,
        COMPRESSIONS[compression](raw) if compression else nullcontext(raw) as data,
    ):
        number = 0
        while line := data.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise UnitcorpusError(
                    f"{path}, line {number} has more than {MAX_LINE >> 20} MiB: this is no file of "
                    "a row a line"
                )
            yield number, line.removeprefix(_BOM) if number == 1 else line


def not_utf8(where: str, error: UnicodeDecodeError) -> BadRow:
    """The row for bytes that are no text."""
    byte = error.object[error.start]
    return BadRow(where, "not_utf8", f"byte 0x{byte:02x} at offset {error.start} is not UTF-8")


def json_rows(path: str) -> Iterator[tuple[str, dict[str, Any]] | BadRow]:
    """The objects of a JSONL file with their place; blank lines are no rows."""
    for number, line in lines(path):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line.rstrip(b"\r\n").decode())
        except UnicodeDecodeError as error:
            yield not_utf8(where, error)
        except json.JSONDecodeError as error:
            yield BadRow(where, "malformed_json", f"{error.msg}: column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number or a nesting without end
            yield BadRow(where, "malformed_json", one_line(error))
        else:
            if isinstance(value, dict):
                yield where, value
            else:
                detail = f"an object is expected, not {type(value).__name__}"
                yield BadRow(where, "malformed_json", detail)
