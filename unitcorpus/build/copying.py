"""Writing a cleaned corpus: its plan, and its shards, copied but for the samples removed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from unitcorpus.build.output import reject_line
from unitcorpus.dedup.report import read_removals
from unitcorpus.errors import Reject
from unitcorpus.shards.format import (
    FORMAT,
    DamagedError,
    file_sha256,
    fingerprint,
    read_sealed,
    seal,
)
from unitcorpus.shards.inputs import input_path
from unitcorpus.shards.layout import LAYOUTS, Layout
from unitcorpus.shards.reader import Sample
from unitcorpus.shards.receipt import (
    FileMark,
    Receipt,
    audio_path,
    check_mark,
    data_path,
    marked_files,
    read_receipt,
    rejects_path,
    write_receipt,
)
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.tar import scan
from unitcorpus.shards.writer import TEMPORARY, AtomicFile, ShardWriter, sync_folder, write_atomic


def write_cleaned_plan(root: Path, out: Path, record: dict[str, Any]) -> None:
    """Puts the plan of the corpus in `root`, with `record` in it, and its codebook into `out`.

    Raises DamagedError where a file is not what the corpus says it is.
    """
    plan = read_plan_file(root)
    request = read_sealed(root / "plan" / "request.json")
    work = out / f".plan{TEMPORARY}0" / "plan"
    (work / "inputs").mkdir(parents=True)
    try:
        for shard in plan["shards"]:
            source = input_path(root, shard["name"])
            _copy(source, work / "inputs" / source.name, shard["sha256"])
        _copy(root / "plan" / "rejects.jsonl", work / "rejects.jsonl", request["rejects"]["sha256"])
        if "codebook" in plan["units"]:
            _copy(root / "codebook.npy", out / "codebook.npy", plan["units"]["codebook"]["sha256"])
        own = {"format": FORMAT, "cleaned": record, "units": plan["units"]["fingerprint"]}
        plan |= {"fingerprint": fingerprint(own), "cleaned": record}
        # A build of the recipe here finds another request than its own, and refuses the folder.
        request["request"] = {**request["request"], "cleaned": record}
        write_atomic(work / "request.json", seal(request))
        write_atomic(work / "plan.json", seal(plan))
        sync_folder(work / "inputs")
        sync_folder(work)
        work.replace(out / "plan")
        sync_folder(out)
    finally:
        shutil.rmtree(work.parent, ignore_errors=True)


def _copy(source: Path, target: Path, sha256: str) -> None:
    if not source.is_file() or file_sha256(source) != sha256:
        raise DamagedError(f"{source} is missing or was changed: see unitcorpus verify")
    write_atomic(target, source.read_bytes())


class Copier:
    """Copies shards, in one process. `given`: the corpus, where to, what is removed, the plan."""

    def __init__(self, given: tuple[Path, Path, Path, dict[str, Any]]) -> None:
        self._root, self._out, self._removals, self._plan = given
        self._layout = LAYOUTS[self._plan["layout"]["kind"]]

    def copy(self, shard: str) -> None:
        """Writes a shard without what is removed from it, and commits it."""
        old = read_receipt(self._root, shard)
        for path, mark in marked_files(self._root, old):
            if problem := check_mark(path, mark):
                raise DamagedError(f"{self._root}: {problem}")
        removed = {
            key: Reject(reason, detail)
            for key, reason, detail in read_removals(self._removals, shard)
        }
        out = self._out
        data = ShardWriter(data_path(out, shard))
        audio = ShardWriter(audio_path(out, shard)) if old.audio else None
        rejects = AtomicFile(rejects_path(out, shard))
        with ExitStack() as files:  # closed in reverse, as a build does: data, audio, rejects
            for file in (rejects, audio, data):
                if file is not None:
                    files.enter_context(file)
            gone = list(_keep(data_path(self._root, shard), data, removed))
            if audio is not None:
                list(_keep(audio_path(self._root, shard), audio, removed))
            lines = [_line(sample, self._layout, removed[sample.key]) for sample in gone]
            lines += rejects_path(self._root, shard).read_bytes().splitlines(keepends=True)
            for line in sorted(lines, key=lambda line: str(json.loads(line)["key"])):
                rejects.write(line)
        if len(gone) != len(removed):
            raise DamagedError(f"{self._root}: data/{shard}.tar was changed meanwhile")
        receipt = _without(old, gone, self._layout, removed)
        write_receipt(
            out,
            replace(
                receipt,
                plan=self._plan["fingerprint"],
                data=FileMark(data.sha256, data.size),
                rejects=FileMark(rejects.sha256, rejects.size),
                audio=FileMark(audio.sha256, audio.size) if audio else None,
                timings={},
                run={},
            ),
        )


def _keep(path: Path, writer: ShardWriter, removed: dict[str, Reject]) -> Iterator[Sample]:
    """Writes the samples of an archive but for those removed, which it yields."""
    for key, members in scan(path.read_bytes()):
        if key in removed:
            yield Sample(key, members)
        else:
            writer.sample(key, {name: bytes(content) for name, content in members.items()})


def _line(sample: Sample, layout: Layout, reject: Reject) -> bytes:
    texts = [sample.meta[layout.field(part, "text")] for part in layout.parts]
    return reject_line(sample.key, sample.meta["id"], "\n".join(texts), reject)


def _without(
    receipt: Receipt, gone: list[Sample], layout: Layout, removed: dict[str, Reject]
) -> Receipt:
    """The receipt's counts less those of the samples that are gone."""
    num_samples = frames = units = 0
    for sample in gone:
        for part in layout.parts:
            durations = sample.part_durations(part)
            num_samples += sample.meta.get(layout.field(part, "num_samples"), 0)
            frames += int(durations.sum()) if durations is not None else 0
            units += len(sample.part(part))
    rejected = Counter(receipt.rejected)
    rejected.update(reject.reason for reject in removed.values())
    return replace(
        receipt,
        rejected=dict(sorted(rejected.items())),
        samples=receipt.samples - len(gone),
        num_samples=receipt.num_samples - num_samples,
        frames=receipt.frames - frames,
        units=receipt.units - units,
    )
