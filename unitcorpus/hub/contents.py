"""What of a corpus goes to the Hub, and in which order: shards, then records, then corpus.json.

A reader takes a corpus without corpus.json for unfinished, so a push that stopped anywhere is never
taken for a whole one. Files are named by the plan; anything else in the folder, the lock and
unfinished files stay here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path

from unitcorpus.shards.format import file_sha256
from unitcorpus.shards.schema import read_plan_file

FILES = 100
"""Files of one commit, at most."""

BYTES = 5_000_000_000
"""Bytes of one commit, at most, unless one file alone has more."""

LAST = ("README.md", "corpus.json")
"""What makes a corpus whole, all in the last commit."""


@dataclass(frozen=True)
class Content:
    """A file to send: its name in the corpus, its size in bytes, and the stage it belongs to."""

    root: Path
    name: str
    size: int
    stage: str

    @property
    def path(self) -> Path:
        return self.root / self.name

    @cached_property
    def sha256(self) -> str:
        """What the Hub knows a large file by."""
        return file_sha256(self.path)

    @cached_property
    def blob(self) -> str:
        """What git knows a file by."""
        data = self.path.read_bytes()
        return sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Step:
    """The files of one commit."""

    stage: str
    files: tuple[Content, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def contents(root: Path) -> list[Content]:
    """The files of the corpus in `root`, in the order in which they are sent.

    Raises DamagedError where there is no plan; files that are missing are for `verify` to tell.
    """
    found = []
    for stage, name in _names(root):
        path = root / name
        if path.is_file():
            found.append(Content(root, name, path.stat().st_size, stage))
    return found


def _names(root: Path) -> Iterator[tuple[str, str]]:
    shards = [shard["name"] for shard in read_plan_file(root)["shards"]]
    for folder in ("data", "audio"):
        yield from (("shards", f"{folder}/{shard}.tar") for shard in shards)
    for pattern in ("rejects/{}.jsonl", "receipts/{}.json", "plan/inputs/{}.parquet"):
        yield from (("records", pattern.format(shard)) for shard in shards)
    records = ("plan/rejects.jsonl", "plan/request.json", "plan/plan.json", "codebook.npy")
    yield from (("records", name) for name in (*records, "report.html", "index.json"))
    yield from (("the corpus", name) for name in LAST)


def steps(files: Iterable[Content]) -> list[Step]:
    """Files as commits: of one stage each, up to FILES files and BYTES bytes, in their order."""
    made: list[Step] = []
    for file in files:
        last = made[-1] if made else None
        full = last is None or last.stage != file.stage or len(last.files) == FILES
        if last is None or full or last.size + file.size > BYTES:
            made.append(Step(file.stage, (file,)))
        else:
            made[-1] = Step(last.stage, (*last.files, file))
    return made
