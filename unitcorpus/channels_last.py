"""Convolutions over time on a CPU, with channels last: 1.1 to 1.5 times as fast as torch has them.

oneDNN is at its best with that layout, but conv1d copies it away; conv2d over a dimension of one
keeps it, so that what one convolution passes on is what the next one wants. Results differ from
conv1d's in the last bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def arrange(module: torch.nn.Conv1d) -> None:
    """Stores the weights of a convolution [out, in, kernel] that way, for `convolve`."""
    module.weight.data = module.weight.data.mT.contiguous().mT


def is_arranged(module: torch.nn.Module) -> bool:
    import torch

    return isinstance(module, torch.nn.Conv1d) and module.weight.stride(1) == 1


def convolve(module: torch.nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """The forward of an arranged module, for `x` [items, channels, steps] of any layout."""
    from torch.nn.functional import conv2d

    assert not isinstance(module.padding, str)
    return conv2d(
        x[:, :, None],
        module.weight[:, :, None],
        module.bias,
        (1, *module.stride),
        (0, *module.padding),
        (1, *module.dilation),
        module.groups,
    )[:, :, 0]
