"""The speech detector: the probabilities of silero-vad's own loop, however a recording is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import silero_vad
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.speech.activity import RATE, WINDOW, SpeechDetector
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units.resample import resample


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    """A sentence between a hum and noise [samples]."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    [said] = engine.synthesize([Utterance("a", "Nobody believed what he said.", "en-us", 0)])
    engine.close()
    assert isinstance(said, torch.Tensor)
    hum = 0.01 * torch.sin(torch.arange(RATE) / 20)
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    return torch.cat([hum, resample(said, engine.sample_rate, RATE), noise])


def packages_own(wave: torch.Tensor) -> list[float]:
    """One window after another, as the package does it."""
    model: Any = silero_vad.load_silero_vad()
    padded = torch.nn.functional.pad(wave, (0, -len(wave) % WINDOW))
    with torch.inference_mode():
        return [model(window, RATE).item() for window in padded.view(-1, WINDOW)]


def heard(detector: SpeechDetector, pieces: list[torch.Tensor]) -> list[float]:
    listener = detector.listen()
    found = [chance for piece in pieces for chance in listener.hear(piece)]
    return found + listener.end()


def test_probabilities_are_those_of_the_packages_own_loop(
    detector: SpeechDetector, speech: torch.Tensor
) -> None:
    due = packages_own(speech)
    assert min(due) < 0.1
    assert max(due) > 0.9
    np.testing.assert_allclose(heard(detector, [speech]), due, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), length=st.integers(0, 40_000))
def test_how_a_recording_is_cut_into_blocks_changes_nothing(
    detector: SpeechDetector, speech: torch.Tensor, data: st.DataObject, length: int
) -> None:
    wave = speech[:length]
    ends = sorted(data.draw(st.lists(st.integers(0, len(wave)), max_size=4)))
    pieces = list(torch.tensor_split(wave, ends))
    whole = heard(detector, [wave])
    assert len(whole) == -(-len(wave) // WINDOW)
    np.testing.assert_allclose(heard(detector, pieces), whole, atol=1e-5)


def test_what_was_heard_before_leaves_no_trace(
    detector: SpeechDetector, speech: torch.Tensor
) -> None:
    first = heard(detector, [speech])
    heard(detector, [torch.flip(speech, [0])])
    assert heard(detector, [speech]) == first
