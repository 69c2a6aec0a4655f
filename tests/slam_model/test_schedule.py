"""The schedules equal transformers' under a budget in steps, and depend on the fraction alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

from slam_model.recipe import Schedule
from slam_model.schedule import learning_rate

TOTAL, PEAK, FLOOR = 200, 1e-3, 5e-5


def theirs(make: Callable[[torch.optim.Optimizer], LambdaLR]) -> list[float]:
    """The rates that transformers gives for every step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    rates = []
    for _ in range(TOTAL):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


ORACLES: dict[str, Callable[[torch.optim.Optimizer, int], LambdaLR]] = {
    "cosine": lambda o, w: transformers.get_cosine_with_min_lr_schedule_with_warmup(
        o, w, TOTAL, min_lr=FLOOR
    ),
    "inverse_sqrt": lambda o, w: transformers.get_inverse_sqrt_schedule(o, w),
    "constant": lambda o, w: transformers.get_constant_schedule_with_warmup(o, w),
    "linear": lambda o, w: transformers.get_linear_schedule_with_warmup(o, w, TOTAL),
}


@pytest.mark.parametrize("shape", sorted(ORACLES))
@pytest.mark.parametrize("warmup", [0, 1, 20])
@pytest.mark.parametrize("in_steps", [True, False])
def test_a_budget_in_steps_gives_transformers_rates(
    shape: str, warmup: int, in_steps: bool
) -> None:
    schedule = Schedule.model_validate(
        {
            "shape": shape,
            "warmup": 0 if in_steps else warmup / TOTAL,
            "warmup_steps": warmup if in_steps else None,
            "minimum": FLOOR if shape == "cosine" else 0.0,
        }
    )
    ours = [learning_rate(schedule, PEAK, step / TOTAL, step) for step in range(TOTAL)]
    expected = theirs(lambda optimizer: ORACLES[shape](optimizer, warmup))
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.sampled_from(sorted(ORACLES)), st.floats(0, 0.5), st.floats(0, 1), st.integers(0, 10**6))
def test_the_rate_never_leaves_its_bounds(
    shape: str, warmup: float, fraction: float, step: int
) -> None:
    schedule = Schedule.model_validate({"shape": shape, "warmup": warmup, "minimum": 0.0})
    assert 0 <= learning_rate(schedule, PEAK, fraction, step) <= PEAK


@given(st.floats(0.01, 1), st.integers(1, 10**6), st.integers(1, 10**6))
def test_with_warmup_as_a_share_the_rate_depends_on_the_fraction_alone(
    fraction: float, one: int, other: int
) -> None:
    for shape in ORACLES:
        schedule = Schedule.model_validate({"shape": shape, "warmup": 0.01})
        rates = [learning_rate(schedule, PEAK, fraction, step) for step in (one, other)]
        assert rates[0] == rates[1]


def test_the_end_of_the_budget_is_the_minimum() -> None:
    for shape in ("cosine", "linear"):
        schedule = Schedule.model_validate({"shape": shape, "minimum": FLOOR})
        assert learning_rate(schedule, PEAK, 1.0, 9) == pytest.approx(FLOOR)
