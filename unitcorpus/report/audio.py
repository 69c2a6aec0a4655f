"""The audio of a few samples, small enough to embed: from the corpus's audio shards, else made
again from the plan by the build's own stages.

What is made again is checked: its units must be those of the corpus, or the page says that they are
not.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.shards import tar
from unitcorpus.shards.check import planned_row
from unitcorpus.shards.format import DamagedError, shard_of
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.mirror import Files
from unitcorpus.shards.reader import Corpus, Sample
from unitcorpus.shards.receipt import audio_path

if TYPE_CHECKING:
    import torch

    from unitcorpus.recipe import Recipe

CLIP_SECONDS = 30.0
"""A longer utterance is cut here."""

RATE = 16_000
COMPRESSION = 0.95
"""libsndfile's scale for MP3: 20 to 35 kbit/s for speech."""


@dataclass
class Audio:
    """Clips by (key, part), as MP3, and what is to be said about them in `note`."""

    clips: dict[tuple[str, str], bytes] = field(default_factory=dict)
    note: str = ""


def embed(corpus: Corpus, files: Files, samples: list[Sample]) -> Audio:
    """The clips of `samples`. Where there can be none, `note` says why; nothing is raised."""
    try:
        if corpus.info["recipe"]["shards"]["audio"] == "flac" and corpus.info["speech"]:
            return _stored(corpus, files, samples)
        if corpus.info["speech"] is None:
            return Audio(note="No audio: these units were published without it.")
        return _made_again(corpus, files.root, samples)
    except (UnitcorpusError, ValidationError, OSError, ImportError) as error:
        return Audio(note=f"No audio: {' '.join(str(error).split()).rstrip('.')}.")


def _stored(corpus: Corpus, files: Files, samples: list[Sample]) -> Audio:
    """From the shards under audio/."""
    import soundfile
    import torch

    found = Audio(note="The audio is what was stored with the corpus.")
    for shard, own in _by_shard(samples).items():
        with files.shard(shard):
            members = _members(audio_path(files.root, shard), {sample.key for sample in own})
        for sample in own:
            for part in corpus.layout.parts:
                flac = bytes(members[sample.key][corpus.layout.audio(part)])
                wave, rate = soundfile.read(BytesIO(flac), dtype="float32")
                found.clips[sample.key, part] = encode(torch.from_numpy(wave), rate)
    return found


def _members(path: Path, keys: set[str]) -> dict[str, dict[str, memoryview]]:
    """The members of `keys` in an archive, as views of it."""
    with path.open("rb") as stream:
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    found = {key: members for key, members in tar.scan(data) if key in keys}
    if keys - found.keys():
        raise DamagedError(f"audio/{path.name} lacks {min(keys - found.keys())}")
    return found


def _made_again(corpus: Corpus, root: Path, samples: list[Sample]) -> Audio:
    """From the plan, through the stages of a build."""
    from unitcorpus.build.plan import read_plan
    from unitcorpus.build.stages import SpokenStages, items_of, load_stages

    plan = read_plan(root, _recipe(corpus, root))
    stages = load_stages(plan, root)
    assert isinstance(stages, SpokenStages)
    found, others = Audio(), 0
    try:
        for shard, own in _by_shard(samples).items():
            rows = {row.key: row for row in read_inputs(root, shard, corpus.layout)}
            for sample in own:
                row = planned_row(sample, rows)
                assert row is not None  # the report is of a corpus that is whole
                heard = stages.hear(items_of(row, plan.recipe.seed))
                for part, wave in zip(corpus.layout.parts, heard, strict=True):
                    if isinstance(wave, Reject):
                        others += 1
                        continue
                    [result] = stages.encode([wave])
                    others += isinstance(result, Reject) or not _same(result, sample, part)
                    rate = plan.units["extractor"]["sample_rate"]
                    found.clips[sample.key, part] = encode(wave, rate)
    finally:
        stages.close()
    found.note = "The audio was made again from the plan, and gives exactly the units shown."
    if others:
        found.note = (
            f"The audio was made again from the plan; {others} of "
            f"{len(samples) * len(corpus.layout.parts)} utterances give other units on this "
            "machine than where the corpus was built."
        )
    return found


def _recipe(corpus: Corpus, root: Path) -> Recipe:
    """The recipe with the paths of this machine where it was built here, else as recorded."""
    from unitcorpus.build.folder import recipe_here
    from unitcorpus.recipe import Recipe

    if (here := recipe_here(root)) is not None:
        return here
    recorded = corpus.info["recipe"]
    if "path" not in recorded["source"] and recorded["source"]["kind"] != "stories":
        recorded = {**recorded, "source": {**recorded["source"], "path": "."}}  # local: not told
    return Recipe.model_validate(recorded)


def _same(encoded: Any, sample: Sample, part: str) -> bool:
    """Whether what was made again has the units and run lengths of the corpus."""
    durations = sample.part_durations(part)
    return bool(np.array_equal(encoded.units, sample.part(part))) and (
        durations is None or bool(np.array_equal(encoded.durations, durations))
    )


def _by_shard(samples: list[Sample]) -> dict[str, list[Sample]]:
    """Each sample once, with the others of its shard."""
    shards: dict[str, list[Sample]] = defaultdict(list)
    for key, sample in {sample.key: sample for sample in samples}.items():
        shards[shard_of(key)].append(sample)
    return shards


def encode(wave: torch.Tensor, rate: int) -> bytes:
    """A waveform (float [n] at `rate` Hz), cut to CLIP_SECONDS, as MP3 at 16 kHz, mono: small,
    played by every browser without a delay, and the same bytes each time."""
    import soundfile

    from unitcorpus.units.resample import resample

    clip = resample(wave.cpu(), rate, RATE)[: round(CLIP_SECONDS * RATE)]
    buffer = BytesIO()
    soundfile.write(
        buffer,
        clip.numpy(),
        RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=COMPRESSION,
    )
    return buffer.getvalue()
