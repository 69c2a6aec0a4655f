"""Resampling: a waveform at the rate of the speech engine to that of the extractor.

Which resampler was used changes units, so `RESAMPLER` is part of the unit spec, and the result is
`torchaudio.functional.resample`'s with its defaults, bit for bit. The functional computes its
kernel anew on every call; here it is kept, which is up to three times as fast on short utterances.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SETTINGS: dict[str, Any] = {
    "resampling_method": "sinc_interp_hann",
    "lowpass_filter_width": 6,
    "rolloff": 0.99,
}

RESAMPLER: dict[str, Any] = {
    "library": "torchaudio.functional.resample",
    "method": _SETTINGS["resampling_method"],
    "lowpass_filter_width": _SETTINGS["lowpass_filter_width"],
    "rolloff": _SETTINGS["rolloff"],
}
"""How waveforms are resampled, for the unit spec."""


def resample(wave: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """A float32 waveform [samples] at `from_rate` Hz as float32 [samples'] at `to_rate` Hz, on the
    same device, with samples' = ceil(samples * to_rate / from_rate)."""
    if from_rate == to_rate:
        return wave
    resampled: torch.Tensor = _resampler(from_rate, to_rate, str(wave.device))(wave)
    return resampled


@lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int, device: str) -> torch.nn.Module:
    import torch
    from torchaudio.transforms import Resample

    # float32, as the functional computes the kernel for a float32 waveform: the default of the
    # transform is float64, which gives other bits.
    transform = Resample(from_rate, to_rate, **_SETTINGS, dtype=torch.float32)
    module: torch.nn.Module = transform.to(device)
    return module
