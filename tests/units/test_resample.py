"""Resampling is torchaudio's functional with its defaults, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from torchaudio.functional import resample as functional

from unitcorpus.units.resample import RESAMPLER, resample


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1, 1_000, 30_001])
def test_the_kept_kernel_gives_the_bits_of_the_functional(rate: int, samples: int) -> None:
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    resampled = resample(wave, rate, 16_000)
    assert torch.equal(resampled, functional(wave, rate, 16_000))
    assert len(resampled) == math.ceil(samples * 16_000 / rate)


def test_the_description_names_the_settings_in_use() -> None:
    wave = torch.randn(5_000, generator=torch.Generator().manual_seed(0))
    described = functional(
        wave,
        22_050,
        16_000,
        resampling_method=RESAMPLER["method"],
        lowpass_filter_width=RESAMPLER["lowpass_filter_width"],
        rolloff=RESAMPLER["rolloff"],
    )
    assert torch.equal(resample(wave, 22_050, 16_000), described)
    assert RESAMPLER["library"] == f"{functional.__module__[:21]}.{functional.__name__}"


def test_equal_rates_leave_the_waveform_as_it_is() -> None:
    wave = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(wave, 16_000, 16_000), wave)
