"""One build at a time in a folder.

The lock is the kernel's (flock), so a killed build leaves none behind; the file only says who holds
it. Children started by exec do not inherit it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unitcorpus.errors import UnitcorpusError

NAME = ".lock"


@contextmanager
def build_lock(root: Path) -> Iterator[None]:
    """Holds the lock of `root`, or raises UnitcorpusError naming who does."""
    stream = _opened(root / NAME)
    try:
        if not _take(stream):
            raise UnitcorpusError(f"{root} is being built by {_who(stream)}; wait for it")
        stream.seek(0)
        stream.truncate()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, stream)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)
    finally:
        stream.close()


def _opened(path: Path) -> IO[str]:
    """The lock's file, to read and write. A link is not followed: who holds the lock writes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.fdopen(os.open(path, flags, 0o644), "r+")
    except OSError as error:
        if path.is_symlink():
            raise UnitcorpusError(f"{path} is a link, which no build makes: remove it") from None
        raise UnitcorpusError(f"cannot lock {path}: {error.strerror}") from None


def holder(root: Path) -> dict[str, Any] | None:
    """Who builds in `root` now ({host, pid, since}), or None."""
    path = root / NAME
    if not path.exists():
        return None
    with path.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _content(stream) or {"host": "?", "pid": 0, "since": "?"}
    return None


def _take(stream: IO[str]) -> bool:
    """Whether the lock could be had within a second: `holder` takes it for a moment to look."""
    for _ in range(10):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return True
    return False


def _content(stream: IO[str]) -> dict[str, Any] | None:
    stream.seek(0)
    try:
        value: dict[str, Any] = json.loads(stream.read())
    except ValueError:
        return None
    return value


def _who(stream: IO[str]) -> str:
    held = _content(stream)
    if held is None:
        return "another process"
    return f"process {held['pid']} on {held['host']} since {held['since']}"
