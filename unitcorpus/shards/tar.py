"""USTAR archives: written the same every time, read by a scan of the headers.

Written: members sorted within a sample, mode 0644, owner 0, time 0, no names of users. Read: only
regular files with plain names; anything else (links, devices, paths that lead out) is refused.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO

from unitcorpus.shards.format import DamagedError

BLOCK = 512
RECORD = 20 * BLOCK

NAME = re.compile(rb"[^./\\\x00-\x1f\x7f-\xff]+\.[^/\\\x00-\x1f\x7f-\xff]*")
"""A key and a member's name: nothing that leads anywhere, nothing that a terminal obeys."""
SIZE = re.compile(rb"[0-7]{11}[\0 ]")


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member. Names are at most 100 characters (ours are far shorter)."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def write_sample(stream: IO[bytes], key: str, members: Mapping[str, bytes]) -> int:
    """Appends the members of one sample as `KEY.name`, sorted; returns the bytes written."""
    written = 0
    for name in sorted(members):
        data = members[name]
        block = header(f"{key}.{name}", len(data)) + data + bytes(-len(data) % BLOCK)
        stream.write(block)
        written += len(block)
    return written


def end(written: int) -> bytes:
    """What closes an archive of `written` bytes: two empty blocks, filled up to a record."""
    return bytes(2 * BLOCK + -(written + 2 * BLOCK) % RECORD)


def scan(data: bytes | memoryview) -> Iterator[tuple[str, dict[str, memoryview]]]:
    """The samples of an archive: (key, {member name: content}), contents as views of `data`.

    The members of a sample stand together. Raises DamagedError for what we never write.
    """
    view = memoryview(data)
    key, members = "", dict[str, memoryview]()
    for name, start, stop in _members(view):
        stem, _, member = name.partition(".")
        if stem != key:
            if members:
                yield key, members
            key, members = stem, {}
        elif member in members:
            raise DamagedError(f"member {name} is there twice")
        members[member] = view[start:stop]
    if members:
        yield key, members


def _members(view: memoryview) -> Iterator[tuple[str, int, int]]:
    """(name, start, stop) of every member, by its header."""
    position, size = 0, len(view)
    while position + BLOCK <= size:
        head = bytes(view[position : position + BLOCK])
        if head[0] == 0:
            if head.count(0) != BLOCK:
                raise DamagedError(f"not a tar header at byte {position}")
            return
        name = _name(head, position)
        start = position + BLOCK
        if not SIZE.fullmatch(head[124:136]):  # int() would take a minus too
            raise DamagedError(f"not a tar header at byte {position}")
        stop = start + int(head[124:135], 8)
        if stop > size:
            raise DamagedError(f"the archive ends inside {name}")
        yield name, start, stop
        position = stop + (-(stop - start) % BLOCK)
    raise DamagedError("the archive has no end: it was cut off")


def _name(head: bytes, position: int) -> str:
    """The member's name, if it is one that we write: a regular USTAR file without folders."""
    if head[257:263] != b"ustar\0" or head[156:157] != b"0" or head[345]:
        raise DamagedError(f"byte {position}: not a regular file in USTAR format")
    name = head[: head.index(0)] if 0 in head[:100] else head[:100]
    if not NAME.fullmatch(name):
        raise DamagedError(f"byte {position}: the name {name!r} is not a sample's")
    return name.decode("ascii")
