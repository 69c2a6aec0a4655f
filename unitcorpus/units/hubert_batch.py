"""Padded batches of a transformers HuBERT that give each waveform what it gives alone.

Invariant: a waveform's hidden states do not depend, but for rounding, on what it is batched with.
Padding alone breaks that, in the three parts that look beyond a frame's own stretch of waveform.
Each is given a mask here, on transformers' own modules and for the time of one batch:

- the group norm after the first convolution takes its mean and variance over time;
- the positional convolution expects zeros after the last frame, and finds what the padding has
  become, in a model with `conv_pos_batch_norm` even where it was zeroed before;
- attention reads every frame.

The front end's convolutions are safe: they add no padding, so that a frame which lies within a
waveform sees nothing after its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from unitcorpus.units.base import count_frames

if TYPE_CHECKING:
    import torch

Mask = Callable[[Any, Sequence[int]], AbstractContextManager[None]]
"""Masks one part of a HubertModel for a batch of waveforms of these lengths in samples."""


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `lengths` in batches, longest first. A batch's size times its longest is at most
    `budget`; what is longer than the budget is alone."""
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


def forward_batch(
    model: Any, waves: Sequence[torch.Tensor], masks: Sequence[Mask] | None = None
) -> list[torch.Tensor]:
    """The last hidden states [frames, width] of waveforms [samples] of at least one frame each, by
    a HubertModel in evaluation mode, in its dtype and on its device, without gradients.

    `masks` are `MASKS` if not given. A waveform alone goes through plain transformers.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    lengths = [len(wave) for wave in waves]
    with torch.inference_mode(), ExitStack() as stack:
        if len(waves) > 1:
            for mask in MASKS if masks is None else masks:
                stack.enter_context(mask(model, lengths))
        states = model(pad_sequence(list(waves), batch_first=True)).last_hidden_state
    frames = _count_frames(model, lengths)
    return [row[:count] for row, count in zip(states, frames, strict=True)]


def one_at_a_time(device: torch.device) -> bool:
    """Whether batches gain nothing: on a CPU they only pay for their padding."""
    return device.type == "cpu"


@contextmanager
def masked_group_norm(model: Any, lengths: Sequence[int]) -> Iterator[None]:
    """The group norm, where the model has it, of each waveform's own frames."""
    import torch

    norm = getattr(model.feature_extractor.conv_layers[0], "layer_norm", None)
    if not isinstance(norm, torch.nn.GroupNorm):
        yield
        return
    whole, frames = norm.forward, _count_frames(model, lengths, convolutions=1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        for i, count in enumerate(frames):
            x[i, :, :count] = whole(x[i : i + 1, :, :count])[0]
        return x

    with _replaced(norm, forward):
        yield


@contextmanager
def masked_positions(model: Any, lengths: Sequence[int]) -> Iterator[None]:
    """Zeros after each waveform's frames in what the positional convolution itself takes in."""
    padding = ~_real(model, lengths)[:, None]

    def zero(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].masked_fill(padding, 0),)

    with model.encoder.pos_conv_embed.conv.register_forward_pre_hook(zero):
        yield


@contextmanager
def masked_attention(model: Any, lengths: Sequence[int]) -> Iterator[None]:
    """Attention to each waveform's own frames, in every layer.

    The boolean mask is [batch, 1, 1, frames] and left to broadcast: SDPA makes floats of a mask in
    the shape that it has, and [frames, frames] would be megabytes in every layer. A row of padding
    attends to the real frames like any other, so none is left without a frame to attend to, which
    would be NaN.
    """
    keys = _real(model, lengths)[:, None, None]

    def mask(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return inputs, {**named, "attention_mask": keys}

    with ExitStack() as hooks:
        for layer in model.encoder.layers:
            hook = layer.attention.register_forward_pre_hook(mask, with_kwargs=True)
            hooks.enter_context(hook)
        yield


MASKS: tuple[Mask, ...] = (masked_group_norm, masked_positions, masked_attention)


@contextmanager
def _replaced(module: torch.nn.Module, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        del vars(module)["forward"]


def _count_frames(model: Any, lengths: Sequence[int], convolutions: int | None = None) -> list[int]:
    """Frames after so many of the front end's convolutions, or after all of them."""
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    chosen = list(zip(kernels, strides, strict=True))[:convolutions]
    return [count_frames(n, {"padding": 0, "convolutions": chosen}) for n in lengths]


def _real(model: Any, lengths: Sequence[int]) -> torch.Tensor:
    """True where a frame lies within its waveform: bool [batch, most frames]."""
    import torch

    frames = torch.tensor(_count_frames(model, lengths), device=model.device)
    return torch.arange(int(frames.max()), device=model.device) < frames[:, None]
