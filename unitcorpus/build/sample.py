"""From encoded utterances to the files of a sample: KEY.json, units and durations of each part.

Every sample of a corpus has the same fields, of the same types, fractions always as floats:
`datasets` infers its schema from the first five.
"""

from __future__ import annotations

import json
from typing import Any

from unitcorpus.build.plan import Plan
from unitcorpus.build.stages import Encoded
from unitcorpus.errors import Reject
from unitcorpus.quality.filters import Utterances, drop, scores
from unitcorpus.shards.format import MAX_META, npy_bytes
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.shards.layout import CONTRASTS


def sample_rate(spec: dict[str, Any]) -> int:
    """The extractor's rate in Hz, by the unit spec; 0 for published units."""
    return int(spec["extractor"].get("sample_rate", 0))


def members(plan: Plan, row: Input, parts: list[Encoded]) -> dict[str, bytes] | Reject:
    """{member name: content} of a sample, or why a filter drops it. `parts` in the layout's
    order."""
    layout, recipe = plan.layout, plan.recipe
    named = dict(zip(layout.parts, parts, strict=True))
    meta: dict[str, Any] = {"id": row.id}
    if sample_rate(plan.units) or not layout.plain:
        meta["voice"] = row.voice
    if layout == CONTRASTS:
        meta["group"] = row.group
    for name, part in named.items():
        fields = _fields(plan, row.parts[name], part)
        meta |= {layout.field(name, field): value for field, value in fields.items()}
    known = _utterances(plan, row, named)
    if (reject := drop(recipe.filters, known)) is not None:
        return reject
    if found := scores(recipe.filters, known):
        meta["scores"] = found
    data = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode()
    if len(data) > MAX_META:
        return Reject("too_long", f"its JSON has {len(data)} bytes, {MAX_META} is the most")
    files = {"json": data}
    for name, part in named.items():
        files[layout.units(name)] = npy_bytes(part.units)
        if part.durations is not None:
            files[layout.durations(name)] = npy_bytes(part.durations)
    return files


def _fields(plan: Plan, planned: PlannedPart, part: Encoded) -> dict[str, Any]:
    """What KEY.json says of one utterance."""
    fields: dict[str, Any] = {"text": planned.text}
    if planned.start is not None:
        fields |= {"start": planned.start, "end": planned.end}
    spoken = sample_rate(plan.units) > 0
    if spoken:
        fields["num_samples"] = part.num_samples
    if spoken or part.durations is not None:
        fields["seconds"] = _seconds(plan, part)
    return fields


def _seconds(plan: Plan, part: Encoded) -> float:
    """The length of an utterance; 0 where neither audio nor durations tell it."""
    if rate := sample_rate(plan.units):
        return part.num_samples / rate
    frames = int(part.durations.sum()) if part.durations is not None else 0
    return float(frames / plan.units["frame_rate"])


def _utterances(plan: Plan, row: Input, named: dict[str, Encoded]) -> Utterances:
    rate = plan.units["frame_rate"]
    return Utterances(
        {name: part.text for name, part in row.parts.items()},
        {name: part.units for name, part in named.items()},
        {name: _seconds(plan, part) for name, part in named.items()},
        {n: part.durations / rate for n, part in named.items() if part.durations is not None},
        {name: part.sound for name, part in named.items() if part.sound is not None},
    )
