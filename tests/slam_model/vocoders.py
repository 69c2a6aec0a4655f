"""A unit vocoder with random weights in the layout of the published one: its every name, its every
path, with fewer channels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAME = "hifigan_lj_mhubert_base_25hz"

CONFIG: dict[str, Any] = {
    "resblock": "1",
    "upsample_rates": [5, 4, 4, 4, 2],
    "upsample_kernel_sizes": [11, 8, 8, 8, 4],
    "upsample_initial_channel": 64,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_embeddings": 60,
    "embedding_dim": 16,
    "model_in_dim": 16,
    "code_hop_size": 640,
    "f0": False,
    "dur_prediction_weight": 1.0,
    "dur_predictor_params": {
        "encoder_embed_dim": 16,
        "var_pred_hidden_dim": 24,
        "var_pred_kernel_size": 3,
        "var_pred_dropout": 0.5,
    },
    "sampling_rate": 16000,
}


def make_vocoder(folder: Path, seed: int = 0, units: int = 60) -> Path:
    """NAME.pt ({"generator": weights}, weight-normalised) and NAME_config.json in `folder`."""
    config = {**CONFIG, "num_embeddings": units}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.save({"generator": _weights(config)}, folder / f"{NAME}.pt")
    (folder / f"{NAME}_config.json").write_text(json.dumps(config))
    return folder


def _weights(config: dict[str, Any]) -> dict[str, Tensor]:
    first, width = config["upsample_initial_channel"], config["model_in_dim"]
    durations = config["dur_predictor_params"]
    hidden, kernel = durations["var_pred_hidden_dim"], durations["var_pred_kernel_size"]
    state = {"dict.weight": torch.randn(config["num_embeddings"], config["embedding_dim"])}
    for n, inner in (("1", width), ("2", hidden)):
        state |= {
            f"dur_predictor.conv{n}.0.weight": torch.randn(hidden, inner, kernel) / 4,
            f"dur_predictor.conv{n}.0.bias": torch.randn(hidden) / 4,
            f"dur_predictor.ln{n}.weight": 1 + torch.randn(hidden) / 4,
            f"dur_predictor.ln{n}.bias": torch.randn(hidden) / 4,
        }
    state["dur_predictor.proj.weight"] = torch.randn(1, hidden) / 8
    state["dur_predictor.proj.bias"] = torch.tensor([1.0])
    state |= _normalised("conv_pre", (first, width, 7), first)
    blocks = 0
    for i, size in enumerate(config["upsample_kernel_sizes"]):
        inner, outer = first >> i, first >> (i + 1)
        state |= _normalised(f"ups.{i}", (inner, outer, size), outer, gain=1.5)
        shapes = zip(
            config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True
        )
        for width_, dilations in shapes:
            for k in range(len(dilations)):
                for convolutions in ("convs1", "convs2"):
                    name = f"resblocks.{blocks}.{convolutions}.{k}"
                    state |= _normalised(name, (outer, outer, width_), outer)
            blocks += 1
    return state | _normalised("conv_post", (1, outer, 7), 1)


def _normalised(
    name: str, shape: tuple[int, ...], outputs: int, gain: float = 1.0
) -> dict[str, Tensor]:
    """The three tensors of a weight-normalised convolution that keeps the scale of its input."""
    v = torch.randn(shape)
    g = gain * (0.5 + torch.rand(shape[0], 1, 1))
    if len(shape) == 3 and name.startswith("ups"):
        g = g * math.sqrt(outputs / shape[0] / 2)
    return {f"{name}.bias": torch.randn(outputs) / 10, f"{name}.weight_g": g, f"{name}.weight_v": v}
