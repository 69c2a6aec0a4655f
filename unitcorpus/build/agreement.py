"""Whether batches, or options that are not exact, change a unit: measured on the models at hand.

The reference is the same recipe with every option exact, one utterance at a time. `unitcorpus
doctor` prints the comparison; a build with an option that is not exact makes it on rows of its
first shard before it builds anything, and refuses to go on below `compute.agreement`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitcorpus.build.chunks import chunks, seconds_of
from unitcorpus.build.plan import Plan
from unitcorpus.build.stages import Encoded, Item, SpokenStages, Stages, items_of, load_stages
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import Recipe, Speech, Units
from unitcorpus.shards.inputs import Input, read_inputs

if TYPE_CHECKING:
    import torch

CHECKED = 120.0
"""Seconds of speech, about, on which a build compares."""


@dataclass(frozen=True)
class Agreement:
    """How batches compare with one at a time. `frames` is the number of frames, of which `same`
    have the same unit; `audio_error` the largest difference of a sample relative to the peak of its
    waveform; `alone` and `batched` are seconds of speech a second."""

    utterances: int
    seconds: float
    frames: int
    same: int
    audio_error: float
    alone: float
    batched: float

    @property
    def identical(self) -> float:
        return self.same / self.frames if self.frames else 1.0


def inexact(recipe: Recipe) -> list[str]:
    """The options of a recipe that change more than the last bits."""
    precisions = {
        "speech": getattr(recipe.speech, "precision", ""),
        "units": getattr(recipe.units, "precision", ""),
    }
    half = [f"{name}.precision {of}" for name, of in precisions.items() if of.endswith("16")]
    compiled = ["speech.compile"] if getattr(recipe.speech, "compile", False) else []
    return half + compiled


def exact(recipe: Recipe) -> Recipe:
    """The same recipe without them."""
    sections = {"speech": recipe.speech, "units": recipe.units}
    return recipe.model_copy(update={name: _exact(of) for name, of in sections.items()})


def _exact(section: Speech | Units | None) -> Speech | Units | None:
    changes: dict[str, object] = {}
    if getattr(section, "precision", "").endswith("16"):
        changes["precision"] = "float32"
    if getattr(section, "compile", False):
        changes["compile"] = False
    return section.model_copy(update=changes) if section and changes else section


def compare(stages: SpokenStages, reference: SpokenStages, items: Sequence[Item]) -> Agreement:
    """`stages` in batches as their recipe has them against `reference` one at a time; they may be
    the same. Models are warm when the clock starts."""
    budget = stages.batch_seconds
    expected, alone = _run(reference, items, 0)
    stages.batch_seconds = budget
    found, batched = _run(stages, items, budget)
    stages.batch_seconds = budget
    frames = same = 0
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        a, b = _frames(ours), _frames(theirs)
        frames += max(len(a), len(b))
        same += int((a == b).sum()) if len(a) == len(b) else 0
    waves = [(a, b) for (a, _), (b, _) in zip(found, expected, strict=True)]
    seconds = sum(len(w) for w, _ in expected if w is not None) / stages.extractor.sample_rate
    return Agreement(
        len(items),
        seconds,
        frames,
        same,
        max((_difference(a, b) for a, b in waves), default=0.0),
        seconds / alone,
        seconds / batched,
    )


Heard = tuple["torch.Tensor | None", Encoded | Reject]
"""An utterance's waveform on the CPU, if any, and its units."""


def _run(stages: SpokenStages, items: Sequence[Item], budget: float) -> tuple[list[Heard], float]:
    """What becomes of each item, and the seconds it all took."""
    stages.batch_seconds = budget
    stages([min(items, key=lambda item: seconds_of(item.part))])
    found: dict[int, Heard] = {}
    start = time.perf_counter()
    for chunk in chunks([item.part for item in items], budget):
        waves = stages.hear([items[i] for i in chunk])
        encoded = iter(stages.encode([w for w in waves if not isinstance(w, Reject)]))
        for i, wave in zip(chunk, waves, strict=True):
            found[i] = (None, wave) if isinstance(wave, Reject) else (wave.cpu(), next(encoded))
    return [found[i] for i in range(len(items))], time.perf_counter() - start


def _frames(result: Encoded | Reject) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """The unit of each frame; none of a reject."""
    if isinstance(result, Reject):
        return np.empty(0, np.uint16)
    return np.repeat(result.units, result.durations if result.durations is not None else 1)


def _difference(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    if len(a) != len(b):
        return float("inf")
    return float((a - b).abs().max() / b.abs().max())


# --- in a build -------------------------------------------------------------------------------


def require_agreement(plan: Plan, root: Path, stages: Stages, device: str) -> None:
    """Raises UnitcorpusError where options that are not exact change too many units of the plan's
    first shard. Nothing is measured where all are exact."""
    options = inexact(plan.recipe)
    if not options:
        return
    assert isinstance(stages, SpokenStages)
    reference = load_stages(replace(plan, recipe=exact(plan.recipe)), root, device)
    assert isinstance(reference, SpokenStages)
    rows = read_inputs(root, plan.shards[0].name, plan.layout)
    try:
        found = compare(stages, reference, _few(stages, rows, plan.recipe.seed))
    finally:
        reference.close()
    least = plan.recipe.compute.agreement
    if found.identical < least:
        raise UnitcorpusError(
            f"{' and '.join(options)}: {found.identical:.2%} of {found.frames:,} units are what "
            f"they are without, compute.agreement asks for {least:.2%}; leave the options out, or "
            "ask for less"
        )


def _few(stages: Stages, rows: list[Input], seed: int) -> list[Item]:
    """The first utterances of some rows: about `CHECKED` seconds, but one at least."""
    few: list[Item] = []
    seconds = 0.0
    for row in rows:
        if isinstance(cut := stages.cut(row), Reject):
            continue
        for item in (item for one in cut for item in items_of(one, seed)):
            seconds += seconds_of(item.part)
            if few and seconds > CHECKED:
                return few
            few.append(item)
    return few
