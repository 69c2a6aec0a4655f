"""A waveform's HuBERT states, and so its units, are the same in every batch and alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import HubertConfig, HubertModel

from checkpoints_hubert import make_hubert
from unitcorpus.recipe.models import EspeakSpeech, HubertUnits
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units import hubert_batch
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.hubert import HubertExtractor
from unitcorpus.units.hubert_batch import (
    MASKS,
    Mask,
    forward_batch,
    masked_attention,
    masked_group_norm,
    masked_positions,
    one_at_a_time,
    plan_batches,
)
from unitcorpus.units.kmeans import Quantiser, fit
from unitcorpus.units.resample import resample

LAYER, WIDTH = 3, 32
STYLES: dict[str, dict[str, Any]] = {
    "base": {},
    "layer-norm": {"stable_layer_norm": True},
    "25-hz": {"style": "mhubert25"},
}
FRAME = {"base": 400, "layer-norm": 400, "25-hz": 720}
"""Samples of exactly one frame."""

EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}


def load(folder: Path, **changes: Any) -> HubertExtractor:
    chosen = HubertUnits(model=str(folder), layer=LAYER, codebook="demo", **changes)
    return HubertExtractor(chosen, HubertExtractor.resolve(chosen), "cpu")


def full(folder: Path) -> Any:
    """As transformers itself loads it, with the layers above."""
    return HubertModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hubert")
    return {style: make_hubert(root / style, **changes) for style, changes in STYLES.items()}


@pytest.fixture(autouse=True)
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches on a CPU, too."""
    monkeypatch.setattr(hubert_batch, "one_at_a_time", lambda device: False)


Models = dict[tuple[str, torch.dtype], tuple[Any, Any]]
"""The extractor's model and transformers' own."""


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> Models:
    return {
        (style, dtype): (
            load(folder, precision=str(dtype).removeprefix("torch."))._model,
            full(folder).to(dtype),
        )
        for style, folder in folders.items()
        for dtype in EXACT
    }


def noise(samples: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1_000 * samples + seed)
    return torch.randn(samples, generator=generator, dtype=dtype) / 10


def alone(model: Any, wave: torch.Tensor, layer: int = LAYER) -> torch.Tensor:
    """States [frames, width] by transformers' own forward of one waveform."""
    with torch.inference_mode():
        states: torch.Tensor = model(wave[None], output_hidden_states=True).hidden_states[layer][0]
    return states


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference relative to the largest magnitude; infinite where there is a NaN."""
    assert found.shape == expected.shape
    ratio = float((found - expected).abs().max() / expected.abs().max())
    return ratio if ratio == ratio else float("inf")


def errors(pair: tuple[Any, Any], waves: Sequence[torch.Tensor], masks: Any) -> list[float]:
    found = forward_batch(pair[0], waves, masks)
    return [error(f, alone(pair[1], wave)) for f, wave in zip(found, waves, strict=True)]


# --- batches --------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 2_000), max_size=40), budget=st.integers(0, 10_000))
def test_batches_hold_each_waveform_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    longest_first = [lengths[i] for batch in batches for i in batch]
    assert longest_first == sorted(lengths, reverse=True)


def test_a_batch_is_full_before_the_next_one_is_begun() -> None:
    assert plan_batches([3, 5, 3, 3, 1], 9) == [[1], [0, 2, 3], [4]]
    assert plan_batches([5, 5], 0) == [[0], [1]]


@pytest.mark.parametrize(("budget", "forwards"), [(0, 4), (15_999, 3), (16_000, 2), (40_000, 1)])
def test_the_model_gets_batches_within_the_budget(
    budget: int, forwards: int, folders: dict[str, Path]
) -> None:
    extractor = load(folders["base"])
    extractor.batch_seconds = budget / 16_000
    shapes: list[torch.Size] = []
    extractor._model.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    extractor.features([noise(n) for n in (4_000, 8_000, 100, 2_000, 7_000)])
    assert len(shapes) == forwards
    assert all(rows * samples <= budget for rows, samples in shapes if rows > 1)


# --- exact ----------------------------------------------------------------------------------------

LENGTHS = st.one_of(st.integers(0, 3), st.integers(0, 1_500), st.integers(0, 30_000))
"""Samples beyond one frame."""


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=12, deadline=None)
@given(beyond=st.lists(LENGTHS, min_size=2, max_size=6))
@example(beyond=[0, 30_000, 1, 319, 320, 640])
@example(beyond=[16_000, 16_000, 15_999, 8_000])
def test_states_in_a_batch_are_those_of_transformers_alone(
    style: str, dtype: torch.dtype, beyond: list[int], models: Models
) -> None:
    waves = [noise(FRAME[style] + n, seed, dtype) for seed, n in enumerate(beyond)]
    assert max(errors(models[style, dtype], waves, MASKS)) < EXACT[dtype]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("style", STYLES)
def test_one_frame_beside_a_thousand_is_exact_and_no_row_is_without_a_key(
    style: str, dtype: torch.dtype, models: Models
) -> None:
    """Attention works in blocks, of which most hold nothing but padding for the short ones."""
    one = FRAME[style]
    waves = [noise(n, 0, dtype) for n in (1_000 * (one - 80) + 80, one, one + 5 * (one - 80))]
    waves.append(torch.zeros(2 * one, dtype=dtype))
    assert len(alone(models[style, dtype][1], waves[0])) == 1_000
    assert max(errors(models[style, dtype], waves, MASKS)) < EXACT[dtype]


def test_features_come_back_in_order_with_nothing_for_what_is_too_short(
    folders: dict[str, Path],
) -> None:
    extractor = load(folders["25-hz"], input_padding=40)
    extractor.batch_seconds = 1.25
    waves = [noise(n, n) for n in (639, 9_000, 0, 640, 3_000, 12_000, 9_000)]
    found = extractor.features(waves)
    model = full(folders["25-hz"])
    for states, wave in zip(found, waves, strict=True):
        if len(wave) < 640:
            assert states.shape == (0, WIDTH)
        else:
            expected = alone(model, torch.nn.functional.pad(wave, (40, 40)))
            assert error(states, expected) < 1e-5


def test_a_batch_of_one_is_transformers(folders: dict[str, Path]) -> None:
    extractor = load(folders["base"])
    extractor.batch_seconds = 60
    (states,) = extractor.features([noise(5_000)])
    assert error(states, alone(full(folders["base"]), noise(5_000))) < 1e-5


def test_on_a_cpu_each_goes_alone_whatever_the_budget(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubert_batch, "one_at_a_time", one_at_a_time)
    extractor = load(folders["base"])
    waves = [noise(n) for n in (5_000, 9_000, 7_000)]
    single = extractor.features(waves)
    extractor.batch_seconds = 60
    for a, b in zip(extractor.features(waves[::-1])[::-1], single, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("style", STYLES)
def test_a_batch_leaves_no_mask_behind_even_when_it_fails(
    style: str, folders: dict[str, Path]
) -> None:
    model = load(folders[style])._model
    before = forward_batch(model, [noise(5_000)])[0]
    forward_batch(model, [noise(9_000), noise(4_000)], MASKS)
    with pytest.raises(RuntimeError, match=r"[Ff]loat"):
        forward_batch(model, [noise(9_000).double(), noise(4_000).double()], MASKS)
    with torch.inference_mode():
        assert torch.equal(model(noise(5_000)[None]).last_hidden_state[0], before)
        longer = model(torch.stack([noise(7_000), noise(7_000, 1)])).last_hidden_state
    assert error(longer[1], forward_batch(model, [noise(7_000, 1)])[0]) < 1e-5


def test_attention_gets_one_boolean_row_for_each_waveform(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a float mask nor one of [frames, frames]."""
    attend, seen = torch.nn.functional.scaled_dot_product_attention, []

    def record(*inputs: Any, **named: Any) -> torch.Tensor:
        seen.append(named["attn_mask"])
        return attend(*inputs, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    forward_batch(models["base", torch.float32][0], [noise(400 + 320 * 9), noise(400 + 320 * 3)])
    assert len(seen) == LAYER
    assert all(mask.shape == (2, 1, 1, 10) and mask.dtype == torch.bool for mask in seen)
    assert seen[0].sum((1, 2, 3)).tolist() == [10, 4]


# --- each mask is needed --------------------------------------------------------------------------

NEEDED = [
    ("base", masked_group_norm),
    ("base", masked_positions),
    ("base", masked_attention),
    ("layer-norm", masked_positions),
    ("layer-norm", masked_attention),
    ("25-hz", masked_group_norm),
    ("25-hz", masked_positions),
    ("25-hz", masked_attention),
]


@pytest.mark.parametrize(("style", "mask"), NEEDED)
def test_without_one_of_the_masks_states_are_wrong(style: str, mask: Mask, models: Models) -> None:
    waves = [noise(24_000, 0, torch.float64), noise(12_000, 0, torch.float64)]
    left = [other for other in MASKS if other is not mask]
    assert len(left) == 2
    long, short = errors(models[style, torch.float64], waves, left)
    assert long < 1e-10
    assert short > 1e-4


@contextmanager
def zeros_before_the_encoder(model: Any, lengths: Sequence[int]) -> Iterator[None]:
    """All that transformers' encoder does for positions, given an attention mask."""
    frames = model._get_feat_extract_output_lengths(torch.tensor(lengths))

    def zero(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        padding = torch.arange(inputs[0].shape[1]) >= frames[:, None]
        return (inputs[0].masked_fill(padding[..., None], 0),)

    with model.encoder.register_forward_pre_hook(zero):
        yield


@pytest.mark.parametrize(("style", "enough"), [("base", True), ("25-hz", False)])
def test_zeros_before_a_batch_norm_are_not_enough(style: str, enough: bool, models: Models) -> None:
    waves = [noise(24_000, 0, torch.float64), noise(12_000, 0, torch.float64)]
    masks = masked_group_norm, zeros_before_the_encoder, masked_attention
    _, short = errors(models[style, torch.float64], waves, masks)
    assert (short < 1e-10) if enough else (short > 1e-4)


# --- units ----------------------------------------------------------------------------------------

TEXTS = (
    "Once upon a time there was a fox.",
    "Hi!",
    "The well was deep, and the day was long.",
    "She gave the bread to her brother, who gave her an apple, and they ate by the river.",
    "No.",
    "Every day he went a little further along the old path.",
    "What did the bird say?",
)


@pytest.fixture(scope="module")
def speech() -> list[torch.Tensor]:
    """Synthetic speech at 16 kHz."""
    section = EspeakSpeech(voices=("en-us", "en-us+f3"))
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    asked = [Utterance("u", text, voice, 0) for voice in section.voices for text in TEXTS]
    spoken = engine.synthesize(asked)
    engine.close()
    waves = [wave for wave in spoken if isinstance(wave, torch.Tensor)]
    assert len(waves) == len(asked)
    return [resample(wave, engine.sample_rate, 16_000) for wave in waves]


def shuffled(
    extractor: HubertExtractor, waves: Sequence[torch.Tensor], rounds: int
) -> Iterator[Any]:
    """Features in the order of `waves`, from other orders, companions and budgets each time."""
    draw = Random(0)
    for _ in range(rounds):
        extractor.batch_seconds = draw.choice([4, 10, 25, 200])
        order = draw.sample(range(len(waves)), len(waves))
        cut = draw.randrange(1, len(waves))
        found = {
            i: states
            for part in (order[:cut], order[cut:])
            for i, states in zip(part, extractor.features([waves[i] for i in part]), strict=True)
        }
        yield [found[i] for i in range(len(waves))]


def units(quantise: Quantiser, features: Sequence[torch.Tensor]) -> NDArray[np.uint16]:
    return np.concatenate([quantise(states) for states in features])


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1.0), (torch.float32, 0.9999)])
@pytest.mark.parametrize("style", ["base", "25-hz"])
def test_units_do_not_depend_on_the_batch(
    style: str,
    dtype: torch.dtype,
    least: float,
    folders: dict[str, Path],
    speech: list[torch.Tensor],
) -> None:
    extractor = load(folders[style], precision=str(dtype).removeprefix("torch."))
    solo = extractor.features(speech)
    quantise = Quantiser(Codebook(fit(torch.cat(solo).numpy(), 100, 0, 5, 1)[0], ""), "cpu")
    expected = units(quantise, solo)
    assert len(np.unique(expected)) > 90
    found = [units(quantise, features) for features in shuffled(extractor, speech, 6)]
    same = sum(int((each == expected).sum()) for each in found)
    assert same >= least * 6 * len(expected), f"{6 * len(expected) - same} of {6 * len(expected)}"


# --- full size ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("style", STYLES)
def test_full_size_models_are_exact_in_batches(
    style: str, dtype: torch.dtype, speech: list[torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    HubertModel(full_size(style)).save_pretrained(tmp_path)
    extractor = load(tmp_path, precision=str(dtype).removeprefix("torch."))
    waves = [wave.to(dtype) for wave in speech]
    found = errors((extractor._model, full(tmp_path).to(dtype)), waves, MASKS)
    print(f"{style}, {dtype}: {max(found):.1e}")
    assert max(found) < EXACT[dtype]


def full_size(style: str) -> HubertConfig:
    """hubert-base, hubert-large's kinds of layers, and the 25 Hz mHuBERT, in full width."""
    if style == "layer-norm":
        return HubertConfig(
            hidden_size=1024,
            num_attention_heads=16,
            intermediate_size=4096,
            num_hidden_layers=4,
            do_stable_layer_norm=True,
            feat_extract_norm="layer",
            conv_bias=True,
        )
    if style == "25-hz":
        return HubertConfig(
            num_hidden_layers=4,
            conv_dim=(512,) * 8,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2, 2),
            conv_pos_batch_norm=True,
        )
    return HubertConfig(num_hidden_layers=4)
