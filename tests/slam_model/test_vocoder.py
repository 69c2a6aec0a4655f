"""The unit vocoder: a checkpoint of the published layout sounds as a plain forward pass says."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, layer_norm, leaky_relu

from slam_model.vocoder import UnitVocoder, load_vocoder
from unitcorpus.errors import UnitcorpusError
from vocoders import CONFIG, NAME, make_vocoder


def weight(state: dict[str, Tensor], name: str) -> Tensor:
    """Weight normalisation (Salimans & Kingma 2016): g · v / ‖v‖, the norm over all but dim 0."""
    v, g = state[f"{name}.weight_v"], state[f"{name}.weight_g"]
    norm: Tensor = v.flatten(1).norm(dim=1)
    return g * v / norm.reshape(-1, 1, 1)


def reference_frames(state: dict[str, Tensor], x: Tensor) -> list[int]:
    """FastSpeech 2's variance predictor on x [n, width]."""
    h = x.T[None]
    for n in ("1", "2"):
        at = f"dur_predictor.conv{n}.0"
        h = conv1d(h, state[f"{at}.weight"], state[f"{at}.bias"], padding=1).relu()
        norm = f"dur_predictor.ln{n}"
        scaled = layer_norm(h[0].T, (h.shape[1],), state[f"{norm}.weight"], state[f"{norm}.bias"])
        h = scaled.T[None]
    logs = h[0].T @ state["dur_predictor.proj.weight"].T + state["dur_predictor.proj.bias"]
    return [max(1, round(float(frames))) for frames in logs.exp() - 1]


def reference(
    state: dict[str, Tensor], config: dict[str, Any], units: list[int], frames: list[int]
) -> Tensor:
    """HiFi-GAN's generator (Kong et al. 2020, V1), in float64, without any module."""
    table = state["dict.weight"]
    x = torch.stack([table[u] for u, n in zip(units, frames, strict=True) for _ in range(n)]).T[
        None
    ]
    x = conv1d(x, weight(state, "conv_pre"), state["conv_pre.bias"], padding=3)
    kernels, dilations = config["resblock_kernel_sizes"], config["resblock_dilation_sizes"]
    rates = zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True)
    for i, (rate, size) in enumerate(rates):
        name, padding = f"ups.{i}", (size - rate) // 2
        x = conv_transpose1d(
            leaky_relu(x, 0.1), weight(state, name), state[f"{name}.bias"], rate, padding
        )
        branches = []
        for j, (kernel, steps) in enumerate(zip(kernels, dilations, strict=True)):
            block, h = f"resblocks.{i * len(kernels) + j}", x
            for k, step in enumerate(steps):
                one, two = f"{block}.convs1.{k}", f"{block}.convs2.{k}"
                inner = conv1d(
                    leaky_relu(h, 0.1),
                    weight(state, one),
                    state[f"{one}.bias"],
                    padding=step * (kernel - 1) // 2,
                    dilation=step,
                )
                h = h + conv1d(
                    leaky_relu(inner, 0.1),
                    weight(state, two),
                    state[f"{two}.bias"],
                    padding=(kernel - 1) // 2,
                )
            branches.append(h)
        x = torch.stack(branches).mean(0)
    x = conv1d(leaky_relu(x, 0.01), weight(state, "conv_post"), state["conv_post.bias"], padding=3)
    return x.tanh()[0, 0]


def double(folder: Path) -> dict[str, Tensor]:
    saved = torch.load(folder / f"{NAME}.pt", weights_only=True)["generator"]
    return {name: value.double() for name, value in saved.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def vocoder(folder: Path) -> UnitVocoder:
    return load_vocoder(folder)


def units_of(length: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, CONFIG["num_embeddings"], length, np.uint16)


def test_given_durations_sound_as_the_reference(folder: Path, vocoder: UnitVocoder) -> None:
    units, frames = units_of(12), np.array([1, 2, 3, 1, 5, 1, 1, 2, 9, 1, 1, 4], np.uint32)
    wave = vocoder(units, frames)
    expected = reference(double(folder), CONFIG, units.tolist(), frames.tolist())
    assert wave.dtype == torch.float32
    assert len(wave) == frames.sum() * CONFIG["code_hop_size"]
    assert 0.05 < float(expected.std()) < 0.9
    torch.testing.assert_close(wave.double(), expected, atol=1e-5, rtol=0)


def test_predicted_durations_sound_as_the_reference(folder: Path, vocoder: UnitVocoder) -> None:
    state, units = double(folder), units_of(40, seed=1)
    table = state["dict.weight"]
    frames = reference_frames(state, torch.stack([table[u] for u in units.tolist()]))
    assert len(set(frames)) > 2
    wave = vocoder(units)
    expected = reference(state, CONFIG, units.tolist(), frames)
    torch.testing.assert_close(wave.double(), expected, atol=1e-5, rtol=0)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_frame_is_always_one_hop(vocoder: UnitVocoder, length: int, seed: int) -> None:
    units = units_of(length, seed)
    frames = np.random.default_rng(seed).integers(1, 5, length)
    wave = vocoder(units, frames)
    assert len(wave) == frames.sum() * CONFIG["code_hop_size"]
    assert float(wave.abs().max()) <= 1
    assert len(vocoder(units)) >= length * CONFIG["code_hop_size"]


def test_no_units_are_no_sound(vocoder: UnitVocoder) -> None:
    assert vocoder(units_of(0)).shape == (0,)


def test_a_vocoder_is_found_as_a_file_and_with_a_plain_config(
    folder: Path, vocoder: UnitVocoder, tmp_path: Path
) -> None:
    (tmp_path / "g.pt").write_bytes((folder / f"{NAME}.pt").read_bytes())
    (tmp_path / "config.json").write_bytes((folder / f"{NAME}_config.json").read_bytes())
    units = units_of(5)
    for where in (tmp_path, tmp_path / "g.pt", folder / f"{NAME}.pt"):
        torch.testing.assert_close(load_vocoder(where)(units), vocoder(units))


def test_weights_that_are_saved_without_normalisation_load(
    folder: Path, vocoder: UnitVocoder, tmp_path: Path
) -> None:
    saved = torch.load(folder / f"{NAME}.pt", weights_only=True)["generator"]
    plain = {name: value for name, value in saved.items() if "weight_" not in name}
    for name in {name.rpartition(".")[0] for name in saved if name.endswith("weight_g")}:
        plain[f"{name}.weight"] = weight(saved, name)
    torch.save({"generator": plain}, tmp_path / f"{NAME}.pt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    units = units_of(5)
    torch.testing.assert_close(load_vocoder(tmp_path)(units), vocoder(units), atol=1e-5, rtol=1e-4)


# --- refused ----------------------------------------------------------------------------------


def refused(match: str, folder: Path) -> None:
    with pytest.raises(UnitcorpusError, match=match) as caught:
        load_vocoder(folder)
    assert "\n" not in str(caught.value)


def write_config(folder: Path, **changes: Any) -> Path:
    (folder / f"{NAME}_config.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


def test_a_unit_that_it_has_not_is_refused(vocoder: UnitVocoder) -> None:
    with pytest.raises(UnitcorpusError, match="unit 60 for a vocoder of 60 units"):
        vocoder(np.array([3, 60], np.uint16))


def test_a_folder_without_a_vocoder_is_refused(tmp_path: Path) -> None:
    refused("holds 0 .pt files: a vocoder is a folder with", tmp_path)
    refused("holds 0 .pt files", tmp_path / "nowhere")


def test_a_checkpoint_without_its_config_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.pt").write_bytes((folder / f"{NAME}.pt").read_bytes())
    refused(f"there is no {NAME}_config.json beside", tmp_path)
    (tmp_path / f"{NAME}_config.json").write_text("{")
    refused("cannot read .*_config.json: ", tmp_path)


def test_a_config_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.pt").write_bytes((folder / f"{NAME}.pt").read_bytes())
    refused("size mismatch for dict.weight", write_config(tmp_path, num_embeddings=61))
    refused("no CodeHiFiGAN checkpoint", write_config(tmp_path, upsample_rates=None))
    (tmp_path / f"{NAME}_config.json").write_text("{}")
    refused("KeyError 'sampling_rate'", tmp_path)


@pytest.mark.parametrize("key", ["multispkr", "f0", "num_style_tokens"])
def test_a_vocoder_that_wants_more_than_units_is_refused(
    folder: Path, tmp_path: Path, key: str
) -> None:
    (tmp_path / f"{NAME}.pt").write_bytes((folder / f"{NAME}.pt").read_bytes())
    refused(f"its config asks {key}", write_config(tmp_path, **{key: 4}))


def test_without_a_predictor_durations_must_be_given(folder: Path, tmp_path: Path) -> None:
    saved = torch.load(folder / f"{NAME}.pt", weights_only=True)["generator"]
    kept = {name: value for name, value in saved.items() if "dur_predictor" not in name}
    torch.save({"generator": kept}, tmp_path / f"{NAME}.pt")
    vocoder = load_vocoder(write_config(tmp_path, dur_predictor_params=None))
    assert len(vocoder(units_of(2), np.array([1, 1])))
    with pytest.raises(UnitcorpusError, match="predicts no durations"):
        vocoder(units_of(2))


class Harmful:
    """A pickle that writes a file when it is loaded freely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    write_config(tmp_path)
    torch.save({"generator": Harmful(tmp_path / "run")}, tmp_path / f"{NAME}.pt")
    refused("cannot read the vocoder", tmp_path)
    (tmp_path / f"{NAME}.pt").write_bytes(pickle.dumps(Harmful(tmp_path / "run")))
    refused("cannot read the vocoder", tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_cut_off_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    data = (folder / f"{NAME}.pt").read_bytes()
    (tmp_path / f"{NAME}.pt").write_bytes(data[: len(data) // 2])
    refused("cannot read the vocoder", write_config(tmp_path))
