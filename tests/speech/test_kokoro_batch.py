"""A batch of Kokoro gives each item what kokoro's own forward gives it alone, noise included."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KOKORO_VOCABULARY, KOKORO_VOICES, make_kokoro
from hypothesis import given
from hypothesis import strategies as st
from kokoro import KModel
from kokoro.istftnet import SourceModuleHnNSF

from unitcorpus.errors import Reject
from unitcorpus.recipe.models import KokoroSpeech
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.kokoro import KokoroEngine
from unitcorpus.speech.kokoro_batch import (
    BatchedKokoro,
    Request,
    Spoken,
    batches,
    by_frame,
    noise,
)
from unitcorpus.speech.kokoro_masks import SITES

ALL_AT_ONCE = 1 << 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kokoro(tmp_path_factory.mktemp("kokoro") / "small")


@pytest.fixture
def double() -> Iterator[None]:
    """kokoro makes some tensors in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def load(folder: Path, dtype: torch.dtype = torch.float32, **options: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config, weights = folder / "config.json", folder / "kokoro-v1_0.pth"
        model = KModel(repo_id="random", config=str(config), model=str(weights), **options).eval()
    stft = model.decoder.generator.stft
    stft.window = stft.window.to(dtype)
    return model.to(dtype)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load(folder)


@pytest.fixture(scope="module")
def exact(folder: Path) -> Any:
    """The model in float64, for tests that use `double`."""
    return load(folder, torch.float64)


def requests(folder: Path, lengths: Sequence[int]) -> list[Request]:
    """Random phonemes of these lengths, in all voices, at three speeds, each with its own noise."""
    draw = random.Random(0)
    made = []
    for seed, length in enumerate(lengths):
        voice = KOKORO_VOICES[seed % len(KOKORO_VOICES)]
        pack = torch.load(folder / "voices" / f"{voice}.pt", weights_only=True)
        style = pack[length - 1, 0].to(torch.get_default_dtype())
        phonemes = "".join(draw.choices(list(KOKORO_VOCABULARY), k=length))
        made.append(Request(phonemes, style, (2.0, 4.0, 1.0)[seed % 3], seed))
    return made


def alone(model: Any, request: Request) -> Spoken:
    """kokoro's own forward."""
    with torch.inference_mode(), noise(request.seed, torch.device("cpu")):
        out = model(request.phonemes, request.style[None], request.speed, return_output=True)
    return Spoken(out.audio, out.pred_dur)


def error(ours: Sequence[Spoken], theirs: Sequence[Spoken]) -> float:
    """The largest difference of a sample, relative to the peak of the wave. Infinite where a
    duration differs."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if not torch.equal(a.durations, b.durations):
            return float("inf")
        assert (a.wave.shape, a.wave.dtype) == (b.wave.shape, b.wave.dtype)
        worst = max(worst, float((a.wave - b.wave).abs().max() / b.wave.abs().max()))
    return worst


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "lengths", [[7], [5, 5], [1, 120], [3, 40, 1, 17], [*range(1, 17)]], ids=str
)
def test_a_batch_is_kokoros_own_forward_item_by_item(
    folder: Path, exact: Any, lengths: list[int]
) -> None:
    asked = requests(folder, lengths)
    theirs = [alone(exact, request) for request in asked]
    assert error(BatchedKokoro(exact, ALL_AT_ONCE)(asked), theirs) < 1e-8


@pytest.fixture(scope="module")
def known(folder: Path, exact: Any) -> tuple[list[Request], list[Spoken]]:
    """Three requests, and kokoro's answers in float64."""
    torch.set_default_dtype(torch.float64)
    asked = requests(folder, [4, 22, 9])
    theirs = [alone(exact, request) for request in asked]
    torch.set_default_dtype(torch.float32)
    return asked, theirs


Known = tuple[list[Request], list[Spoken]]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("site", sorted(SITES - {"durations"}))
def test_no_site_can_be_left_as_it_is(exact: Any, known: Known, site: str) -> None:
    asked, theirs = known
    assert error(BatchedKokoro(exact, ALL_AT_ONCE, frozenset({site}))(asked), theirs) > 1e-3


@pytest.mark.usefixtures("double")
def test_unrounded_durations_are_kokoros_and_need_their_site(exact: Any, known: Known) -> None:
    asked, found = known[0], list[torch.Tensor]()
    hook = exact.predictor.duration_proj.register_forward_hook(
        lambda _module, _inputs, logits: found.append(logits.sigmoid().sum(-1))
    )
    BatchedKokoro(exact)(asked)
    BatchedKokoro(exact, without=frozenset({"durations"}))(asked)
    for request in asked:
        alone(exact, request)
    hook.remove()
    replaced, as_it_is, *theirs = found
    for i, tokens in enumerate(theirs):
        torch.testing.assert_close(replaced[i, : tokens.shape[1]], tokens[0], rtol=0, atol=1e-10)
    assert (as_it_is[0] - replaced[0])[: theirs[0].shape[1]].abs().max() > 1e-3


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("frames", [None, 1, 40, ALL_AT_ONCE])
def test_how_many_go_through_the_decoder_at_a_time_does_not_matter(
    exact: Any, known: Known, frames: int | None
) -> None:
    asked, theirs = known
    assert error(BatchedKokoro(exact, frames)(asked), theirs) < 1e-8


@pytest.mark.usefixtures("double")
def test_the_stft_without_complex_numbers_is_exact_too(folder: Path) -> None:
    model = load(folder, torch.float64, disable_complex=True)
    asked = requests(folder, [4, 22, 9])
    theirs = [alone(model, request) for request in asked]
    assert error(BatchedKokoro(model, ALL_AT_ONCE)(asked), theirs) < 1e-8


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source gets its pitch in steps of 50 Hz, from kokoro and from us: what it makes of a
    pitch has jumps, so that a rounding error of the pitch can change a float32 wave at will."""
    own = SourceModuleHnNSF.forward
    monkeypatch.setattr(
        SourceModuleHnNSF, "forward", lambda self, pitch: own(self, (pitch / 50).round() * 50)
    )


@pytest.mark.usefixtures("steady")
def test_a_float32_batch_is_kokoros_own_forward_from_the_same_pitch(
    folder: Path, model: Any
) -> None:
    asked = requests(folder, [3, 40, 1, 17, 110, 26, 8, 8])
    theirs = [alone(model, request) for request in asked]
    assert error(BatchedKokoro(model, ALL_AT_ONCE)(asked), theirs) < 1e-4


def test_the_pitch_and_energy_of_a_float32_batch_are_kokoros(folder: Path) -> None:
    model = load(folder)
    curves: list[torch.Tensor] = []
    for projection in (model.predictor.F0_proj, model.predictor.N_proj):
        projection.register_forward_hook(lambda _module, _inputs, curve: curves.append(curve))
    asked = requests(folder, [3, 40, 17])
    BatchedKokoro(model)(asked)
    ours = curves[:]
    for i, request in enumerate(asked):
        curves.clear()
        alone(model, request)
        for padded, theirs in zip(ours, curves, strict=True):
            real = padded[i : i + 1, :, : theirs.shape[-1]]
            assert (real - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_a_seed_changes_the_noise_of_its_item_alone(folder: Path, model: Any) -> None:
    first, second = requests(folder, [9, 14])
    other = Request(second.phonemes, second.style, second.speed, seed=99)
    state = torch.get_rng_state()
    speak = BatchedKokoro(model, ALL_AT_ONCE)
    before, after = speak([first, second]), speak([first, other])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(before[0].wave, after[0].wave)
    assert torch.equal(before[1].durations, after[1].durations)
    assert not torch.equal(before[1].wave, after[1].wave)


def test_the_model_is_left_as_it_was_even_by_a_failure(folder: Path) -> None:
    model = load(folder)
    good, bad = requests(folder, [4, 9])
    before = alone(model, good).wave
    broken = Request(bad.phonemes, torch.full_like(bad.style, torch.nan), 1.0, 0)
    speak = BatchedKokoro(model, ALL_AT_ONCE)
    with pytest.raises(RuntimeError, match="durations that are not finite"):
        speak([good, broken])
    model.decoder.generator.conv_post.register_forward_pre_hook(lambda _module, _inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        speak([good, bad])
    model.decoder.generator.conv_post._forward_pre_hooks.popitem()
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]
    assert torch.equal(alone(model, good).wave, before)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=5))
def test_a_token_is_held_for_as_long_as_it_lasts(durations: list[list[int]]) -> None:
    x = torch.randn(len(durations), 3, max(map(len, durations)))
    lasting = torch.zeros(len(durations), x.shape[-1], dtype=torch.long)
    for row, item in zip(lasting, durations, strict=True):
        row[: len(item)] = torch.tensor(item)
    frames = by_frame(x, lasting)
    assert frames.shape[-1] == lasting.sum(1).max()
    for ours, item, repeats in zip(frames, x, lasting, strict=True):
        held = item.repeat_interleave(repeats, dim=1)
        assert torch.equal(ours[:, : held.shape[1]], held)


@given(st.lists(st.integers(1, 510), max_size=40), st.integers(1, 3000))
def test_batches_hold_everything_once_by_length_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    cut = batches(lengths, budget)
    order = [i for batch in cut for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    assert all(len(batch) == 1 or len(batch) * lengths[batch[-1]] <= budget for batch in cut)
    for batch, following in itertools.pairwise(cut):
        assert (len(batch) + 1) * lengths[following[0]] > budget


# --- the engine -------------------------------------------------------------------------------

TEXTS = ("A fox ran.", "", "Two owls sat on a wall.", "A.", "The end.")


def engine(folder: Path, batch_phonemes: int) -> KokoroEngine:
    section = KokoroSpeech(model=str(folder), g2p="espeak", speed=4.0, voices=("af_heart",))
    return KokoroEngine(section, KokoroEngine.resolve(section), "cpu", batch_phonemes)


def said(speaker: KokoroEngine) -> list[torch.Tensor | Reject]:
    return speaker.synthesize([Utterance("u", t, "af_heart", i) for i, t in enumerate(TEXTS)])


@pytest.mark.usefixtures("steady")
def test_an_engine_says_the_same_in_batches(folder: Path) -> None:
    one_by_one, together = (said(engine(folder, size)) for size in (1, 1000))
    for theirs, ours in zip(one_by_one, together, strict=True):
        if isinstance(theirs, Reject):
            assert ours == theirs
        else:
            assert isinstance(ours, torch.Tensor)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("half", [slice(0, 128), slice(128, 256)], ids=["decoder", "predictor"])
def test_a_text_that_fails_in_a_batch_costs_itself_alone(tmp_path: Path, half: slice) -> None:
    copy = make_kokoro(tmp_path / "copy")
    pack = torch.load(copy / "voices" / "af_heart.pt", weights_only=True)
    pack[:5, :, half] = torch.nan
    torch.save(pack, copy / "voices" / "af_heart.pt")
    found = said(engine(copy, 1000))
    reasons = [wave.reason if isinstance(wave, Reject) else None for wave in found]
    assert reasons == [None, "no_phonemes", None, "engine_error", None]


def test_running_out_of_memory_in_a_batch_is_raised(folder: Path) -> None:
    speaker = engine(folder, 1000)

    def exhaust(_module: Any, _inputs: Any) -> None:
        torch.empty(1 << 50)

    speaker._model.decoder.register_forward_pre_hook(exhaust)
    with pytest.raises(RuntimeError, match="allocate memory"):
        said(speaker)


# --- the size of the published model ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_batch_of_the_full_model_is_kokoros_own_forward(tmp_path: Path) -> None:
    folder = make_kokoro(tmp_path / "full", small=False)
    model = load(folder, torch.float64)
    asked = requests(folder, [3, 60, 22, 1, 110])
    theirs = [alone(model, request) for request in asked]
    ours = BatchedKokoro(model, ALL_AT_ONCE)(asked)
    print(f"float64: {error(ours, theirs):.1e}")
    assert error(ours, theirs) < 1e-8


@pytest.mark.slow
@pytest.mark.usefixtures("steady")
def test_a_float32_batch_of_the_full_model_is_close(tmp_path: Path) -> None:
    folder = make_kokoro(tmp_path / "full", small=False)
    model = load(folder)
    asked = requests(folder, [3, 60, 22, 1, 200])
    theirs = [alone(model, request) for request in asked]
    ours = BatchedKokoro(model, ALL_AT_ONCE)(asked)
    print(f"float32: {error(ours, theirs):.1e}")
    assert error(ours, theirs) < 1e-3
