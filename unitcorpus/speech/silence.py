"""Whether a waveform holds any speech, judged by its sound: the text alone does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitcorpus.errors import Reject

if TYPE_CHECKING:
    import torch

# -60 dB of full scale. espeak-ng's silence is exact zeros, and the quietest letter of its quietest
# voices peaks at 0.077; a neural engine's silence has a noise floor, hence not zero.
QUIETEST = 1e-3


def silence(wave: torch.Tensor) -> Reject | None:
    """Why `wave` (floating point, [samples], full scale 1) is no speech, or None where it is."""
    if wave.numel() == 0:
        return Reject("silence", "no samples")
    low, high = (float(value) for value in wave.aminmax())
    peak = max(abs(low), abs(high))
    if peak < QUIETEST:
        return Reject("silence", f"peak {peak:.2g} of full scale, below {QUIETEST:g}")
    return None
