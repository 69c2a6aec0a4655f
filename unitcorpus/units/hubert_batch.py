"""Padded batches of a transformers HuBERT that give each waveform what it gives alone.

Invariant: a waveform's hidden states do not depend, but for rounding, on what it is batched with.
Padding alone breaks that. The convolutions of the front end are safe, since they add no padding: a
frame that lies within a waveform sees nothing after its end. Three parts see more, and each is
given a mask here, on transformers' own modules and for the time of one batch:

- the group norm after the first convolution takes its mean and variance over time;
- the positional convolution expects zeros after the last frame, and finds what the padding has
  become, in a model with `conv_pos_batch_norm` even where it was zeroed before;
- attention reads every frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from unitcorpus.units.base import count_frames

if TYPE_CHECKING:
    import torch


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `lengths` in batches, longest first. A batch's length times its longest is at
    most `budget`; what is longer than the budget is alone."""
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


def forward_batch(model: Any, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The last hidden states [frames, width] of waveforms [samples] of at least one frame each, by
    a HubertModel in evaluation mode, in its dtype and on its device.

    Waveforms of one length, or one alone, are plain transformers: no mask is set.
    """
    from torch.nn.utils.rnn import pad_sequence

    lengths = [len(wave) for wave in waves]
    frames = _frames(model, lengths)
    with ExitStack() as masks:
        if min(lengths) < max(lengths):
            real = _real(frames, model.device)
            masks.enter_context(masked_group_norm(model, _frames(model, lengths, layers=1)))
            masks.enter_context(masked_positions(model, real))
            masks.enter_context(masked_attention(model, real))
        states = model(pad_sequence(list(waves), batch_first=True)).last_hidden_state
    return [row[:count] for row, count in zip(states, frames, strict=True)]


@contextmanager
def masked_group_norm(model: Any, frames: Sequence[int]) -> Iterator[None]:
    """The group norm, where the model has it, of each waveform's `frames` frames by themselves."""
    import torch

    norm = getattr(model.feature_extractor.conv_layers[0], "layer_norm", None)
    if not isinstance(norm, torch.nn.GroupNorm):
        yield
        return
    whole = norm.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        for item, count in enumerate(frames):
            x[item, :, :count] = whole(x[item : item + 1, :, :count])[0]
        return x

    vars(norm)["forward"] = forward
    try:
        yield
    finally:
        del vars(norm)["forward"]


@contextmanager
def masked_positions(model: Any, real: torch.Tensor) -> Iterator[None]:
    """Zeros after each waveform's frames in what the positional convolution itself takes in."""
    padding = ~real[:, None]

    def zero(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].masked_fill(padding, 0),)

    with model.encoder.pos_conv_embed.conv.register_forward_pre_hook(zero):
        yield


@contextmanager
def masked_attention(model: Any, real: torch.Tensor) -> Iterator[None]:
    """Attention to each waveform's own frames, in every layer.

    The boolean mask is [batch, 1, 1, frames] and left to broadcast: SDPA makes floats of a mask in
    the shape that it has, and [frames, frames] would be megabytes in every layer. A row of padding
    attends to the real frames like any other, so none is left without a frame to attend to, which
    would be NaN.
    """
    keys = real[:, None, None]

    def mask(module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return inputs, {**named, "attention_mask": keys}

    with ExitStack() as hooks:
        for layer in model.encoder.layers:
            hook = layer.attention.register_forward_pre_hook(mask, with_kwargs=True)
            hooks.enter_context(hook)
        yield


def _frames(model: Any, lengths: Sequence[int], layers: int | None = None) -> list[int]:
    """Frames after the first `layers` convolutions, or after all of them."""
    config = model.config
    convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))[:layers]
    geometry = {"padding": 0, "convolutions": convolutions}
    return [count_frames(length, geometry) for length in lengths]


def _real(frames: Sequence[int], device: torch.device) -> torch.Tensor:
    """True where a frame lies within its waveform: bool [batch, most frames]."""
    import torch

    counts = torch.tensor(list(frames), device=device)
    return torch.arange(max(frames), device=device) < counts[:, None]
