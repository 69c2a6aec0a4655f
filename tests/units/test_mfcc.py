"""MFCC features: torchaudio's coefficients, normalised, one row for each published frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import MfccUnits
from unitcorpus.units.base import count_frames
from unitcorpus.units.mfcc import MfccExtractor


def extractor(**changes: Any) -> MfccExtractor:
    section = MfccUnits(**changes)
    return MfccExtractor(section, MfccExtractor.resolve(section), "cpu")


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) / 10


@pytest.fixture(scope="module")
def default() -> MfccExtractor:
    return extractor()


@settings(deadline=None, max_examples=40)
@given(samples=st.integers(0, 3_000), window=st.integers(20, 500), hop=st.integers(1, 400))
def test_frames_are_those_of_the_description(samples: int, window: int, hop: int) -> None:
    section = MfccUnits(window=window, hop=hop, mels=4, coefficients=3)
    resolved = MfccExtractor.resolve(section)
    (found,) = MfccExtractor(section, resolved, "cpu").features([noise(samples)])
    assert found.shape == (count_frames(samples, resolved["frames"]), resolved["width"])
    assert found.dtype == torch.float32


def test_features_are_normalised_coefficients_and_their_differences(
    default: MfccExtractor,
) -> None:
    wave = noise(16_000)
    spectrum = {"n_fft": 400, "win_length": 400, "hop_length": 320, "n_mels": 40, "center": False}
    static = MFCC(16_000, 13, log_mels=True, melkwargs=spectrum)(wave).double()
    deltas = compute_deltas(static)
    every = torch.cat([static, deltas, compute_deltas(deltas)])
    expected = (every - every.mean(1, keepdim=True)) / every.std(1, correction=0, keepdim=True)
    (found,) = default.features([wave])
    torch.testing.assert_close(found.double(), expected.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wave", [torch.zeros(4_000), torch.full((4_000,), 0.3), noise(400)], ids=["0", "flat", "1frame"]
)
def test_a_dimension_that_does_not_vary_stays_near_zero(
    default: MfccExtractor, wave: torch.Tensor
) -> None:
    (found,) = default.features([wave])
    assert len(found) == count_frames(len(wave), {"padding": 0, "convolutions": [[400, 320]]})
    assert found.abs().max() < 0.1


def test_the_level_of_a_voice_does_not_matter(default: MfccExtractor) -> None:
    wave = noise(16_000)
    loud, soft = default.features([wave, wave / 4])
    torch.testing.assert_close(loud, soft, atol=1e-2, rtol=0)


def test_an_utterance_gives_the_same_bits_whatever_was_beside_it(default: MfccExtractor) -> None:
    waves = [noise(samples, samples) for samples in (5_000, 399, 48_000, 400)]
    together = default.features(waves)
    alone = [extractor().features([wave])[0] for wave in waves]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_the_frame_rate_is_samples_over_hop() -> None:
    resolved = MfccExtractor.resolve(MfccUnits(sample_rate=24_000, hop=480))
    assert resolved["frame_rate"] == 50.0


def test_more_coefficients_than_mel_bands_is_said_before_any_work() -> None:
    with pytest.raises(UnitcorpusError, match=r"units.coefficients 41 .* units.mels 40"):
        MfccExtractor.resolve(MfccUnits(coefficients=41))
