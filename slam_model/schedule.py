"""Learning rates as a function of the used fraction of the budget.

The shapes are those of transformers (cosine with a minimum, inverse square root, linear, constant)
with the fraction in place of step / total, so that they also fit a budget in hours. Under a budget
in steps they are equal to transformers'.
"""

from __future__ import annotations

import math

from slam_model.recipe import Schedule

STEPS_WITHOUT_WARMUP = 10_000
"""The time scale of the inverse square root where there is no warm-up (as in transformers)."""


def learning_rate(schedule: Schedule, peak: float, fraction: float, step: int) -> float:
    """The rate of the step after `step` finished ones, at `fraction` ∈ [0, 1] of the budget.

    With `warmup_steps` the decay of cosine and linear runs over the rest of the budget as seen from
    the fraction that an even pace gives the warm-up; the inverse square root runs over steps.
    """
    in_steps = schedule.warmup_steps is not None
    warm = float(schedule.warmup_steps or 0) if in_steps else schedule.warmup
    now = float(step) if in_steps else fraction
    if now < warm:
        return peak * now / warm
    if schedule.shape == "constant":
        return peak
    if schedule.shape == "inverse_sqrt":
        scale = (warm / now) if warm else STEPS_WITHOUT_WARMUP / (step + STEPS_WITHOUT_WARMUP)
        return peak * math.sqrt(scale)
    start = warm * fraction / step if in_steps and step else (0.0 if in_steps else warm)
    left = (fraction - start) / (1 - start) if start < 1 else 1.0
    share = (1 + math.cos(math.pi * left)) / 2 if schedule.shape == "cosine" else 1 - left
    return schedule.minimum + (peak - schedule.minimum) * share
