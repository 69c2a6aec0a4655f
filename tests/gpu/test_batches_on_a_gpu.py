"""Kokoro and HuBERT on a GPU: batches there against one at a time there, and against the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from checkpoints import KOKORO_VOCABULARY, KOKORO_VOICES, make_kokoro
from checkpoints_hubert import make_hubert
from unitcorpus.build.stages import set_numerics
from unitcorpus.recipe.models import HubertUnits
from unitcorpus.speech.kokoro_batch import BatchedKokoro, Request, Spoken
from unitcorpus.speech.kokoro_files import Checkpoint
from unitcorpus.speech.kokoro_kernels import PLAIN, Kernels, kernels
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.hubert import HubertExtractor
from unitcorpus.units.kmeans import Quantiser, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ALL_AT_ONCE = 1 << 40


@pytest.fixture(autouse=True)
def numerics() -> Iterator[None]:
    """Those of a build; what stood there comes back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    set_numerics(threads=1)
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


# --- Kokoro -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kokoro(tmp_path_factory.mktemp("kokoro") / "small")


def requests(folder: Path, lengths: list[int]) -> list[Request]:
    """Random phonemes, in all voices and at three speeds."""
    draw, made = Random(0), []
    for seed, length in enumerate(lengths):
        pack = Checkpoint(str(folder), None).pack(KOKORO_VOICES[seed % len(KOKORO_VOICES)])
        phonemes = "".join(draw.choices(list(KOKORO_VOCABULARY), k=length))
        made.append(Request(phonemes, pack[length - 1, 0], (2.0, 4.0, 1.0)[seed % 3], seed))
    return made


def error(ours: list[Spoken], theirs: list[Spoken]) -> float:
    """The largest difference of a sample relative to the peak. Durations are the same."""
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.durations.cpu(), b.durations.cpu())
    pairs = [(a.wave.cpu(), b.wave.cpu()) for a, b in zip(ours, theirs, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-8), ("float32", 1e-3)])
def test_kokoro_says_in_a_batch_what_it_says_alone(
    folder: Path, precision: str, tolerance: float
) -> None:
    model = Checkpoint(str(folder), None).model("cuda", precision == "float64")
    asked = requests(folder, [3, 40, 1, 17, 110, 26, 8, 8])
    speak = BatchedKokoro(model, ALL_AT_ONCE)
    waves = speak(asked)
    assert all(spoken.wave.is_cuda for spoken in waves)
    assert error(waves, [speak([request])[0] for request in asked]) < tolerance


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [(PLAIN, 1e-3), (kernels(None, True), 1e-3), (kernels(torch.bfloat16, False), 0.1)],
    ids=["plain", "compiled", "bfloat16"],
)
def test_options_of_kokoro_change_no_duration(
    folder: Path, options: Kernels, tolerance: float
) -> None:
    model = Checkpoint(str(folder), None).model("cuda")
    asked = requests(folder, [3, 40, 17])
    plain = BatchedKokoro(model, ALL_AT_ONCE)(asked)
    assert error(BatchedKokoro(model, ALL_AT_ONCE, kernels=options)(asked), plain) < tolerance


def test_kokoro_takes_the_durations_that_it_takes_on_a_cpu(folder: Path) -> None:
    """Not its wave: each device draws its own noise."""
    asked = requests(folder, [3, 40, 17])
    for precision in (True, False):
        here, there = (
            BatchedKokoro(Checkpoint(str(folder), None).model(device, precision))(asked)
            for device in ("cpu", "cuda")
        )
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a.durations, b.durations)


# --- HuBERT -----------------------------------------------------------------------------------


def noise(samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(samples, generator=generator) / 10


WAVES = [noise(n) for n in (400, 30_000, 719, 16_000, 5_000, 16_000, 48_000, 9_001)]


def load(folder: Path, precision: str, device: str) -> HubertExtractor:
    section = HubertUnits.model_validate(
        {
            "model": str(folder),
            "layer": 3,
            "input_padding": 160,
            "codebook": "",
            "precision": precision,
        }
    )
    return HubertExtractor(section, HubertExtractor.resolve(section), device)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
@pytest.mark.parametrize("style", ["base", "mhubert25"])
def test_hubert_hears_in_a_batch_what_it_hears_alone_and_on_a_cpu(
    style: str, precision: str, tolerance: float, tmp_path: Path
) -> None:
    """Features come back as float32, whatever the precision."""
    folder = make_hubert(tmp_path / "hubert", style="base" if style == "base" else "mhubert25")
    alone = load(folder, precision, "cpu").features(WAVES)
    extractor = load(folder, precision, "cuda")
    for seconds in (0, 2, 60):
        extractor.batch_seconds = seconds
        found = extractor.features(WAVES)
        assert all(features.is_cuda for features in found)
        for a, b in zip(found, alone, strict=True):
            assert float((a.cpu() - b).abs().max()) < tolerance * float(b.abs().max())


@pytest.mark.parametrize(("precision", "least"), [("float64", 1.0), ("float32", 0.999)])
def test_units_do_not_depend_on_the_batch(precision: str, least: float, tmp_path: Path) -> None:
    extractor = load(make_hubert(tmp_path / "hubert"), precision, "cuda")
    alone = torch.cat(extractor.features(WAVES))
    book = Codebook(fit(alone.cpu().numpy(), 50, 0, 5, 1)[0], "")
    quantise = Quantiser(book, "cuda")
    expected = quantise(alone)
    np.testing.assert_array_equal(expected, Quantiser(book, "cpu")(alone.cpu()))
    for seconds in (1, 3, 60):
        extractor.batch_seconds = seconds
        assert (quantise(torch.cat(extractor.features(WAVES))) == expected).mean() >= least
