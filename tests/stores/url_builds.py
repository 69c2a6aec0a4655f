"""Builds at URLs as tests see them: what lies there, and builds killed at an exact point."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import fsspec

from unitcorpus.build.run import Outcome, build_corpus
from unitcorpus.recipe import load_recipe

SETTINGS = ("source.count=12", "shards.samples=5", "validation=0.2")
"""Those of `small_corpus`, so that its bytes are due."""


def build(url: str, *settings: str, **options: Any) -> Outcome:
    return build_corpus(load_recipe("demo/stinystories", (*SETTINGS, *settings)), url, **options)


def objects(url: str) -> dict[str, bytes]:
    """Everything at a URL, by name."""
    system, top = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return {path[len(top) + 1 :]: system.cat_file(path) for path in system.find(top)}


def promised(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the receipts, which hold timings."""
    return {name: data for name, data in files.items() if not name.startswith("receipts/")}


def local_files(root: Path) -> dict[str, bytes]:
    """What a build in a folder leaves for others."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def killed_before(match: str, nth: int, url: str) -> int:
    """Builds in a process of its own, which SIGKILL ends before it opens the nth file that
    matches; how the process ended, by signal, or 0."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and re.search(match, str(arguments[0])):
            seen += 1
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        build(url)
    finally:
        os._exit(0)
