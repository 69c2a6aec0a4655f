"""Codebooks of one's own: fitted on the features of a recipe's speech, or imported.

The utterances are taken in the corpus's order, which is a hash of (seed, id), until there are
enough frames: the same recipe gives the same codebook. Features go to a file as they are made, so
that their number is bounded by the disk, not by memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.build.recordings import Recordings
from unitcorpus.build.rows import Candidate, prepare
from unitcorpus.build.segments import Segmenter
from unitcorpus.build.spool import Spool
from unitcorpus.build.stages import Item, items_of, set_numerics
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.seeds import pick
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.shards.layout import LAYOUTS
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow
from unitcorpus.speech import ENGINES
from unitcorpus.speech.base import Utterance
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import Codebook, read_codebook, save_codebook
from unitcorpus.units.fitting import Fitting, fit_features
from unitcorpus.units.kmeans import Init
from unitcorpus.units.plot import plot_usage
from unitcorpus.units.resample import resample


@dataclass(frozen=True)
class Fit:
    """How to fit: `frames` at most, `memory` bytes of features at once."""

    clusters: int
    frames: int = 1_000_000
    init: Init = "random"
    redos: int = 3
    memory: int = 4 << 30


@dataclass(frozen=True)
class Fitted:
    """A codebook that was fitted and written, what it was fitted on, and the picture of its
    usage."""

    sha256: str
    frames: int
    utterances: int
    fitting: Fitting
    plot: Path


def fit_codebook(recipe: Recipe, how: Fit, device: str, out: Path) -> Fitted:
    """Extracts features of the recipe's speech or recordings, fits, and writes `out`.

    Raises UnitcorpusError where the recipe makes no features or gives too few of them.
    """
    _check_name(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unitcorpus-fit-", dir=out.parent) as folder:
        path = Path(folder) / "features"
        width, utterances = write_features(recipe, how.frames, device, path)
        features = np.memmap(path, np.float32, "r").reshape(-1, width)[: how.frames]
        fitting = fit_features(
            features,
            how.clusters,
            recipe.seed,
            init=how.init,
            redos=how.redos,
            threads=recipe.compute.threads,
            memory=how.memory,
        )
    book = save_codebook(out, fitting.centroids)
    plot = out.with_suffix(".png")
    said = f"perplexity {fitting.perplexity:.1f} of {how.clusters}, {fitting.dead} dead"
    plot_usage(plot, fitting.usage, f"{out.name}: {said}")
    return Fitted(book.sha256, len(features), utterances, fitting, plot)


def import_codebook(where: str, sha256: str | None, out: Path) -> Codebook:
    """Reads a codebook of any form from a file or URL and writes it to `out`, as `kmeans fit` does.

    Raises UnitcorpusError where it is none, or its sha256 another.
    """
    _check_name(out)
    return save_codebook(out, read_codebook(where, sha256, "--sha256").centroids)


def _check_name(out: Path) -> None:
    if out.is_dir() or out.suffix != ".npy":
        raise UnitcorpusError(f"{out} is no name of a codebook: give one of a .npy file with --out")


def write_features(recipe: Recipe, frames: int, device: str, path: Path) -> tuple[int, int]:
    """Writes float32 [n, width], n at least `frames` where there are so many; returns (width,
    utterances they came from)."""
    if recipe.source.gives == "units":
        raise UnitcorpusError(f"recipe {recipe.name} has units already: there is nothing to fit on")
    set_numerics(recipe.compute.threads)
    extractor_class = EXTRACTORS[recipe.units.extractor]
    extractor = extractor_class(recipe.units, extractor_class.resolve(recipe.units), device)
    count = utterances = 0
    voice = _open_voice(recipe, extractor.sample_rate, device)
    with path.open("wb") as file, closing(voice):
        rows = (row for whole in _rows(recipe) for row in voice.cut(whole))
        for item in (item for row in rows for item in items_of(row, recipe.seed)):
            wave = voice.hear(item)
            if isinstance(wave, Reject) or not bool(wave.isfinite().all()):
                continue
            found: NDArray[np.float32] = extractor.features([wave])[0].cpu().numpy()
            file.write(found.tobytes())
            count += len(found)
            utterances += 1
            if count >= frames:
                break
    if not count:
        raise UnitcorpusError("no row of the source gave any speech: there is nothing to fit on")
    return extractor.width, utterances


class _Recorded:
    """Utterances that the source has recorded."""

    def __init__(self, recipe: Recipe, rate: int) -> None:
        self._recordings = Recordings(recipe.source, rate)
        segments = getattr(recipe.source, "segments", None)
        self._segmenter = Segmenter(segments, self._recordings) if segments else None

    def cut(self, row: Input) -> list[Input]:
        """The segments of a long recording, or the row itself."""
        if self._segmenter is None:
            return [row]
        found = self._segmenter(row)
        return [] if isinstance(found, Reject) else found

    def hear(self, item: Item) -> Any:
        """The waveform at the extractor's rate, or a Reject."""
        return self._recordings.read([item.part])[0]

    def close(self) -> None:
        """There is nothing to stop."""


class _Spoken:
    """Utterances that a speech engine speaks."""

    def __init__(self, recipe: Recipe, rate: int, device: str) -> None:
        assert recipe.speech is not None
        kind = ENGINES[recipe.speech.engine]
        self._engine = kind(recipe.speech, kind.resolve(recipe.speech), device)
        self._rate = rate

    def cut(self, row: Input) -> list[Input]:
        """The row: texts are not cut."""
        return [row]

    def hear(self, item: Item) -> Any:
        """The waveform at the extractor's rate, or a Reject."""
        said = Utterance(item.id, item.part.text, item.voice, item.seed)
        wave = self._engine.synthesize([said])[0]
        if isinstance(wave, Reject):
            return wave
        return resample(wave, self._engine.sample_rate, self._rate)

    def close(self) -> None:
        self._engine.close()


def _open_voice(recipe: Recipe, rate: int, device: str) -> _Recorded | _Spoken:
    return _Recorded(recipe, rate) if recipe.speech is None else _Spoken(recipe, rate, device)


def _rows(recipe: Recipe) -> Iterator[Input]:
    """The usable rows in the corpus's order."""
    layout = LAYOUTS[recipe.layout]
    with TemporaryDirectory(prefix="unitcorpus-fit-") as folder:
        spool = Spool(Path(folder) / "rows", recipe.seed)
        for row in open_source(recipe.source, recipe.seed).rows():
            candidate = None if isinstance(row, BadRow) else prepare(row, recipe, True)
            if isinstance(candidate, Candidate):
                spool.add(candidate)
        spool.freeze()
        for number in np.argsort(spool.order, kind="stable").tolist():
            name, payload = spool.read(number)
            fields = json.loads(payload)
            parts = {
                part: PlannedPart(
                    text=fields[layout.field(part, "text")],
                    audio=fields.get(layout.field(part, "audio"), ""),
                    audio_bytes=fields.get(layout.field(part, "audio_bytes"), 0),
                    start=fields.get(layout.field(part, "start")),
                    end=fields.get(layout.field(part, "end")),
                    offset=fields.get(layout.field(part, "offset")),
                )
                for part in layout.parts
            }
            voice = fields.get("voice", "")
            if recipe.speech is not None:
                voice = pick(recipe.seed, recipe.speech.voices, "voice", name)
            yield Input("", name, parts, voice)
