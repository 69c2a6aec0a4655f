"""Measures of one utterance: of its units, and of how it sounds.

    entropy(sample.units)                          # bits
    sound = listen(wave, 16_000)                   # counts, so that parts add up
    sound.silence, sound.clipping                  # shares, 0..1

Each is a function of the utterance alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

WINDOW = 0.02
"""Seconds of a window that is silent or not."""

QUIET = 0.01
"""-40 dB: a window is silent whose root mean square is below this share of the loudest one's. What
a recording calls silence is its noise floor, so the level is that of the utterance itself."""

FULL_SCALE = 0.99
"""A sample this large, or larger, is at full scale. A clipped waveform that was resampled ripples
around 1."""


def entropy(units: NDArray[np.uint16]) -> float:
    """Entropy in bits of how often each unit occurs in a sequence [n]; log2(n) where none occurs
    twice, 0 for one unit."""
    counts = np.bincount(units)
    share = counts[counts > 0] / max(len(units), 1)
    return float(abs(np.sum(share * np.log2(share))))  # abs: one unit gives -0


@dataclass(frozen=True, slots=True)
class Sound:
    """What was heard of an utterance. `quiet` of its `windows` are silent, `clipped` of its
    `samples` at full scale; a transcript has `errors` to the `words` of the text (both 0 where
    nobody asked). `transcript` is as its model wrote it."""

    quiet: int = 0
    windows: int = 0
    clipped: int = 0
    samples: int = 0
    errors: int = 0
    words: int = 0
    transcript: str = ""

    def __add__(self, other: Sound) -> Sound:
        """The two one after the other."""
        names = [field.name for field in fields(Sound) if field.name != "transcript"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        both = " ".join(filter(None, (self.transcript, other.transcript)))
        return Sound(**sums, transcript=both)

    @property
    def silence(self) -> float:
        """The share of silent windows."""
        return self.quiet / max(self.windows, 1)

    @property
    def clipping(self) -> float:
        """The share of samples at full scale."""
        return self.clipped / max(self.samples, 1)

    @property
    def word_errors(self) -> float:
        """Substitutions, deletions and insertions over the words of the text: the word error rate,
        above 1 where more was heard than said. Without words, the number heard."""
        return self.errors / max(self.words, 1)


def listen(wave: torch.Tensor, rate: int) -> Sound:
    """Counts of a waveform, float32 [samples], full scale 1, at `rate` Hz. What is left over behind
    the last whole window is in none, unless there is no other."""
    if not len(wave):
        return Sound()
    size = min(round(WINDOW * rate), len(wave))
    windows = wave[: len(wave) // size * size].view(-1, size)
    power = windows.double().square().mean(1)
    quiet = int((power <= QUIET**2 * power.max()).sum())
    return Sound(quiet, len(windows), int((wave.abs() >= FULL_SCALE).sum()), len(wave))
