"""The GPU kernels against scaled dot product attention of one document after the other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "slam_model"))
from slam_model.model import load_model, pack_nll
from slam_model.packing import Pack, flat_pack
from tiny import FAMILIES, random_units

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

Kind = Literal["sdpa", "flex", "varlen"]


def a_pack() -> Pack:
    rng = np.random.default_rng(0)
    units = [random_units(rng, n) + 2 for n in (3, 200, 1, 90, 140, 5)]
    return flat_pack([np.array([1, *one, 1], np.uint16) for one in units]).to("cuda")


def loss_and_gradients(
    family: str, attention: Kind, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(−log p [T], all gradients in one vector), at the head size of the real models."""
    wide = {"hidden_size": 256, "num_attention_heads": 4}
    model = load_model(
        {**FAMILIES[family], **wide},
        vocab=52,
        context=256,
        dtype=dtype,
        attention=attention,
        device="cuda",
    )
    nll = pack_nll(model, a_pack())
    torch.autograd.backward(nll.sum())
    gradients = [parameter.grad.float().flatten() for parameter in model.parameters()]
    return nll.detach(), torch.cat(gradients)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("attention", "dtype", "tolerance"),
    [
        ("flex", torch.float32, 1e-3),
        ("flex", torch.bfloat16, 5e-2),
        ("varlen", torch.bfloat16, 5e-2),
        ("varlen", torch.float32, 1e-6),
    ],
)
def test_a_kernel_gives_the_loss_and_gradients_of_single_documents(
    family: str, attention: Kind, dtype: torch.dtype, tolerance: float
) -> None:
    nll, gradients = loss_and_gradients(family, attention, dtype)
    expected, theirs = loss_and_gradients(family, "sdpa", dtype)
    assert (nll - expected).abs().max() < tolerance * 4
    assert (gradients - theirs).norm() < tolerance * theirs.norm() * 4


@pytest.mark.parametrize("attention", ["flex", "varlen"])
def test_autocast_keeps_float32_weights(attention: Kind) -> None:
    model = load_model(FAMILIES["qwen2"], vocab=52, context=256, attention=attention, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        nll = pack_nll(model, a_pack())
    torch.autograd.backward(nll.sum())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
