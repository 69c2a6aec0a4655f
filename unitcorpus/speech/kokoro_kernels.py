"""What runs between the convolutions of Kokoro's decoder: AdaIN and the snake activation.

Passes over memory are what the generator spends its time on, outside of convolutions, so there are
as few as can be: in place, one pass for what the package does in several, or compiled into one by
torch.compile. With `half` the generator's convolutions are of that precision, while source, inverse
STFT and the convolution that makes its spectrum stay in float32; pitch and durations do not change.

Invariant: an item's result does not depend on the other items, whatever the kernels; how close it
is to that of the package does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def adain(
    x: torch.Tensor,
    real: torch.Tensor | None,
    style: tuple[torch.Tensor, torch.Tensor],
    affine: tuple[torch.Tensor, torch.Tensor],
    eps: float,
    shift_padding: bool = False,
) -> torch.Tensor:
    """AdaIN of `x` [items, channels, steps] over the steps where `real` [items, 1, steps] is 1, all
    without it; 0 after them, unless `shift_padding`.

    `style` is gamma and beta [items, channels, 1], `affine` the norm's own scale and shift
    [channels, 1]. One pass scales and shifts for both.
    """
    import torch

    wide = x.float() if x.dtype.itemsize < 4 else x
    if real is None:
        mean = wide.mean(-1, keepdim=True)
        count: torch.Tensor | int = x.shape[-1]
        out = wide - mean
    else:
        real = real.to(wide.dtype)
        count = real.sum(-1, keepdim=True)
        out = (wide - wide @ real.mT / count).mul_(real)
    if out.stride(-1) == 1:
        squares = torch.linalg.vector_norm(out, dim=-1, keepdim=True).square()
    else:  # channels last, where the norm takes twelve times as long
        squares = out.square().sum(-1, keepdim=True)
    variance = squares / count
    gamma, beta = style
    scale = (1 + gamma) * affine[0] * torch.rsqrt(variance + eps)
    shift = (1 + gamma) * affine[1] + beta
    torch.addcmul(shift, out, scale, out=out)
    if real is not None and not shift_padding:
        out.mul_(real)
    return out.to(x.dtype)


def snake(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """x + sin(alpha x)^2 / alpha, in place."""
    alpha = alpha.to(x.dtype)
    return x.addcmul_((alpha * x).sin_().square_(), 1 / alpha)


@dataclass(frozen=True)
class Kernels:
    """The functions above, or others for them, and the precision of the generator."""

    adain: Callable[..., torch.Tensor] = adain
    snake: Callable[..., torch.Tensor] = snake
    half: Any = None


PLAIN = Kernels()


@cache
def kernels(half: torch.dtype | None, compile: bool) -> Kernels:
    """Kernels for these options."""
    import torch

    if not compile:
        return Kernels(half=half)
    # Beyond eight variants of a function (dtype, layout, one item or several, padded or not) torch
    # would go back to running it as it is.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return Kernels(torch.compile(adain, dynamic=True), torch.compile(snake, dynamic=True), half)


def full_precision(like: torch.Tensor) -> torch.autocast:
    """A context without autocast."""
    import torch

    return torch.autocast(like.device.type, enabled=False)
