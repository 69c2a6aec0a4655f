"""Silence is judged by the peak alone: any length, either sign."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitcorpus.speech.silence import QUIETEST, silence


def test_no_samples_are_silence() -> None:
    reject = silence(torch.empty(0))
    assert reject is not None
    assert (reject.reason, reject.detail) == ("silence", "no samples")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_zeros_are_silence(dtype: torch.dtype) -> None:
    reject = silence(torch.zeros(100, dtype=dtype))
    assert reject is not None
    assert reject.detail.startswith("peak 0 ")


@given(
    length=st.integers(1, 500),
    place=st.integers(0, 499),
    peak=st.floats(1e-6, 1),
    sign=st.sampled_from([-1, 1]),
)
def test_one_sample_decides_whatever_its_sign_and_place(
    length: int, place: int, peak: float, sign: int
) -> None:
    wave = torch.zeros(length, dtype=torch.float64)
    wave[place % length] = sign * peak
    assert (silence(wave) is None) == (peak >= QUIETEST)
