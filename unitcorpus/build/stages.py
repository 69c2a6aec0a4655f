"""The stages of one utterance: text to speech to features to units, or published units as they are.

Stages take lists. What comes out for an utterance depends on that utterance alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.plan import Plan
from unitcorpus.build.recordings import Recordings
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import PublishedUnits
from unitcorpus.seeds import seed_of
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.speech import ENGINES
from unitcorpus.speech.base import SpeechEngine, Utterance
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import load_npy_codebook
from unitcorpus.units.kmeans import Quantiser
from unitcorpus.units.resample import resample
from unitcorpus.units.runs import collapse

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Encoded:
    """An utterance as units: uint16 [n], run lengths uint32 [n] in frames (None where unknown), and
    the audio they came from, `num_samples` at the extractor's rate (0 for published units)."""

    units: NDArray[np.uint16]
    durations: NDArray[np.uint32] | None
    num_samples: int = 0
    wave: torch.Tensor | None = None


class Clock:
    """Seconds spent by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of a shard on its way to units: a part of row `id`. `seed` drives whatever
    noise its synthesis draws."""

    id: str
    part: PlannedPart
    voice: str
    seed: int


def items_of(row: Input, seed: int) -> list[Item]:
    """The utterances of a planned row, in the layout's order."""
    plain = len(row.parts) == 1
    return [
        Item(row.id, part, row.voice, seed_of(seed, "speech", row.id, *([] if plain else [name])))
        for name, part in row.parts.items()
    ]


class Stages(Protocol):
    """Utterances to units, one entry each, in order."""

    clock: Clock

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]: ...

    def close(self) -> None: ...


class SpokenStages:
    """Speech engine (or recordings), resampler, extractor and codebook, loaded once."""

    def __init__(self, plan: Plan, root: Path, device: str) -> None:
        recipe = plan.recipe
        self.clock = Clock()
        codebook = load_npy_codebook(root / "codebook.npy")
        if codebook.sha256 != plan.units["codebook"]["sha256"]:
            raise UnitcorpusError(f"{root}/codebook.npy is not the codebook of the plan")
        self.engine: SpeechEngine | None = None
        if recipe.speech is not None:
            assert plan.speech is not None
            self.engine = ENGINES[recipe.speech.engine](recipe.speech, plan.speech, device)
        extractor = EXTRACTORS[recipe.units.extractor]
        self.extractor = extractor(recipe.units, plan.units["extractor"], device)
        self.recordings = Recordings(recipe.source.path or ".", self.extractor.sample_rate)
        self.quantise = Quantiser(codebook, device)

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]:
        heard = self._hear(items)
        waves = [wave for wave in heard if not isinstance(wave, Reject)]
        with self.clock.measure("features"):
            features = self.extractor.features(waves)
        with self.clock.measure("units"):
            encoded = iter([self._encode(w, f) for w, f in zip(waves, features, strict=True)])
        return [s if isinstance(s, Reject) else next(encoded) for s in heard]

    def _hear(self, items: Sequence[Item]) -> list[torch.Tensor | Reject]:
        """The waveforms at the extractor's rate."""
        if self.engine is None:
            with self.clock.measure("reading"):
                heard = self.recordings.read([item.part for item in items])
                return [not_finite(wave) or wave for wave in heard]
        utterances = [Utterance(i.id, i.part.text, i.voice, i.seed) for i in items]
        with self.clock.measure("speech"):
            spoken = self.engine.synthesize(utterances)
        with self.clock.measure("resampling"):
            spoken = [not_finite(wave) or wave for wave in spoken]
            rates = self.engine.sample_rate, self.extractor.sample_rate
            return [w if isinstance(w, Reject) else resample(w, *rates) for w in spoken]

    def _encode(self, wave: torch.Tensor, features: torch.Tensor) -> Encoded | Reject:
        if not len(features):
            return Reject("too_short", f"{len(wave)} samples of audio are less than one frame")
        units, durations = collapse(self.quantise(features))
        return Encoded(units, durations, len(wave), wave)

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()


class PublishedStages:
    """Units that are in the plan already."""

    def __init__(self) -> None:
        self.clock = Clock()

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]:
        samples: list[Encoded | Reject] = []
        for item in items:
            assert item.part.units is not None
            samples.append(Encoded(item.part.units, item.part.durations))
        return samples

    def close(self) -> None:
        pass


def not_finite(wave: torch.Tensor | Reject) -> Reject | None:
    """A Reject for a waveform with NaN or infinity in it, which would poison its features."""
    if isinstance(wave, Reject) or bool(wave.isfinite().all()):
        return None
    return Reject("not_finite", "the waveform holds NaN or infinity")


def load_stages(plan: Plan, root: Path, device: str = "cpu") -> Stages:
    """The stages of a plan, with models loaded and the threads of this process set."""
    if isinstance(plan.recipe.units, PublishedUnits):
        return PublishedStages()
    set_numerics(plan.recipe.compute.threads)
    return SpokenStages(plan, root, device)


def set_numerics(threads: int) -> None:
    """Fixes what the last bits of a feature depend on: CPU threads, and on a GPU full float32 and
    algorithms that are chosen without a race."""
    import faiss
    import torch

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
