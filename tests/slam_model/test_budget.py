"""The budget: the first limit ends the run, and time that is used is never given back."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slam_model import recipe
from slam_model.budget import Budget, Clock


def test_whichever_limit_is_reached_first_ends_the_run() -> None:
    limits = recipe.Budget(hours=1, steps=100, tokens=5000)
    assert Budget(limits, steps=100).spent
    assert Budget(limits, tokens=5000).spent
    assert Budget(limits, seconds=3600).spent
    assert not Budget(limits, steps=99, tokens=4999, seconds=3599).spent


@given(st.integers(1, 500), st.integers(0, 600), st.integers(0, 10**6))
def test_the_fraction_is_that_of_the_limit_nearest_to_its_end(
    limit: int, steps: int, tokens: int
) -> None:
    budget = Budget(recipe.Budget(steps=limit, tokens=10**6), steps=steps, tokens=tokens)
    assert budget.fraction == min(1.0, max(steps / limit, tokens / 10**6))


def test_a_clock_goes_on_from_the_time_of_earlier_runs() -> None:
    clock = Clock(seconds=5000.0)
    first = clock.seconds
    time.sleep(0.01)
    assert 5000.0 <= first < clock.seconds < 5010.0


@pytest.mark.parametrize("counted", [True, False])
def test_overhead_counts_as_the_recipe_says(counted: bool) -> None:
    clock = Clock(count_overhead=counted)
    with clock.overhead():
        time.sleep(0.1)
    assert (clock.seconds >= 0.1) == counted


def test_overhead_that_fails_is_still_taken_off() -> None:
    clock = Clock(count_overhead=False)
    with suppress(ZeroDivisionError), clock.overhead():
        time.sleep(0.1)
        _ = 1 / 0
    assert clock.seconds < 0.1


def test_the_time_left_is_that_of_the_hours() -> None:
    budget = Budget(recipe.Budget(hours=1), steps=7, seconds=900.0)
    assert budget.seconds_left == pytest.approx(2700.0)
