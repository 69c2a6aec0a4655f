"""What a speech engine is: texts in, waveforms out, each a function of its request alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from unitcorpus.errors import Reject

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text to speak. `seed` drives whatever noise the engine draws for it."""

    id: str
    text: str
    voice: str
    seed: int


class SpeechEngine(Protocol):
    """A text-to-speech engine, loaded once per worker.

    `batch_seconds`, the audio that goes through a model at a time, padding included, may be set
    between calls; 0, as it is at first, is one piece at a time.

    `synthesize` returns one entry per utterance, in order: a float32 mono waveform [samples] in
    [-1, 1] at `sample_rate`, or why there is none. An entry depends on its utterance alone, not on
    what was spoken before it or beside it. It raises only when the engine itself is broken.

    `ahead` may begin, in a thread, what a CPU has to do for utterances that will be asked for next.
    """

    sample_rate: int
    batch_seconds: float

    def ahead(self, utterances: Sequence[Utterance]) -> None: ...

    def synthesize(self, utterances: Sequence[Utterance]) -> list[torch.Tensor | Reject]: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """The class of an engine, as `ENGINES` in this package lists them."""

    def __call__(self, section: Any, resolved: dict[str, Any], device: str) -> SpeechEngine: ...

    def resolve(self, section: Any) -> dict[str, Any]:
        """What a plan records of the engine: revisions and choices made on this machine, without
        loading weights. Checks the voices. Raises UnitcorpusError."""
        ...
