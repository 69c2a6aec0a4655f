"""The stages of one utterance: text to speech to features to units, or published units as they are.

Stages take lists. What comes out for an utterance depends on that utterance alone. Waveforms and
features stay on the device; what comes back from it are units, and audio where it is kept.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.plan import Plan
from unitcorpus.build.recordings import Recordings
from unitcorpus.build.segments import Segmenter
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.quality.filters import asr_of, hears
from unitcorpus.quality.measures import Sound, listen
from unitcorpus.quality.transcripts import Transcriber, word_errors
from unitcorpus.recipe.models import PublishedUnits, Recipe
from unitcorpus.seeds import seed_of
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.speech import ENGINES
from unitcorpus.speech.base import SpeechEngine, Utterance
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import Codebook, load_npy_codebook
from unitcorpus.units.kmeans import Quantiser
from unitcorpus.units.resample import resample
from unitcorpus.units.runs import collapse

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Encoded:
    """An utterance as units: uint16 [n], run lengths uint32 [n] in frames (None where unknown), and
    the audio they came from, `num_samples` at the extractor's rate (0 for published units), as FLAC
    where the recipe keeps it; `sound` is how it sounds, where a filter asks."""

    units: NDArray[np.uint16]
    durations: NDArray[np.uint32] | None
    num_samples: int = 0
    flac: bytes | None = None
    sound: Sound | None = None


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
    """Utterances to units, one entry each, in order.

    `batch_seconds` may be set between calls; `cut` gives the rows that a planned one becomes:
    itself, or the segments of a long recording; `ahead` begins what a CPU has to do for the next
    call.
    """

    clock: Clock
    batch_seconds: float

    def cut(self, row: Input) -> list[Input] | Reject: ...

    def ahead(self, items: Sequence[Item]) -> None: ...

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]: ...

    def close(self) -> None: ...


class SpokenStages:
    """Speech engine (or recordings), resampler, extractor and codebook, loaded once."""

    def __init__(
        self,
        recipe: Recipe,
        speech: dict[str, Any] | None,
        units: dict[str, Any],
        codebook: Codebook,
        device: str,
        asr: dict[str, str] | None = None,
    ) -> None:
        self.clock = Clock()
        self.engine: SpeechEngine | None = None
        if recipe.speech is not None:
            assert speech is not None
            self.engine = ENGINES[recipe.speech.engine](recipe.speech, speech, device)
        extractor = EXTRACTORS[recipe.units.extractor]
        self.extractor = extractor(recipe.units, units["extractor"], device)
        self.recordings = Recordings(recipe.source, self.extractor.sample_rate)
        segments = getattr(recipe.source, "segments", None)
        self.segmenter = Segmenter(segments, self.recordings) if segments else None
        self.quantise = Quantiser(codebook, device)
        self.ear = Ear(recipe, asr, device, self.extractor.sample_rate)
        self.keep_audio = recipe.shards.audio == "flac"
        self.batch_seconds = recipe.compute.batch_seconds

    @property
    def batch_seconds(self) -> float:
        return self.extractor.batch_seconds

    @batch_seconds.setter
    def batch_seconds(self, seconds: float) -> None:
        self.extractor.batch_seconds = seconds
        if self.engine is not None:
            self.engine.batch_seconds = seconds

    def cut(self, row: Input) -> list[Input] | Reject:
        if self.segmenter is None:
            return [row]
        with self.clock.measure("segments"):
            return self.segmenter(row)

    def ahead(self, items: Sequence[Item]) -> None:
        if self.engine is not None:
            self.engine.ahead([_utterance(item) for item in items])

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]:
        heard = self.hear(items)
        encoded = iter(self.encode([wave for wave in heard if not isinstance(wave, Reject)]))
        results = [wave if isinstance(wave, Reject) else next(encoded) for wave in heard]
        if not self.ear.listens:
            return results
        with self.clock.measure("listening"):
            return [
                replace(result, sound=self.ear(wave, item.part.text))
                if isinstance(result, Encoded) and not isinstance(wave, Reject)
                else result
                for item, wave, result in zip(items, heard, results, strict=True)
            ]

    def hear(self, items: Sequence[Item]) -> list[torch.Tensor | Reject]:
        """The waveforms [samples] at the extractor's rate."""
        if self.engine is None:
            with self.clock.measure("reading"):
                return _finite(self.recordings.read([item.part for item in items]))
        with self.clock.measure("speech"):
            spoken = self.engine.synthesize([_utterance(item) for item in items])
        with self.clock.measure("resampling"):
            rates = self.engine.sample_rate, self.extractor.sample_rate
            return [w if isinstance(w, Reject) else resample(w, *rates) for w in _finite(spoken)]

    def encode(self, waves: list[torch.Tensor]) -> list[Encoded | Reject]:
        """The units of waveforms at the extractor's rate."""
        with self.clock.measure("features"):
            features = _finite(self.extractor.features(waves))
        with self.clock.measure("units"):
            units = iter(self._units([f for f in features if not isinstance(f, Reject)]))
            return [
                frames if isinstance(frames, Reject) else self._encoded(wave, next(units))
                for wave, frames in zip(waves, features, strict=True)
            ]

    def _units(self, features: list[torch.Tensor]) -> list[NDArray[np.uint16]]:
        """The unit of each frame, for all of a chunk at once: a frame's does not depend on it."""
        import torch

        if not features:
            return []
        ends = np.cumsum([len(frames) for frames in features])
        return np.split(self.quantise(torch.cat(features)), ends[:-1])

    def _encoded(self, wave: torch.Tensor, frames: NDArray[np.uint16]) -> Encoded | Reject:
        if not len(frames):
            return Reject("too_short", f"{len(wave)} samples of audio are less than one frame")
        units, durations = collapse(frames)
        flac = flac_bytes(wave, self.extractor.sample_rate) if self.keep_audio else None
        return Encoded(units, durations, len(wave), flac)

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()


class Ear:
    """How utterances sound, as far as the filters ask; one at a time."""

    def __init__(
        self, recipe: Recipe, asr: dict[str, str] | None, device: str, sample_rate: int
    ) -> None:
        self.listens = hears(recipe.filters)
        self._rate = sample_rate
        rule = asr_of(recipe.filters)
        self._asr: Transcriber | None = None
        if rule is not None:
            assert asr is not None
            self._asr = Transcriber(rule, asr, recipe.language, device)

    def __call__(self, wave: torch.Tensor, text: str) -> Sound:
        """Of a waveform [samples] at the extractor's rate that should say `text`."""
        sound = listen(wave, self._rate)
        if self._asr is None or not text:
            return sound
        heard = self._asr(wave, self._rate)
        errors, words = word_errors(text, heard, self._asr.normalise)
        return replace(sound, errors=errors, words=words, transcript=heard)


class PublishedStages:
    """Units that are in the plan already."""

    batch_seconds: float = 0

    def __init__(self) -> None:
        self.clock = Clock()

    def cut(self, row: Input) -> list[Input] | Reject:
        return [row]

    def ahead(self, items: Sequence[Item]) -> None:
        """Nothing: they are there."""

    def __call__(self, items: Sequence[Item]) -> list[Encoded | Reject]:
        samples: list[Encoded | Reject] = []
        for item in items:
            assert item.part.units is not None
            samples.append(Encoded(item.part.units, item.part.durations))
        return samples

    def close(self) -> None:
        pass


def _utterance(item: Item) -> Utterance:
    return Utterance(item.id, item.part.text, item.voice, item.seed)


def _finite(tensors: Sequence[torch.Tensor | Reject]) -> list[torch.Tensor | Reject]:
    """The same, with a Reject for each that holds NaN or infinity, which would poison all that is
    made of it. The device is asked once."""
    import torch

    flags = [tensor.isfinite().all() for tensor in tensors if not isinstance(tensor, Reject)]
    fine = iter(torch.stack(flags).tolist() if flags else [])
    wrong = Reject("not_finite", "the waveform or its features hold NaN or infinity")
    return [t if isinstance(t, Reject) or next(fine) else wrong for t in tensors]


def flac_bytes(wave: torch.Tensor, rate: int) -> bytes:
    """A waveform [samples] in [-1, 1] as 16-bit FLAC."""
    import soundfile

    buffer = BytesIO()
    samples = np.clip(wave.cpu().numpy(), -1.0, 32767 / 32768)
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def load_stages(plan: Plan, root: Path, device: str = "cpu") -> Stages:
    """The stages of a plan, with models loaded and the threads of this process set."""
    if isinstance(plan.recipe.units, PublishedUnits):
        return PublishedStages()
    set_numerics(plan.recipe.compute.threads)
    codebook = load_npy_codebook(root / "codebook.npy")
    if codebook.sha256 != plan.units["codebook"]["sha256"]:
        raise UnitcorpusError(f"{root}/codebook.npy is not the codebook of the plan")
    return SpokenStages(plan.recipe, plan.speech, plan.units, codebook, device, plan.asr)


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
