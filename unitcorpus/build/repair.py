"""`unitcorpus verify --repair`: what is damaged is built again, to the same bytes; nothing else.

A shard is made again from its rows in plan/inputs, so the source is not needed, but the models are.
The plan itself cannot be made again from what is here: a damaged one is an error.
"""

from __future__ import annotations

import json
from pathlib import Path

from unitcorpus.build.folder import RECIPE, is_ours, remove_temporaries
from unitcorpus.build.lock import build_lock
from unitcorpus.build.plan import check_inputs, read_plan
from unitcorpus.build.run import Execution, Outcome, finish_build
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.receipt import receipt_path
from unitcorpus.shards.verify import check_one, check_plan


def repair(root: Path, execution: Execution) -> tuple[list[str], Outcome]:
    """(names of the shards that were built again, how that ended).

    Raises UnitcorpusError where the plan is damaged, the recipe is not known here, or a model is
    not the one that was planned with.
    """
    execution.check()
    if not is_ours(root):
        raise UnitcorpusError(f"{root} holds no build: there is nothing to repair")
    with build_lock(root):
        remove_temporaries(root)
        recipe = _recipe(root)
        try:
            content = read_sealed(root / "plan" / "plan.json")
            plan = read_plan(root, recipe)
            damage = [*check_inputs(root, plan), *check_plan(root, content)]
        except DamagedError as error:
            damage = [str(error)]
        if damage:
            raise DamagedError(
                f"{damage[0]}, which shards are made from: run the build with --overwrite"
            )
        names = [s["name"] for s in content["shards"] if check_one(root, content, s)[0]]
        for name in names:
            receipt_path(root, name).unlink(missing_ok=True)
        return names, finish_build(plan, root, execution)


def _recipe(root: Path) -> Recipe:
    """The recipe that built here, with the paths of this machine."""
    try:
        return Recipe.model_validate(json.loads((root / RECIPE).read_text()))
    except (OSError, ValueError):
        raise UnitcorpusError(
            f"{root} was built elsewhere: delete the damaged shard's receipt and run the build "
            "command again, which builds what has none"
        ) from None
