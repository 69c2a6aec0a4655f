"""A batch of Kokoro gives each item what kokoro's own forward gives it alone, noise included."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kokoro import KModel

from checkpoints import KOKORO_VOCABULARY, KOKORO_VOICES, make_kokoro
from unitcorpus.errors import Reject
from unitcorpus.recipe.models import KokoroSpeech
from unitcorpus.speech import kokoro_batch, kokoro_prosody
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.kokoro import KokoroEngine
from unitcorpus.speech.kokoro_batch import BatchedKokoro, Request, Spoken, batches, noise
from unitcorpus.speech.kokoro_files import arranged
from unitcorpus.speech.kokoro_kernels import kernels
from unitcorpus.speech.kokoro_masks import SITES, Site, replaced
from unitcorpus.speech.kokoro_prosody import by_frame

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
    """kokoro's own model."""
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
def ours(folder: Path) -> Any:
    """The model as the engine stores it."""
    return arranged(load(folder))


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


MIXED = [1, 500, 2, 3, 60, 22, 110, 7, 250, 13, 35, 80, 5, 160, 45, 20]


def at_once(model: Any, without: frozenset[str] = frozenset()) -> BatchedKokoro:
    """All of a batch through every part of the model together, as on a GPU."""
    return BatchedKokoro(model, ALL_AT_ONCE, torch.float64, without=without)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "lengths",
    [
        [7],
        [5, 5],
        [1, 150],
        [3, 40, 1, 17],
        [*range(1, 17)],
        pytest.param([1, 500], marks=pytest.mark.slow),
        pytest.param(MIXED, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_batch_is_kokoros_own_forward_item_by_item(
    folder: Path, exact: Any, lengths: list[int]
) -> None:
    asked = requests(folder, lengths)
    theirs = [alone(exact, request) for request in asked]
    assert error(at_once(exact)(asked), theirs) < 1e-8


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
    assert error(at_once(exact, frozenset({site}))(asked), theirs) > 1e-3


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("site", ["statistics", "shift"])
@pytest.mark.parametrize("part", ["predictor", "decoder"])
def test_norms_of_neither_part_can_be_left_as_they_are(
    exact: Any, known: Known, part: str, site: str
) -> None:
    asked, theirs = known
    speak = at_once(exact)
    vars(speak._prosody if part == "predictor" else speak)["_without"] = frozenset({site})
    assert error(speak(asked), theirs) > 1e-3


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "module",
    [
        "predictor.F0.1.pool",
        "predictor.N.1.pool",
        "decoder.decode.3.pool",
        "decoder.generator.ups.0",
        "decoder.generator.ups.1",
    ],
)
def test_no_module_of_a_site_can_be_left_as_it_is(
    exact: Any, known: Known, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, theirs = known
    speak, left = at_once(exact), exact.get_submodule(module)

    def others(sites: Iterable[Site], without: frozenset[str]) -> AbstractContextManager[None]:
        return replaced([site for site in sites if site.owner is not left], without)

    for place in (kokoro_batch, kokoro_prosody):
        monkeypatch.setattr(place, "replaced", others)
    assert error(speak(asked), theirs) > 1e-4


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source draws zeros."""
    for name in ("rand", "randn_like"):
        monkeypatch.setattr(torch, name, partial(_zeros, getattr(torch, name)))


def _zeros(draw: Any, *arguments: Any, **options: Any) -> torch.Tensor:
    zeros: torch.Tensor = draw(*arguments, **options).zero_()
    return zeros


@pytest.mark.usefixtures("double", "noiseless")
def test_without_noise_a_batch_is_exact_too_and_the_source_hears_no_pitch_past_an_end(
    exact: Any, folder: Path
) -> None:
    """Without noise nothing covers what follows an item's last frame, nor the angle of a bin of
    the spectrum that is all but empty: the pitch must be the same to the bit."""
    asked = requests(folder, [4, 22, 9])
    theirs = [alone(exact, request) for request in asked]
    assert error(BatchedKokoro(exact, ALL_AT_ONCE)(asked), theirs) < 1e-12
    assert error(at_once(exact)(asked), theirs) < 1e-6
    assert error(at_once(exact, frozenset({"noise"}))(asked), theirs) > 1e-3


@pytest.mark.usefixtures("double")
def test_unrounded_durations_are_kokoros_and_need_their_site(exact: Any, known: Known) -> None:
    asked, found = known[0], list[torch.Tensor]()
    hook = exact.predictor.duration_proj.register_forward_hook(
        lambda _module, _inputs, logits: found.append(logits.sigmoid().sum(-1))
    )
    at_once(exact)(asked)
    at_once(exact, frozenset({"durations"}))(asked)
    for request in asked:
        alone(exact, request)
    hook.remove()
    replaced, as_it_is, *theirs = found
    for i, tokens in enumerate(theirs):
        torch.testing.assert_close(replaced[i, : tokens.shape[1]], tokens[0], rtol=0, atol=1e-10)
    assert (as_it_is[0] - replaced[0])[: theirs[0].shape[1]].abs().max() > 1e-3


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("together", [None, torch.float64], ids=["apart", "together"])
@pytest.mark.parametrize("frames", [None, 1, 40, ALL_AT_ONCE])
def test_how_many_go_through_a_part_at_a_time_does_not_matter(
    exact: Any, known: Known, frames: int | None, together: torch.dtype | None
) -> None:
    asked, theirs = known
    assert error(BatchedKokoro(exact, frames, together)(asked), theirs) < 1e-8


@pytest.mark.usefixtures("double")
def test_the_stft_without_complex_numbers_is_exact_too(folder: Path) -> None:
    model = load(folder, torch.float64, disable_complex=True)
    asked = requests(folder, [4, 22, 9])
    theirs = [alone(model, request) for request in asked]
    assert error(at_once(model)(asked), theirs) < 1e-8


# --- float32 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "compile"),
    [
        (None, False),
        (ALL_AT_ONCE, False),
        pytest.param(ALL_AT_ONCE, True, marks=pytest.mark.slow),
    ],
    ids=["one by one", "at once", "compiled"],
)
def test_a_float32_batch_is_kokoros_own_float32_forward(
    folder: Path, model: Any, ours: Any, frames: int | None, compile: bool
) -> None:
    asked = requests(folder, [3, 40, 1, 17, 110, 26, 8, 8])
    theirs = [alone(model, request) for request in asked]
    spoken = BatchedKokoro(ours, frames, kernels=kernels(None, compile))(asked)
    assert error(spoken, theirs) < 1e-4


def test_a_batch_with_prosody_in_double_is_what_its_items_are_alone(
    folder: Path, ours: Any
) -> None:
    asked = requests(folder, [3, 40, 1, 17, 110, 26, 8, 8])
    speak = at_once(ours)
    assert error(speak(asked), [speak([request])[0] for request in asked]) < 1e-4


def test_a_batch_with_prosody_in_float32_is_not(folder: Path, ours: Any) -> None:
    """Why there is a module for it: with random weights or not, phases add up and wrap around."""
    asked = requests(folder, [40, 110, 60])
    speak = BatchedKokoro(ours, ALL_AT_ONCE, torch.float32)
    assert error(speak(asked), [speak([request])[0] for request in asked]) > 1e-3


def test_prosody_in_double_is_kokoros_up_to_its_rounding(folder: Path, ours: Any) -> None:
    curves: list[torch.Tensor] = []
    hooks = [
        part.register_forward_pre_hook(lambda _module, inputs: curves.append(inputs[0][0, 0]))
        for part in (ours.decoder.F0_conv, ours.decoder.N_conv)
    ]
    asked = requests(folder, [3, 40, 17])
    with torch.inference_mode():
        together = at_once(ours)._score(asked).melody
    for i, request in enumerate(asked):
        curves.clear()
        alone(ours, request)
        for padded, theirs in zip((together.pitch, together.energy), curves, strict=True):
            assert (padded[i, : len(theirs)] - theirs).abs().max() < 1e-4 * theirs.abs().max()
    for hook in hooks:
        hook.remove()


def test_half_precision_changes_no_duration_and_the_wave_a_little(folder: Path, ours: Any) -> None:
    asked = requests(folder, [3, 40, 17])
    whole = BatchedKokoro(ours)(asked)
    half = BatchedKokoro(ours, ALL_AT_ONCE, kernels=kernels(torch.bfloat16, False))(asked)
    assert 1e-4 < error(half, whole) < 0.1
    assert all(spoken.wave.dtype == torch.float32 for spoken in half)


def test_a_seed_changes_the_noise_of_its_item_alone(folder: Path, ours: Any) -> None:
    first, second = requests(folder, [9, 14])
    other = Request(second.phonemes, second.style, second.speed, seed=99)
    state = torch.get_rng_state()
    speak = at_once(ours)
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


def engine(folder: Path, batch_seconds: float = 60) -> KokoroEngine:
    section = KokoroSpeech(model=str(folder), g2p="espeak", speed=4.0, voices=("af_heart",))
    speaker = KokoroEngine(section, KokoroEngine.resolve(section), "cpu")
    speaker.batch_seconds = batch_seconds
    return speaker


def said(speaker: KokoroEngine) -> list[torch.Tensor | Reject]:
    return speaker.synthesize([Utterance("u", t, "af_heart", i) for i, t in enumerate(TEXTS)])


def test_on_a_cpu_an_engine_says_the_same_in_batches_to_the_bit(folder: Path) -> None:
    one_by_one, together = (said(engine(folder, seconds)) for seconds in (0, 60))
    for theirs, ours in zip(one_by_one, together, strict=True):
        if isinstance(theirs, Reject):
            assert ours == theirs
        else:
            assert isinstance(ours, torch.Tensor)
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("half", [slice(0, 128), slice(128, 256)], ids=["decoder", "predictor"])
def test_a_text_that_fails_in_a_batch_costs_itself_alone(tmp_path: Path, half: slice) -> None:
    copy = make_kokoro(tmp_path / "copy")
    pack = torch.load(copy / "voices" / "af_heart.pt", weights_only=True)
    pack[:5, :, half] = torch.nan
    torch.save(pack, copy / "voices" / "af_heart.pt")
    found = said(engine(copy))
    reasons = [wave.reason if isinstance(wave, Reject) else None for wave in found]
    assert reasons == [None, "no_phonemes", None, "engine_error", None]


def test_running_out_of_memory_in_a_batch_is_raised(folder: Path) -> None:
    speaker = engine(folder)

    def exhaust(_module: Any, _inputs: Any) -> None:
        torch.empty(1 << 50)

    speaker._model.decoder.register_forward_pre_hook(exhaust)
    with pytest.raises(RuntimeError, match="allocate memory"):
        said(speaker)


# --- the size of the published model ----------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kokoro(tmp_path_factory.mktemp("kokoro") / "full", small=False)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("lengths", [[3, 60, 22, 1, 110], [500, 1], [*range(1, 32, 2)]], ids=str)
def test_a_batch_of_the_full_model_is_kokoros_own_forward(full: Path, lengths: list[int]) -> None:
    model = load(full, torch.float64)
    asked = requests(full, lengths)
    theirs = [alone(model, request) for request in asked]
    found = error(at_once(model)(asked), theirs)
    print(f"float64: {found:.1e}")
    assert found < 1e-8


@pytest.mark.slow
@pytest.mark.usefixtures("double", "noiseless")
@pytest.mark.parametrize("together", [None, torch.float64], ids=["apart", "together"])
def test_a_batch_of_the_full_model_without_noise_is_kokoros_own_forward(
    full: Path, together: torch.dtype | None
) -> None:
    model = load(full, torch.float64)
    asked = requests(full, [3, 60, 22, 1])
    theirs = [alone(model, request) for request in asked]
    found = error(BatchedKokoro(model, ALL_AT_ONCE, together)(asked), theirs)
    print(f"float64, without noise: {found:.1e}")
    assert found < (1e-8 if together else 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [None, ALL_AT_ONCE], ids=["one by one", "at once"])
def test_a_float32_batch_of_the_full_model_is_kokoros_own_forward(
    full: Path, frames: int | None
) -> None:
    model = load(full)
    asked = requests(full, [3, 60, 22, 1, 110, 500])
    theirs = [alone(model, request) for request in asked]
    found = error(BatchedKokoro(arranged(load(full)), frames)(asked), theirs)
    print(f"float32: {found:.1e}")
    assert found < 1e-3


@pytest.mark.slow
def test_a_float32_batch_of_the_full_model_with_prosody_in_double_is_what_its_items_are_alone(
    full: Path,
) -> None:
    asked = requests(full, [3, 60, 22, 1, 110])
    speak = at_once(arranged(load(full)))
    found = error(speak(asked), [speak([request])[0] for request in asked])
    print(f"float32, prosody in double: {found:.1e}")
    assert found < 1e-3
