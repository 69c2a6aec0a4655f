"""The invariants of samples: each under its unit spec, a shard against its planned rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.shards.format import DamagedError, count_frames
from unitcorpus.shards.inputs import Input, read_inputs, segment, segment_key
from unitcorpus.shards.layout import CONTRASTS, Layout, keeps, stored_scores
from unitcorpus.shards.reader import Sample
from unitcorpus.shards.receipt import Receipt, audio_path, data_path, rejects_path
from unitcorpus.shards.tar import scan

Counts = tuple[int, int, int]
"""(audio samples, frames, units)."""


def check_shard(
    root: Path,
    spec: dict[str, Any],
    layout: Layout,
    receipt: Receipt,
    filters: dict[str, Any] | None = None,
) -> Iterator[str]:
    """The problems of a shard whose bytes are those of its receipt: samples, counts, lost rows.
    `filters` are those of the recorded recipe."""
    name = receipt.shard
    planned = {row.key: row for row in read_inputs(root, name, layout)}
    keys: list[str] = []
    totals = np.zeros(4, np.int64)
    for key, members in scan(data_path(root, name).read_bytes()):
        keys.append(key)
        try:
            sample = Sample(key, members)
            row = planned_row(sample, planned)
            problem, counts = check_sample(sample, spec, layout, row, filters)
        except DamagedError as error:
            problem, counts = str(error), (0, 0, 0)
        if problem:
            yield f"data/{name}.tar, sample {key}: {problem}"
        totals += (1, *counts)
    said = (receipt.samples, receipt.num_samples, receipt.frames, receipt.units)
    if tuple(int(n) for n in totals) != said:
        yield f"receipts/{name}.json counts {said}, the shard {tuple(int(n) for n in totals)}"
    lines = [json.loads(line) for line in rejects_path(root, name).read_bytes().splitlines()]
    rejected = [line["key"] for line in lines]
    if Counter(line["reason"] for line in lines) != Counter(receipt.rejected):
        yield f"receipts/{name}.json does not count the reasons in rejects/{name}.jsonl"
    if keys != sorted(keys) or sorted(keys + rejected) != _due(planned, receipt):
        yield f"data/{name}.tar and its rejects do not add up to the {len(planned)} planned rows"
    if receipt.audio is not None:
        heard = [key for key, _ in scan(audio_path(root, name).read_bytes())]
        if heard != keys:
            yield f"audio/{name}.tar does not hold the samples of data/{name}.tar"


def _due(planned: dict[str, Input], receipt: Receipt) -> list[str]:
    """The keys of samples and rejects together: the planned ones, or those of the segments that the
    receipt says were found. Raises ValueError where it does not speak of as many rows."""
    if receipt.segments is None:
        return sorted(planned)
    found = zip(planned, receipt.segments, strict=True)
    return sorted(
        key for row, count in found for key in [segment_key(row, n) for n in range(count)] or [row]
    )


def planned_row(sample: Sample, rows: Mapping[str, Input]) -> Input | None:
    """The row that a sample is of, or a segment of. A segment's start and end are the sample's own
    word: they were found when it was built."""
    if sample.key in rows:
        return rows[sample.key]
    key, _, number = sample.key.rpartition("-")
    start, end = sample.meta.get("start"), sample.meta.get("end")
    if key not in rows or not isinstance(start, float) or not isinstance(end, float):
        return None
    return segment(rows[key], int(number), start, end)


def check_sample(
    sample: Sample,
    spec: dict[str, Any],
    layout: Layout,
    planned: Input | None,
    filters: dict[str, Any] | None = None,
) -> tuple[str | None, Counts]:
    """(what is wrong or None, its counts) of one sample, under its unit spec, planned row and
    filters."""
    counts = np.zeros(3, np.int64)
    due = {"json"} | {layout.units(part) for part in layout.parts}
    due |= {layout.durations(part) for part in layout.parts if spec["durations"]}
    if set(sample.members) != due:
        return f"its members are {', '.join(sorted(sample.members))}", (0, 0, 0)
    problem = None
    for part in layout.parts:
        said, found = _check_part(sample, spec, layout, part)
        if said and not problem:
            problem = said if layout.plain else f"{part}: {said}"
        counts += found
    due_scores = stored_scores(layout, filters or {})
    problem = problem or _check_scores(sample.meta.get("scores"), due_scores)
    problem = problem or _check_meta(sample, spec, layout, planned)
    samples, frames, units = (int(n) for n in counts)
    return problem, (samples, frames, units)


def _check_part(
    sample: Sample, spec: dict[str, Any], layout: Layout, part: str
) -> tuple[str | None, Counts]:
    units, durations = sample.part(part), sample.part_durations(part)
    frames = int(durations.sum(dtype=np.int64)) if durations is not None else 0
    num_samples = sample.meta.get(layout.field(part, "num_samples"), 0)
    if type(num_samples) is not int:
        return f"num_samples is {num_samples!r}", (0, frames, len(units))
    problem = _check_arrays(units, durations, spec) or _check_frames(num_samples, frames, spec)
    return problem, (num_samples, frames, len(units))


def _check_arrays(
    units: NDArray[np.uint16], durations: NDArray[np.uint32] | None, spec: dict[str, Any]
) -> str | None:
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
    sample: Sample, spec: dict[str, Any], layout: Layout, planned: Input | None
) -> str | None:
    """Against the planned row: the same fields everywhere, the same values, but for scores."""
    if planned is None:
        return "no row of the plan has this key"
    rate = spec["extractor"].get("sample_rate")
    due: dict[str, Any] = {"id": planned.id}
    if rate or not layout.plain:
        due["voice"] = planned.voice
    if layout == CONTRASTS:
        due["group"] = planned.group
    for part, row in planned.parts.items():
        fields: dict[str, Any] = {"text": row.text}
        if row.start is not None:
            fields |= {"start": row.start, "end": row.end}
        durations = sample.part_durations(part)
        if rate:
            count = sample.meta.get(layout.field(part, "num_samples"), 0)
            fields |= {"num_samples": count, "seconds": count / rate}
        elif durations is not None:
            fields["seconds"] = int(durations.sum(dtype=np.int64)) / spec["frame_rate"]
        due |= {layout.field(part, name): value for name, value in fields.items()}
    meta = {key: value for key, value in sample.meta.items() if key != "scores"}
    wrong = [key for key in due.keys() | meta.keys() if due.get(key) != meta.get(key)]
    return f"{', '.join(sorted(wrong))} not as planned" if wrong else None


def _check_scores(scores: Any, due: dict[str, dict[str, Any]]) -> str | None:
    """Scores are measurements: that they are there, numbers, and within the filters' bounds is all
    that is known of them here."""
    if not due:
        return None if scores is None else "it has scores, and no filter asked for any"
    if not isinstance(scores, dict) or set(scores) != set(due):
        return f"its scores are not {', '.join(due)}"
    for name, rule in due.items():
        value = scores[name]
        if type(value) is not float or not math.isfinite(value):
            return f"its score {name} is {value!r}, no fraction"
        if not keeps(value, rule):
            return f"its score {name} is {value:g}, which its filter drops"
    return None
