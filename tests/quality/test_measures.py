"""Measures of an utterance against the same in plain loops, and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from unitcorpus.quality.measures import Sound, entropy, listen

RATE = 16_000
COUNTS = st.integers(0, 1000)
SOUNDS = st.builds(Sound, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.just(""))


@given(st.lists(st.integers(0, 600), min_size=1, max_size=200))
def test_entropy_is_scipys(units: list[int]) -> None:
    found = entropy(np.array(units, np.uint16))
    assert found == pytest.approx(scipy_entropy(np.unique(units, return_counts=True)[1], base=2))
    assert 0 <= found <= math.log2(len(units)) + 1e-9
    assert math.copysign(1, found) == 1


def plain_counts(wave: list[float], rate: int) -> tuple[int, int, int]:
    """(silent windows, windows, samples at full scale), sample by sample."""
    size = min(rate // 50, len(wave))
    powers = []
    for start in range(0, len(wave) - size + 1, size):
        powers.append(sum(x * x for x in wave[start : start + size]) / size)
    silent = sum(power <= 1e-4 * max(powers) for power in powers)
    return silent, len(powers), sum(abs(x) >= 0.99 for x in wave)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.002, 0.02, 0.3, 1.0, -1.2]), st.integers(1, 50)),
        min_size=1,
        max_size=12,
    )
)
def test_silence_and_clipping_are_those_of_a_plain_loop(pieces: Any) -> None:
    wave = [level * (-1) ** n for level, length in pieces for n in range(length)]
    found = listen(torch.tensor(wave, dtype=torch.float32), 1000)
    single = [float(np.float32(x)) for x in wave]
    assert (found.quiet, found.windows, found.clipped) == plain_counts(single, 1000)
    assert found.samples == len(wave)


def test_silence_is_relative_to_the_utterance() -> None:
    tone = torch.sin(torch.arange(RATE) * 0.1)
    hiss = 0.001 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    for loudness in (1.0, 0.01):
        assert listen(loudness * torch.cat([tone, hiss]), RATE).silence == 0.5
    assert listen(hiss, RATE).silence == 0


def test_a_waveform_of_nothing_counts_nothing() -> None:
    assert listen(torch.zeros(0), RATE) == Sound()
    assert Sound().silence == Sound().clipping == Sound().word_errors == 0


def test_clipping_shows_after_resampling() -> None:
    from unitcorpus.units.resample import resample

    tone = (3 * torch.sin(torch.arange(44_100) * 0.02)).clamp(-1, 1)
    share = float((tone.abs() >= 0.99).float().mean())
    found = listen(resample(tone, 44_100, RATE), RATE).clipping
    assert found == pytest.approx(share, abs=0.05)
    assert listen(resample(0.9 * tone, 44_100, RATE), RATE).clipping < 0.03


@given(SOUNDS, SOUNDS)
def test_sounds_of_parts_add_up(one: Sound, other: Sound) -> None:
    both = one + other
    assert both.quiet == one.quiet + other.quiet
    if one.words and other.words:
        weighted = one.word_errors * one.words + other.word_errors * other.words
        assert both.word_errors * both.words == pytest.approx(weighted)
