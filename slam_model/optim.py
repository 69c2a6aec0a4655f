"""Optimizers: AdamW, and the two that the paper compares with it, AdEMAMix and AdaLomo.

AdaLomo (arXiv 2310.10195) is the update of Adafactor with a factored second moment, each matrix's
step scaled by the root mean square of its weights, fused into the backward pass. Fused, it cannot
accumulate or clip gradients, so the update is taken from transformers' Adafactor: equal for one
micro-batch (a test compares them), and it works with many.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_optimizer import AdEMAMix
from torch import nn
from transformers.optimization import Adafactor

from slam_model.recipe import Optim


def make_optimizer(recipe: Optim, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters of `model` that are trained.

    The learning rate of its groups is set before every step, by the schedule.
    """
    groups = _groups(model, recipe.weight_decay)
    optimizer: torch.optim.Optimizer
    if recipe.name == "adamw":
        fused = groups[0]["params"][0].is_cuda
        optimizer = torch.optim.AdamW(groups, recipe.lr, recipe.betas, recipe.eps, fused=fused)
    elif recipe.name == "ademamix":
        optimizer = AdEMAMix(
            groups,
            lr=recipe.lr,
            betas=(*recipe.betas, recipe.slow_beta),
            eps=recipe.eps,
            alpha=recipe.alpha,
            weight_decouple=True,
        )
    else:
        optimizer = Adafactor(
            groups, lr=recipe.lr, scale_parameter=True, relative_step=False, warmup_init=False
        )
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay, and vectors (norms, biases), which do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
