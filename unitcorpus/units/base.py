"""What a unit extractor is: waveforms in, one feature vector per frame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from unitcorpus.shards.format import count_frames

if TYPE_CHECKING:
    import torch


class Extractor(Protocol):
    """A feature extractor, loaded once per worker.

    `batch_seconds`, the audio that goes through a model at a time, padding included, may be set
    between calls; 0, as it is at first, is one waveform at a time.

    `features` takes float32 mono waveforms [samples] at `sample_rate` and returns, in order, one
    float32 matrix [frames, width] each; frames is exactly `count_frames(samples, …)` of its
    description, and 0 frames is an empty matrix, never an error.
    """

    sample_rate: int
    width: int
    batch_seconds: float

    def features(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]: ...


class ExtractorClass(Protocol):
    """The class of an extractor, as `EXTRACTORS` in this package lists them."""

    def __call__(self, section: Any, resolved: dict[str, Any], device: str) -> Extractor: ...

    def resolve(self, section: Any) -> dict[str, Any]:
        """The extractor's part of the unit spec, without loading weights: everything that decides
        its features (kind, revision, layer, …) plus `sample_rate`, `width`, `frame_rate` (Hz) and
        `frames` = {"padding": samples a side, "convolutions": [[kernel, stride], …]}.
        Raises UnitcorpusError."""
        ...


__all__ = ["Extractor", "ExtractorClass", "count_frames"]
