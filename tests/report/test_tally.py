"""The growing histogram against numpy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unitcorpus.report.tally import BINS, Tally

VALUES = arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1e6, width=32))


def tally(*portions: np.ndarray) -> Tally:
    made = Tally()
    for portion in portions:
        made.add(portion)
    return made


@given(VALUES)
def test_counts_are_those_of_numpy(values: np.ndarray) -> None:
    made = tally(values)
    edges = np.arange(BINS + 1) * made.width
    np.testing.assert_array_equal(made.counts, np.histogram(values, edges)[0])
    assert made.total == len(values)


@given(VALUES, st.randoms(use_true_random=False))
def test_neither_order_nor_portions_matter(values: np.ndarray, random: np.random.Generator) -> None:
    shuffled = values.tolist()
    random.shuffle(shuffled)
    cut = len(shuffled) // 3
    other = tally(np.array(shuffled[:cut]), np.array(shuffled[cut:]))
    made = tally(values)
    assert made.width == other.width
    np.testing.assert_array_equal(made.counts, other.counts)


@given(VALUES, st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.95, 1.0]))
def test_quantiles_are_right_to_a_bin(values: np.ndarray, q: float) -> None:
    made = tally(values)
    exact = np.quantile(values, q, method="inverted_cdf")
    assert abs(made.quantile(q) - exact) <= made.width


@given(VALUES, st.integers(0, 40), st.integers(1, 60))
def test_bars_lose_nothing_above_where_they_begin(
    values: np.ndarray, first: int, number: int
) -> None:
    made = tally(values)
    width = 8 * made.width
    low = first * width
    bars = made.bars(low, low + number * width, width)
    assert len(bars) == number
    assert bars.sum() == (values >= low).sum()
    due = [
        ((values >= low + i * width) & (values < low + (i + 1) * width)).sum()
        for i in range(number)
    ]
    np.testing.assert_array_equal(bars[:-1], due[:-1])
