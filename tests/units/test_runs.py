"""Collapsing runs loses nothing and agrees with itertools.groupby."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitcorpus.units.runs import collapse, expand

# Few distinct units, so that there are runs, and the largest that fits.
sequences = st.lists(st.sampled_from([0, 1, 2, 65_535]), max_size=60)


@given(sequences)
def test_collapse_finds_the_runs_of_groupby(frames: list[int]) -> None:
    units, durations = collapse(np.array(frames, dtype=np.int64))
    expected = [(unit, len(list(run))) for unit, run in groupby(frames)]
    assert list(zip(units.tolist(), durations.tolist(), strict=True)) == expected
    assert units.dtype == np.uint16
    assert durations.dtype == np.uint32


@given(sequences)
def test_expand_undoes_collapse(frames: list[int]) -> None:
    expanded = expand(*collapse(np.array(frames, dtype=np.uint16)))
    assert expanded.dtype == np.uint16
    assert expanded.tolist() == frames


@pytest.mark.parametrize("unit", [-1, 65_536])
def test_a_unit_that_does_not_fit_is_an_error_and_never_wraps(unit: int) -> None:
    with pytest.raises(ValueError, match="uint16"):
        collapse(np.array([0, unit]))


def test_units_and_durations_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 units with 1 durations"):
        expand(np.array([1, 2, 3], dtype=np.uint16), np.array([2], dtype=np.uint32))


def test_three_hours_of_one_unit_are_one_run() -> None:
    """At 25 frames a second, more than 16 bits hold."""
    units, durations = collapse(np.full(270_000, 7, np.uint16))
    assert (units.tolist(), durations.tolist()) == ([7], [270_000])
    assert len(expand(units, durations)) == 270_000
