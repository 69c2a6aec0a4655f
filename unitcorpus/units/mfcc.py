"""MFCC features: no weights, no downloads; what the offline recipes use.

An utterance's features depend on its waveform alone. Static coefficients, deltas and delta-deltas,
each dimension normalised to mean 0 and variance 1 over the utterance, so that the level and the
colour of a voice weigh less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import MfccUnits
from unitcorpus.units.base import count_frames

if TYPE_CHECKING:
    import torch

# Coefficients are tens, and equal frames differ by rounding (1e-5) at most. Dividing by no less
# than this keeps a dimension that does not vary near 0, where a plain division blows it up.
SMALLEST_DEVIATION = 1e-3


class MfccExtractor:
    """MFCC by torchaudio, with first and second differences.

    `features` gives float32 [frames, 3 * coefficients] on the extractor's device, in the order
    static, deltas, delta-deltas; frames = (samples - window) // hop + 1, nothing is padded.
    """

    batch_seconds: float = 0  # it takes one waveform at a time whatever it is

    def __init__(self, section: MfccUnits, resolved: dict[str, Any], device: str) -> None:
        import torch
        from torchaudio.transforms import MFCC

        self.sample_rate = section.sample_rate
        self.width = int(resolved["width"])
        self._frames = resolved["frames"]
        self._device = torch.device(device)
        spectrum = {
            "n_fft": section.window,
            "win_length": section.window,
            "hop_length": section.hop,
            "n_mels": section.mels,
            "center": False,
        }
        self._mfcc = MFCC(
            section.sample_rate, section.coefficients, log_mels=True, melkwargs=spectrum
        ).to(self._device)

    @staticmethod
    def resolve(section: MfccUnits) -> dict[str, Any]:
        """The extractor's part of the unit spec; raises UnitcorpusError."""
        if section.coefficients > section.mels:
            raise UnitcorpusError(
                f"units.coefficients {section.coefficients} is more than units.mels "
                f"{section.mels}; there can be at most as many coefficients as mel bands"
            )
        return {
            "kind": "mfcc",
            "coefficients": section.coefficients,
            "mels": section.mels,
            "differences": 2,
            "normalised": "utterance",
            "sample_rate": section.sample_rate,
            "width": 3 * section.coefficients,
            "frame_rate": section.sample_rate / section.hop,
            "frames": {"padding": 0, "convolutions": [[section.window, section.hop]]},
        }

    def features(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float32 waveforms [samples] at `sample_rate` to float32 [frames, width] each."""
        import torch

        with torch.inference_mode():
            return [self._features(wave.to(self._device)) for wave in waves]

    def _features(self, wave: torch.Tensor) -> torch.Tensor:
        import torch
        from torchaudio.functional import compute_deltas

        if count_frames(len(wave), self._frames) == 0:
            return wave.new_empty(0, self.width)
        static = self._mfcc(wave)
        deltas = compute_deltas(static)
        every = torch.cat([static, deltas, compute_deltas(deltas)])
        deviation, mean = torch.std_mean(every, dim=1, correction=0, keepdim=True)
        return ((every - mean) / deviation.clamp_min(SMALLEST_DEVIATION)).T.contiguous()
