"""`unitcorpus verify`: every digest, every count, every invariant of a finished corpus.

Nothing is taken on trust: files against receipts, receipts against the plan, samples against the
unit spec and the planned rows, totals against corpus.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.shards.format import (
    DamagedError,
    count_frames,
    file_sha256,
    read_sealed,
    shard_name,
)
from unitcorpus.shards.reader import Corpus, Sample
from unitcorpus.shards.receipt import (
    Receipt,
    check_mark,
    data_path,
    marked_files,
    read_receipt,
    rejects_path,
)
from unitcorpus.shards.tar import scan


def verify(root: Path, tick: Callable[[int, int], None] = lambda *_: None) -> list[str]:
    """The problems of the corpus in `root`, one line each; none if it is whole.

    `tick` is called with (shards checked, shards). Raises UnitcorpusError if there is no corpus.
    """
    corpus = Corpus(root)
    problems = [*_check_files(root, corpus)]
    try:
        plan = read_sealed(root / "plan" / "plan.json")
        shards = plan["shards"]
        listed = {entry["url"]: entry for entry in corpus.index}
    except DamagedError as error:
        return _once([*problems, str(error)])
    receipts = []
    for number, shard in enumerate(shards):
        try:
            receipt = read_receipt(root, shard["name"])
            receipts.append(receipt)
            problems += _check_shard(root, corpus, shard, receipt, listed)
        except DamagedError as error:
            problems.append(str(error))
        tick(number + 1, len(shards))
    problems += _check_strays(root, {shard["name"] for shard in shards})
    if len(receipts) == len(shards):
        problems += _check_totals(corpus, plan, receipts)
    return _once(problems)


def _once(problems: list[str]) -> list[str]:
    return list(dict.fromkeys(problems))


def _check_files(root: Path, corpus: Corpus) -> Iterator[str]:
    """The files that corpus.json answers for, and the sealed record of the request."""
    for name, mark in corpus.info["files"].items():
        path = root / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != mark["bytes"] or file_sha256(path) != mark["sha256"]:
            yield f"{name} was changed: its sha256 is not the one in corpus.json"
    try:
        read_sealed(root / "plan" / "request.json")
    except DamagedError as error:
        yield str(error)
    planned = read_json_or_none(root / "plan" / "plan.json")
    rejects = root / "plan" / "rejects.jsonl"
    if planned and (not rejects.is_file() or file_sha256(rejects) != planned["rejects"]["sha256"]):
        yield "plan/rejects.jsonl is missing or was changed"


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """A sealed file's content, or None where it is damaged (which is reported elsewhere)."""
    try:
        return read_sealed(path)
    except DamagedError:
        return None


def _check_shard(
    root: Path, corpus: Corpus, shard: dict[str, Any], receipt: Receipt, listed: dict[str, Any]
) -> Iterator[str]:
    name = shard["name"]
    source = root / "plan" / "inputs" / f"{name}.parquet"
    if not source.is_file() or file_sha256(source) != shard["sha256"]:
        yield f"plan/inputs/{name}.parquet is missing or was changed"
    expected = (corpus.info["plan"], corpus.unit_spec["fingerprint"], shard["sha256"], name)
    if (receipt.plan, receipt.unit_spec, receipt.input, receipt.shard) != expected:
        yield f"receipts/{name}.json is of another plan"
    problems = [p for path, mark in marked_files(root, receipt) if (p := check_mark(path, mark))]
    yield from problems
    entry = listed.get(f"data/{name}.tar")
    said = entry and (entry["nsamples"], entry["filesize"], entry["sha256"])
    if said != (receipt.samples, receipt.data.bytes, receipt.data.sha256):
        yield f"index.json does not list data/{name}.tar as its receipt has it"
    if not problems:
        yield from _check_samples(root, corpus, shard, receipt)


def _check_samples(
    root: Path, corpus: Corpus, shard: dict[str, Any], receipt: Receipt
) -> Iterator[str]:
    """The samples of a shard whose bytes are right: invariants, counts, and that no row is lost."""
    name, spec = shard["name"], corpus.unit_spec
    keys: list[str] = []
    counts = np.zeros(4, np.int64)
    fields: set[str] | None = None
    for key, members in scan(data_path(root, name).read_bytes()):
        sample = Sample(key, members)
        keys.append(key)
        try:
            problem, count = check_sample(sample, spec)
        except DamagedError as error:
            problem, count = str(error), (0, 0, 0)
        if problem:
            yield f"sample {key}: {problem}"
            continue
        counts += (1, *count)
        if fields is not None and set(sample.meta) != fields:
            yield f"sample {key} has other fields than the first of its shard"
        fields = fields or set(sample.meta)
    totals = (receipt.samples, receipt.num_samples, receipt.frames, receipt.units)
    if tuple(int(c) for c in counts) != totals:
        yield f"receipts/{name}.json counts {totals}, the shard {tuple(int(c) for c in counts)}"
    lines = rejects_path(root, name).read_text("utf-8").splitlines()
    rejected = [json.loads(line)["key"] for line in lines]
    planned = [f"{name}-{row:06d}" for row in range(shard["rows"])]
    if keys != sorted(keys) or sorted(keys + rejected) != planned:
        yield f"data/{name}.tar and its rejects do not add up to the {len(planned)} planned rows"


def check_sample(sample: Sample, spec: dict[str, Any]) -> tuple[str | None, tuple[int, int, int]]:
    """(what is wrong or None, (audio samples, frames, units)) of one sample under its unit spec."""
    units, durations, meta = sample.units, sample.durations, sample.meta
    num_samples = int(meta.get("num_samples", 0))
    frames = int(durations.sum(dtype=np.int64)) if durations is not None else 0
    counts = (num_samples, frames, len(units))
    if not len(units):
        return "it has no units", counts
    if int(units.max()) >= spec["size"]:
        return f"unit {int(units.max())} in a codebook of {spec['size']}", counts
    if spec["collapsed"] and (units[1:] == units[:-1]).any():
        return "consecutive units repeat", counts
    if (durations is not None) != spec["durations"]:
        return "durations are there or not, unlike the unit spec says", counts
    if durations is not None and (len(durations) != len(units) or int(durations.min()) < 1):
        return "durations do not fit its units", counts
    geometry = spec["extractor"].get("frames")
    if geometry is not None and frames != count_frames(num_samples, geometry):
        return (
            f"{frames} frames, but {num_samples} audio samples give "
            f"{count_frames(num_samples, geometry)}"
        ), counts
    return None, counts


def _check_strays(root: Path, shards: set[str]) -> Iterator[str]:
    """Files in our folders that belong to no planned shard."""
    for folder, ending in (
        ("data", ".tar"),
        ("audio", ".tar"),
        ("rejects", ".jsonl"),
        ("receipts", ".json"),
    ):
        for path in sorted((root / folder).glob("*")) if (root / folder).is_dir() else []:
            if path.suffix != ending or path.stem not in shards:
                yield f"{folder}/{path.name} is not part of the corpus"


def _check_totals(corpus: Corpus, plan: dict[str, Any], receipts: list[Receipt]) -> Iterator[str]:
    for split, said in corpus.info["splits"].items():
        own = [r for r in receipts if r.split == split]
        for field in ("samples", "num_samples", "frames", "units"):
            if sum(getattr(r, field) for r in own) != said[field]:
                yield f"corpus.json: {field} of {split} is not the sum over its receipts"
        if [r.shard for r in own] != [shard_name(split, n) for n in range(said["shards"])]:
            yield f"corpus.json: the shards of {split} are not those of its receipts"
    rejected: Counter[str] = Counter(plan["rejects"]["reasons"])
    for receipt in receipts:
        rejected.update(receipt.rejected)
    if dict(sorted(rejected.items())) != corpus.info["rejected"]:
        yield "corpus.json: the rejected rows are not those of the plan and the receipts"
