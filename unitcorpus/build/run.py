"""The driver of a build: plan or resume, run what has no receipt, finish.

Running it again is resuming. An existing plan is used only if it answers the same request.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unitcorpus.build.executor import Failure, Listener, run_local
from unitcorpus.build.finish import finish
from unitcorpus.build.folder import (
    RECIPE,
    check_apart,
    clear,
    make_folder,
    prepare_folder,
    remove_temporaries,
)
from unitcorpus.build.local import MARK
from unitcorpus.build.lock import build_lock
from unitcorpus.build.meter import Meter
from unitcorpus.build.plan import Plan, ShardPlan, Tick, check_inputs, read_plan, write_plan
from unitcorpus.build.progress import STATE, Display
from unitcorpus.build.remote import Remote
from unitcorpus.build.request import Request, difference, resolve
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.receipt import Receipt, committed
from unitcorpus.shards.store import folder_of, is_url
from unitcorpus.shards.writer import write_atomic


@dataclass(frozen=True)
class Outcome:
    """How a build ended: the content of corpus.json, or the shards that were set aside."""

    plan: Plan
    corpus: dict[str, Any] | None
    failures: list[Failure]
    resumed: int


@dataclass(frozen=True)
class Execution:
    """How a build is run; no byte of the corpus depends on it. `executor` auto is Ray where there
    are several workers or an address. `devices_per_worker` is the share of a GPU that each takes;
    below 1 several work on one."""

    executor: str = "auto"
    workers: int = 1
    address: str | None = None
    device: str = "cpu"
    devices_per_worker: float = 1.0

    def check(self) -> None:
        """Raises UnitcorpusError for options that exclude each other."""
        if self.executor == "local" and (self.workers > 1 or self.address is not None):
            raise UnitcorpusError(
                "--executor local is one worker in this process; use --executor ray"
            )

    def run(
        self, plan: Plan, root: Path, shards: list[ShardPlan], listener: Listener
    ) -> list[Failure]:
        """Builds `shards`; returns those that were set aside."""
        alone = self.workers == 1 and self.address is None
        if self.executor == "local" or (self.executor == "auto" and alone):
            return run_local(plan, root, shards, listener, self.device)
        from unitcorpus.build.ray import run_ray

        if plan.url and plan.url.startswith("memory://"):
            raise UnitcorpusError(f"{plan.url} is of this process alone: use --executor local")
        share = self.devices_per_worker
        return run_ray(plan, root, shards, listener, self.device, self.workers, self.address, share)


def build_corpus(
    recipe: Recipe,
    where: Path | str,
    *,
    overwrite: bool = False,
    execution: Execution = Execution(),
    tick: Tick = lambda *_: None,
) -> Outcome:
    """Builds, or goes on building, the corpus of `recipe` in `where`, a folder or an fsspec URL.

    Raises UnitcorpusError: another corpus is there, no permission, a source or model is missing,
    another process builds here.
    """
    execution.check()
    remote = Remote(str(where)) if is_url(where) else None
    root = remote.root if remote else folder_of(where)
    check_apart(recipe, root)
    if remote is None:
        prepare_folder(root)
    else:
        make_folder(root)
    with build_lock(root):
        remove_temporaries(root)
        request = resolve(recipe)
        if remote is not None:
            remote.pull()
        if overwrite:
            plan = write_plan(request, root, tick, before=lambda: _clear(root, remote))
        else:
            plan = plan_or_resume(request, root, tick, remote)
        if remote is not None:
            remote.push_plan(plan)
            plan = replace(plan, url=remote.url)
        write_atomic(root / RECIPE, json.dumps(recipe.local()).encode())
        return finish_build(plan, root, execution, remote)


def _clear(root: Path, remote: Remote | None) -> None:
    if remote is not None:
        remote.clear()
    clear(root)


def finish_build(
    plan: Plan, root: Path, execution: Execution, remote: Remote | None = None
) -> Outcome:
    """Builds what has no receipt, and finishes once all have one."""
    receipts, pending = split_pending(plan, root, remote)
    rate = int(plan.units["extractor"].get("sample_rate", 0))
    meter = Meter(len(plan.shards), plan.rows, rate, plan.units["frame_rate"])
    meter.skip(receipts)
    resumed = len(receipts)
    if pending:
        (root / "corpus.json").unlink(missing_ok=True)
        if remote is not None:
            remote.withdraw()
        try:
            with Display(meter, root / STATE) as display:
                failures = execution.run(plan, root, pending, display)
        finally:
            with suppress(OSError):  # an error on its way is the one to tell
                remove_temporaries(root)  # of workers that died
        if failures:
            return Outcome(plan, None, failures, resumed)
        receipts, missing = split_pending(plan, root, remote)
        if missing:
            raise DamagedError(f"{missing[0].name} changed while the build ran; run it again")
    for name in (STATE, MARK):
        (root / name).unlink(missing_ok=True)
    corpus = finish(root, receipts)
    if remote is not None:
        remote.finish()
    return Outcome(plan, corpus, [], resumed)


def plan_or_resume(request: Request, root: Path, tick: Tick, remote: Remote | None = None) -> Plan:
    """The plan in `root` if it answers this request, else a new one if there is none. Its inputs
    may be at the URL of `remote` alone."""
    where = remote.url if remote else root
    if not (root / "plan").exists():
        return write_plan(request, root, tick)
    try:
        old = read_sealed(root / "plan" / "request.json")["request"]
        plan = read_plan(root, request.recipe)
        damage = remote.missing_inputs(plan) if remote else check_inputs(root, plan)
    except (DamagedError, KeyError) as error:
        damage = [str(error)]
    if damage:
        raise DamagedError(
            f"the plan in {where} cannot be used: {damage[0]}; --overwrite starts again"
        )
    changes = difference(old, request.record())
    if changes:
        raise UnitcorpusError(
            f"{where} holds another corpus: {'; '.join(changes[:6])}"
            f"{f' (and {len(changes) - 6} more)' if len(changes) > 6 else ''}. "
            "Give another --out, or --overwrite to start again"
        )
    return plan


def split_pending(
    plan: Plan, root: Path, remote: Remote | None = None
) -> tuple[list[Receipt], list[ShardPlan]]:
    """(receipts of the shards that are built, shards that are not), both in the plan's order."""
    size = remote.receipts([s.name for s in plan.shards]) if remote else None
    found = [(s, committed(root, s.name, plan.fingerprint, size)) for s in plan.shards]
    return [r for _, r in found if r is not None], [s for s, r in found if r is None]
