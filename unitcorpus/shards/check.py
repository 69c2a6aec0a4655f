"""The invariants of samples: each under its unit spec, a shard against its planned rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.shards.format import DamagedError, count_frames
from unitcorpus.shards.inputs import Input, read_inputs
from unitcorpus.shards.reader import Sample
from unitcorpus.shards.receipt import Receipt, audio_path, data_path, rejects_path
from unitcorpus.shards.tar import scan

Counts = tuple[int, int, int]
"""(audio samples, frames, units)."""


def check_shard(root: Path, spec: dict[str, Any], receipt: Receipt) -> Iterator[str]:
    """The problems of a shard whose bytes are those of its receipt: samples, counts, lost rows."""
    name = receipt.shard
    planned = {row.key: row for row in read_inputs(root, name)}
    keys: list[str] = []
    totals = np.zeros(4, np.int64)
    for key, members in scan(data_path(root, name).read_bytes()):
        keys.append(key)
        try:
            problem, counts = check_sample(Sample(key, members), spec, planned.get(key))
        except DamagedError as error:
            problem, counts = str(error), (0, 0, 0)
        if problem:
            yield f"data/{name}.tar, sample {key}: {problem}"
        totals += (1, *counts)
    said = (receipt.samples, receipt.num_samples, receipt.frames, receipt.units)
    if tuple(int(n) for n in totals) != said:
        yield f"receipts/{name}.json counts {said}, the shard {tuple(int(n) for n in totals)}"
    lines = rejects_path(root, name).read_bytes().splitlines()
    rejected = [json.loads(line)["key"] for line in lines]
    if keys != sorted(keys) or sorted(keys + rejected) != sorted(planned):
        yield f"data/{name}.tar and its rejects do not add up to the {len(planned)} planned rows"
    if receipt.audio is not None:
        heard = [key for key, _ in scan(audio_path(root, name).read_bytes())]
        if heard != keys:
            yield f"audio/{name}.tar does not hold the samples of data/{name}.tar"


def check_sample(
    sample: Sample, spec: dict[str, Any], planned: Input | None
) -> tuple[str | None, Counts]:
    """(what is wrong or None, its counts) of one sample, under its unit spec and planned row."""
    units, durations = sample.units, sample.durations
    frames = int(durations.sum(dtype=np.int64)) if durations is not None else 0
    num_samples = sample.meta.get("num_samples", 0)
    if type(num_samples) is not int:
        return f"num_samples is {num_samples!r}", (0, frames, len(units))
    problem = (
        _check_arrays(sample, spec)
        or _check_frames(num_samples, frames, spec)
        or _check_meta(sample, num_samples, frames, spec, planned)
    )
    return problem, (num_samples, frames, len(units))


def _check_arrays(sample: Sample, spec: dict[str, Any]) -> str | None:
    units, durations = sample.units, sample.durations
    expected = {"units.npy", "json"} | ({"durations.npy"} if spec["durations"] else set())
    if set(sample.members) != expected:
        return f"its members are {', '.join(sorted(sample.members))}"
    if not len(units):
        return "it has no units"
    if int(units.max()) >= spec["size"]:
        return f"unit {int(units.max())} in a codebook of {spec['size']}"
    if spec["collapsed"] and (units[1:] == units[:-1]).any():
        return "consecutive units repeat"
    if durations is not None and (len(durations) != len(units) or int(durations.min()) < 1):
        return "durations do not fit its units"
    return None


def _check_frames(num_samples: int, frames: int, spec: dict[str, Any]) -> str | None:
    geometry = spec["extractor"].get("frames")
    if geometry is None or frames == count_frames(num_samples, geometry):
        return None
    due = count_frames(num_samples, geometry)
    return f"{frames} frames, but {num_samples} audio samples give {due}"


def _check_meta(
    sample: Sample, num_samples: int, frames: int, spec: dict[str, Any], planned: Input | None
) -> str | None:
    """Against the planned row, where there is one: the same fields everywhere, the same values."""
    if planned is None:
        return "no row of the plan has this key"
    due: dict[str, Any] = {"id": planned.id, "text": planned.text}
    rate = spec["extractor"].get("sample_rate")
    if rate:
        due |= {"voice": planned.voice, "num_samples": num_samples, "seconds": num_samples / rate}
    elif spec["durations"]:
        due["seconds"] = frames / spec["frame_rate"]
    wrong = [k for k in due.keys() | sample.meta.keys() if due.get(k) != sample.meta.get(k)]
    return f"{', '.join(sorted(wrong))} not as planned" if wrong else None
