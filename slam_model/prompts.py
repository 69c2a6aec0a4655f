"""What is to be continued: recordings, or the beginnings of a corpus's samples.

    prompts = corpus_prompts("corpora/sstorycloze", "test", seconds=3, limit=1000)
    prompts = wav_prompts(["a.wav", "b.wav"], "corpora/stinystories", seconds=None)

A recording is encoded as a corpus's build encoded its own: by the extractor of its unit spec and
its codebook. Of a set of right and wrong utterances the right ones are taken, of pairs the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

import unitcorpus
from slam_model.tokens import (
    BOS,
    FIRST_UNIT,
    check_units,
    read_shard,
    vocabulary,
)
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Units
from unitcorpus.shards.reader import Corpus, Sample

if TYPE_CHECKING:
    import torch

    from unitcorpus.units.base import Extractor
    from unitcorpus.units.kmeans import Quantiser

PARTS = {"utterances": "units", "pairs": "prompt", "contrasts": "right"}


@dataclass(frozen=True)
class Prompts:
    """Units of speech to continue: `units` uint16 [n] each, collapsed; `ids` are unique."""

    name: str
    unit_spec: dict[str, Any]
    ids: list[str]
    units: list[NDArray[np.uint16]]

    @property
    def vocabulary(self) -> int:
        return vocabulary(self.unit_spec)

    def tokens(self) -> list[NDArray[np.uint16]]:
        """As a model takes them: BOS, then the units, and no EOS."""
        shifted = [one + np.uint16(FIRST_UNIT) for one in self.units]
        return [np.concatenate([[BOS], one]).astype(np.uint16) for one in shifted]


def corpus_prompts(
    location: str | Path, split: str, seconds: float, limit: int | None = None
) -> Prompts:
    """The units that begin within the first `seconds` of each of the first `limit` samples.

    A shorter sample is taken whole. Raises UnitcorpusError where the corpus has no durations.
    """
    corpus = unitcorpus.open(location)
    part = PARTS[corpus.layout.kind]
    samples = (sample for shard in corpus.shards(split) for sample in read_shard(corpus, shard))
    frames = round(seconds * float(corpus.unit_spec["frame_rate"]))
    ids, units = [], []
    for sample in islice(samples, limit):
        ids.append(sample.key)
        units.append(_beginning(corpus, sample, part, frames))
    if not ids:
        raise UnitcorpusError(f"{location} has no samples in its split '{split}'")
    return Prompts(corpus.name, corpus.unit_spec, ids, units)


def _beginning(corpus: Corpus, sample: Sample, part: str, frames: int) -> NDArray[np.uint16]:
    durations = sample.part_durations(part)
    if durations is None:
        raise UnitcorpusError(
            f"{corpus.name} has no durations, so that seconds of its units cannot be told: give "
            "recordings as prompts, or another corpus"
        )
    units = sample.part(part)
    check_units(units, corpus.unit_spec, f"sample {sample.key}")
    starts = durations.cumsum(dtype=np.int64) - durations
    return units[: int(np.searchsorted(starts, frames))]


def wav_prompts(
    paths: Sequence[str | Path],
    units_of: str | Path,
    seconds: float | None,
    hubert: str | None = None,
    device: str = "cpu",
) -> Prompts:
    """Recordings (mono, in any format of libsndfile), or their first `seconds`, in the units of the
    corpus in the folder `units_of`. A prompt's id is its file's name without the suffix.

    `hubert`: the folder of the extractor, for a corpus that was built with one. Raises
    UnitcorpusError for a recording that cannot be used, and where the units cannot be made again.
    """
    from unitcorpus.units.runs import collapse

    files = [Path(path).expanduser() for path in paths]
    ids = [path.stem for path in files]
    twice = [one for one in ids if ids.count(one) > 1]
    if twice:
        raise UnitcorpusError(f"two prompts are called {twice[0]}: give them different names")
    corpus = unitcorpus.open(units_of)
    extractor, quantise = _load_units(corpus, Path(units_of), hubert, device)
    units = []
    for path in files:
        [frames] = extractor.features([_read(path, extractor.sample_rate, seconds)])
        units.append(collapse(quantise(frames) if len(frames) else np.empty(0, np.uint16))[0])
    return Prompts(corpus.name, corpus.unit_spec, ids, units)


def _load_units(
    corpus: Corpus, folder: Path, hubert: str | None, device: str
) -> tuple[Extractor, Quantiser]:
    """What made the units of a corpus, once it is found to be the same."""
    from unitcorpus.units import EXTRACTORS
    from unitcorpus.units.codebook import load_npy_codebook
    from unitcorpus.units.kmeans import Quantiser

    section = _section(corpus, hubert)
    extractor = EXTRACTORS[section.extractor]
    resolved = extractor.resolve(section)
    for name, built in corpus.unit_spec["extractor"].items():
        if resolved.get(name) != built:
            raise UnitcorpusError(
                f"the units of {corpus.name} were made with {name} {built}, here it is "
                f"{resolved.get(name)}: the prompts would be in other units"
            )
    codebook = load_npy_codebook(folder / "codebook.npy")
    if codebook.sha256 != corpus.unit_spec["codebook"]["sha256"]:
        raise UnitcorpusError(f"{folder}/codebook.npy is not the codebook of {corpus.name}")
    return extractor(section, resolved, device), Quantiser(codebook, device)


def _section(corpus: Corpus, hubert: str | None) -> Any:
    """The units section of the recipe of a corpus that was made from speech."""
    from unitcorpus.units import EXTRACTORS

    recorded = dict(corpus.info.get("recipe", {}).get("units", {}))
    if hubert is not None:
        recorded["model"] = hubert
    if recorded.get("extractor") not in EXTRACTORS:
        raise UnitcorpusError(
            f"the units of {corpus.name} were made elsewhere: recordings cannot be encoded in them"
        )
    try:
        return TypeAdapter(Units).validate_python(recorded)
    except ValidationError as error:
        raise UnitcorpusError(
            f"the recipe of {corpus.name} has no units section that this version reads: "
            f"{error.errors()[0]['msg']}"
        ) from None


def _read(path: Path, sample_rate: int, seconds: float | None) -> torch.Tensor:
    """A recording as float32 [samples] at `sample_rate`, as a build reads its own."""
    import soundfile
    import torch

    from unitcorpus.units.resample import resample

    try:
        wave, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "error_string", None) or error
        raise UnitcorpusError(f"cannot read the prompt {path}: {reason}") from error
    if wave.shape[1] != 1:
        raise UnitcorpusError(f"{path} has {wave.shape[1]} channels: a prompt has one")
    if rate < sample_rate:
        raise UnitcorpusError(f"{path} has {rate} Hz, the units need {sample_rate} at least")
    kept = wave[: None if seconds is None else round(seconds * rate), 0]
    if not np.isfinite(kept).all():
        raise UnitcorpusError(f"{path} holds NaN or infinity")
    return resample(torch.from_numpy(kept.copy()), rate, sample_rate)
