"""`unitcorpus verify --repair`: what is damaged is built again, to the same bytes; nothing else.

A shard is made again from its rows in plan/inputs: texts are there, but the models are needed, and
recordings. Nothing is removed before its successor is there. The plan itself cannot be
made again from what is here: a damaged one is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitcorpus.build.finish import finish
from unitcorpus.build.folder import is_ours, recipe_here, remove_temporaries
from unitcorpus.build.local import LocalWorkers
from unitcorpus.build.lock import build_lock
from unitcorpus.build.plan import Plan, check_inputs, read_plan
from unitcorpus.build.run import split_pending
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.receipt import read_receipt, receipt_path
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.verify import check_one, check_plan


def repair(root: Path, device: str = "cpu") -> list[str]:
    """The names of the shards that were built again.

    Raises UnitcorpusError where the plan is damaged, the recipe is not known here, or a model or
    recording is not the one that was planned with; DamagedError where a shard does not come out as
    it was.
    """
    if not is_ours(root):
        raise UnitcorpusError(f"{root} holds no build: there is nothing to repair")
    with build_lock(root):
        remove_temporaries(root)
        plan, content = _plan(root)
        damaged = [s for s in plan.shards if check_one(root, content, _entry(content, s.name))[0]]
        if damaged:
            due = _digests(root, [shard.name for shard in plan.shards])
            with LocalWorkers(plan, root, device) as workers:
                for shard in damaged:
                    worker = workers.worker(shard)
                    with workers.marked(shard):
                        made = worker.build(shard).data.sha256
                    if due.get(shard.name, made) != made:
                        receipt_path(root, shard.name).unlink()  # it is still to be repaired
                        raise DamagedError(
                            f"{shard.name} came out with other bytes than it had: a recording, a "
                            "model or a library is not what it was; build again with --overwrite"
                        )
        receipts, missing = split_pending(plan, root)
        if missing:
            raise DamagedError(f"{missing[0].name} changed while it was repaired; run it again")
        finish(root, receipts)
        return [shard.name for shard in damaged]


def _plan(root: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan, and the content of plan.json, if shards can be made from them."""
    if cleaned := _cleaned(root):
        raise UnitcorpusError(cleaned)
    recipe = recipe_here(root)
    if recipe is None:
        raise UnitcorpusError(
            f"{root} was built elsewhere: delete the damaged shard's receipt and run the build "
            "command again, which builds what has none"
        )
    try:
        content = read_plan_file(root)
        plan = read_plan(root, recipe)
        damage = [*check_inputs(root, plan), *check_plan(root, content)]
    except DamagedError as error:
        damage = [str(error)]
    if damage:
        raise DamagedError(
            f"{damage[0]}, which shards are made from: run the build with --overwrite"
        )
    return plan, content


def _cleaned(root: Path) -> str | None:
    """What to do about a corpus that `unitcorpus dedup` wrote, whose shards are copies; None for
    others."""
    try:
        made = read_sealed(root / "plan" / "plan.json").get("cleaned")
    except DamagedError:
        return None
    if not made:
        return None
    against = "".join(f" --against {name}" for name in made.get("against", ()))
    shared = made.get("shared", {})
    shared = "".join(f" --shared-{name} {count}" for name, count in shared.items())
    near = f"--threshold {made['near']['threshold']:g} --ngram {made['near']['ngram']}"
    return (
        f"{root} was copied from another corpus: delete the damaged shard's receipt and make it "
        f"again with: unitcorpus dedup {made['source']['name']} {near}{against}{shared} "
        f"--out {root} (with the folders for the names)"
    )


def _entry(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(shard) for shard in content["shards"] if shard["name"] == name)


def _digests(root: Path, names: list[str]) -> dict[str, str]:
    """The sha256 that each shard is known to have had, by index.json or its receipt."""
    known: dict[str, str] = {}
    for name in names:
        try:
            known[name] = read_receipt(root, name).data.sha256
        except DamagedError:
            continue
    try:
        listed = read_sealed(root / "index.json")["shardlist"]
    except DamagedError:
        return known
    return known | {Path(shard["url"]).stem: shard["sha256"] for shard in listed}
