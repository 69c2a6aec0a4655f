"""The optimizers: which parameters decay, that each learns, and AdaLomo against the fused one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_optimizer import AdaLOMO
from torch import nn

from slam_model.optim import make_optimizer, set_learning_rate
from slam_model.recipe import Optim

NAMES = ["adamw", "ademamix", "adalomo"]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 6, generator=generator)
    return x, x.sum(1, keepdim=True).sin()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x, y = problem()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def optim(name: str, lr: float, decay: float = 0.0) -> Optim:
    return Optim.model_validate({"name": name, "lr": lr, "weight_decay": decay})


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_learns(name: str) -> None:
    model = network()
    losses = train(model, make_optimizer(optim(name, 0.01), model), 60)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_acts_on_matrices_alone(name: str) -> None:
    model = network()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(optim(name, 0.1, decay=0.5), model).step()
    for parameter in model.parameters():
        expected = 0.95 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected))


def test_adalomo_equals_the_fused_optimizer_of_one_batch() -> None:
    ours, theirs = network(), network()
    optimizer = make_optimizer(optim("adalomo", 0.01), ours)
    fused = AdaLOMO(theirs, lr=0.01, loss_scale=0.0)
    x, y = problem()
    for _ in range(5):
        optimizer.zero_grad()
        (ours(x) - y).square().mean().backward()
        optimizer.step()
        fused.fused_backward((theirs(x) - y).square().mean(), lr=0.01)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on_with_the_same_losses(name: str, tmp_path: Path) -> None:
    model = network()
    optimizer = make_optimizer(optim(name, 0.01), model)
    train(model, optimizer, 3)
    torch.save(optimizer.state_dict(), tmp_path / "o.pt")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    expected = train(model, optimizer, 4)

    again = network(seed=5)
    again.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    resumed = make_optimizer(optim(name, 0.01), again)
    resumed.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    assert train(again, resumed, 4) == expected


def test_the_learning_rate_is_that_of_every_group() -> None:
    optimizer = make_optimizer(optim("adamw", 1.0), network())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
