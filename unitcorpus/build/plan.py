"""The plan: which row becomes which sample of which shard, decided before anything is synthesised.

`plan/` appears by one rename and is never changed. Its fingerprint covers the recipe, the rows, the
models and the format, never paths, the output or how the build is run.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from unitcorpus.build.request import Request
from unitcorpus.build.rows import prepare, texts_of
from unitcorpus.build.select import KEPT, REASONS, Selection, select
from unitcorpus.build.spool import Spool
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.seeds import pick
from unitcorpus.shards.format import (
    DamagedError,
    file_sha256,
    fingerprint,
    sample_key,
    seal,
    shard_name,
)
from unitcorpus.shards.inputs import input_bytes, input_path
from unitcorpus.shards.layout import LAYOUTS, Layout
from unitcorpus.shards.receipt import FileMark
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.writer import TEMPORARY, sync_folder, write_atomic
from unitcorpus.sources.base import BadRow
from unitcorpus.units.codebook import save_codebook

EXCERPT = 200
"""Characters of a rejected text that its line shows."""

Tick = Callable[[str, int], None]
"""Called with (what is going on, rows so far)."""


@dataclass(frozen=True)
class ShardPlan:
    """A shard to build: its rows and the sha256 of its input file."""

    name: str
    split: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """A plan as read back. `recipe` is the caller's, with the paths of this machine. `url`: where
    the corpus is, and shards are sent to, if that is not a folder."""

    recipe: Recipe
    fingerprint: str
    speech: dict[str, Any] | None
    units: dict[str, Any]
    shards: list[ShardPlan]
    rejected: dict[str, int]
    asr: dict[str, str] | None = None
    url: str | None = None

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.recipe.layout]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def write_plan(
    request: Request,
    root: Path,
    tick: Tick = lambda *_: None,
    before: Callable[[], None] = lambda: None,
) -> Plan:
    """Plans a build into `root`/plan; `before` is called when the plan is made and about to appear.

    Raises UnitcorpusError where no row is usable, or the source changes meanwhile.
    """
    work = root / f".plan{TEMPORARY}0"
    (work / "plan" / "inputs").mkdir(parents=True)
    try:
        _fill(request, work, tick)
        sync_folder(work / "plan" / "inputs")
        sync_folder(work / "plan")
        before()
        if request.codebook is not None:
            save_codebook(root / "codebook.npy", request.codebook.centroids)
        (work / "plan").replace(root / "plan")
        sync_folder(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_plan(root, request.recipe)


def read_plan(root: Path, recipe: Recipe) -> Plan:
    """The plan in `root`. Raises DamagedError."""
    value = read_plan_file(root)
    try:
        shards = [ShardPlan(**shard) for shard in value["shards"]]
        counts = value["rejected"]
        speech, units, asr = value["speech"], value["units"], value.get("asr")
        return Plan(recipe, value["fingerprint"], speech, units, shards, counts, asr)
    except (KeyError, TypeError):
        raise DamagedError("plan/plan.json is not a plan of this version") from None


def check_inputs(root: Path, plan: Plan) -> list[str]:
    """What is wrong with the shard inputs of a plan."""
    problems = []
    for shard in plan.shards:
        path = input_path(root, shard.name)
        if not path.is_file():
            problems.append(f"plan/inputs/{path.name} is missing")
        elif file_sha256(path) != shard.sha256:
            problems.append(f"plan/inputs/{path.name} was changed")
    return problems


def _fill(request: Request, work: Path, tick: Tick) -> None:
    recipe = request.recipe
    record = request.record()
    spool = Spool(work / "rows", recipe.seed)
    rejects = _read_rows(request, spool, tick)
    spool.freeze()
    tick("selecting", len(spool))
    layout = LAYOUTS[recipe.layout]
    selection = select(spool, recipe, lambda row: texts_of(spool.read(row)[1], layout))
    rejects += _dropped(spool, selection, layout)
    if not any(len(rows) for rows in selection.splits.values()):
        raise UnitcorpusError(_no_rows(rejects))
    shards, digest = _write_inputs(spool, selection, recipe, work, tick)
    if request.record() != record:
        raise UnitcorpusError("the source changed while it was read; run the same command again")
    lines = sorted(json.dumps(r, sort_keys=True, ensure_ascii=False) + "\n" for r in rejects)
    data = "".join(lines).encode("utf-8", "replace")
    mark = FileMark(write_atomic(work / "plan" / "rejects.jsonl", data), len(data))
    reasons = dict(sorted(Counter(str(r["reason"]) for r in rejects).items()))
    plan = {
        "name": recipe.name,
        "fingerprint": fingerprint({**_semantic(record), "rows": digest}),
        "recipe": record["recipe"],
        "layout": layout.record(),
        "speech": request.speech,
        "units": request.units,
        "shards": [asdict(shard) for shard in shards],
        "rejected": reasons,
        **({} if request.asr is None else {"asr": request.asr}),
    }
    write_atomic(work / "plan" / "plan.json", seal(plan))
    # The source's own digest and its lines that cannot be read depend on the order of the input;
    # they are kept apart from what corpus.json answers for.
    write_atomic(work / "plan" / "request.json", seal({"request": record, "rejects": asdict(mark)}))


def _semantic(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the identity of the source's bytes: its rows are fingerprinted themselves,
    so that the same rows in another order or container are the same plan."""
    return {key: value for key, value in record.items() if key != "source"}


def _read_rows(request: Request, spool: Spool, tick: Tick) -> list[dict[str, Any]]:
    """Spools the usable rows; returns a line for each of the others."""
    rejects: list[dict[str, Any]] = []
    durations = bool(request.units["durations"])
    for count, row in enumerate(request.source.rows()):
        if count % 1000 == 0:
            tick("reading", count)
        if isinstance(row, BadRow):
            rejects.append({"where": row.where, "reason": row.reason, "detail": row.detail})
            continue
        candidate = prepare(row, request.recipe, durations)
        if isinstance(candidate, Reject):
            place = {"id": row.id} if row.id else {"where": row.where}
            rejects.append({**place, **reject_fields(candidate, row.text)})
        else:
            spool.add(candidate)
    return rejects


def reject_fields(reject: Reject, text: str) -> dict[str, Any]:
    """What the line of a rejected row says of it."""
    line = {"reason": reject.reason, "detail": reject.detail, "text": text[:EXCERPT]}
    return line if reject.scores is None else {**line, "scores": reject.scores}


def _dropped(spool: Spool, selection: Selection, layout: Layout) -> list[dict[str, Any]]:
    """A line for each duplicate."""
    lines = []
    for row in (selection.verdict != KEPT).nonzero()[0]:
        reason = REASONS[int(selection.verdict[row])]
        name, payload = spool.read(int(row))
        other = spool.read(int(selection.of[row]))[0]
        text = texts_of(payload, layout)[:EXCERPT]
        lines.append({"id": name, "reason": reason, "detail": f"of {other}", "text": text})
    return lines


def _no_rows(rejects: list[dict[str, Any]]) -> str:
    if not rejects:
        return "the source holds no rows"
    first = rejects[0]
    place = first.get("where") or first.get("id")
    return (
        f"none of the source's {len(rejects)} rows can be used; "
        f"the first, {place}: {first['reason']} ({first['detail']})"
    )


def plan_rows(
    shard: str, rows: Sequence[tuple[str, bytes]], recipe: Recipe
) -> list[dict[str, Any]]:
    """The input rows of a shard, from the (id, payload) pairs of the spool."""
    planned = []
    for number, (name, payload) in enumerate(rows):
        row = {"key": sample_key(shard, number), "id": name, **json.loads(payload)}
        if recipe.speech is not None:
            row["voice"] = pick(recipe.seed, recipe.speech.voices, "voice", name)
        planned.append(row)
    return planned


def _write_inputs(
    spool: Spool, selection: Selection, recipe: Recipe, work: Path, tick: Tick
) -> tuple[list[ShardPlan], str]:
    """Writes the shard inputs; returns the shards and a digest of all rows."""
    shards: list[ShardPlan] = []
    digest = sha256()
    done, size = 0, recipe.shards.samples
    for split, rows in selection.splits.items():
        for number, start in enumerate(range(0, len(rows), size)):
            name = shard_name(split, number)
            chosen = [spool.read(int(row)) for row in rows[start : start + size]]
            planned = plan_rows(name, chosen, recipe)
            digest.update(json.dumps(planned, sort_keys=True).encode())
            data = input_bytes(planned, LAYOUTS[recipe.layout])
            written = write_atomic(input_path(work, name), data)
            shards.append(ShardPlan(name, split, len(planned), written))
            done += len(planned)
            tick("writing the plan", done)
    return shards, digest.hexdigest()
