"""What a build on this machine would use, and whether batching changes a unit on it.

Findings come one by one, as they are made. One that is `missing` is something that a build of the
recipe needs and would not find.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from unitcorpus.build.agreement import Agreement, compare, exact, inexact
from unitcorpus.build.stages import Item, SpokenStages, set_numerics
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import (
    EspeakSpeech,
    HubertUnits,
    KokoroSpeech,
    PublishedUnits,
    Recipe,
    is_local,
)
from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.seeds import pick, seed_of
from unitcorpus.shards.inputs import PlannedPart
from unitcorpus.sources import open_source
from unitcorpus.sources.base import Row
from unitcorpus.sources.stories import StoryRows
from unitcorpus.speech import ENGINES
from unitcorpus.speech.phonemes import SPACY_MODEL
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.spec import resolve_units

GIB = 1 << 30
HUB_SECONDS = 5.0
LIBRARIES = (
    "torch",
    "torchaudio",
    "transformers",
    "kokoro",
    "misaki",
    "espeakng-loader",
    "faiss-cpu",
    "datasets",
    "huggingface-hub",
    "webdataset",
)
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "kokoro-v1_0.pth")
UTTERANCES = 8


@dataclass(frozen=True)
class Finding:
    """`text` on the subject `what`."""

    what: str
    text: str
    missing: bool = False
    agreement: Agreement | None = None


def examine(recipe: Recipe | None, device: str) -> Iterator[Finding]:
    """The machine, and what the recipe, if there is one, would use on it."""
    yield from _machine(device)
    yield from _libraries()
    if recipe is not None:
        yield from _recipe(recipe, device)


# --- the machine ------------------------------------------------------------------------------


def _machine(device: str) -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    disk = shutil.disk_usage(Path.cwd()).free / GIB
    yield Finding(
        "machine",
        f"{platform.system()} {platform.machine()}, {cores} cores, {_free_memory()}, "
        f"{disk:,.0f} GiB free on disk here",
    )
    if device.startswith("cuda"):
        index = torch.device(device)
        free, total = (size / GIB for size in torch.cuda.mem_get_info(index))
        name = torch.cuda.get_device_name(index)
        yield Finding("device", f"{device}: {name}, {free:.1f} of {total:.1f} GiB free")
    else:
        why = "" if torch.cuda.is_available() else ": torch sees no CUDA device"
        yield Finding("device", f"{device}{why}")


def _free_memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / (1 << 20) for line in lines}
        return f"{sizes['MemAvailable']:.1f} of {sizes['MemTotal']:.1f} GiB of memory free"
    except (OSError, KeyError, ValueError, IndexError):
        return "memory unknown"


def _libraries() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, unitcorpus {version('unitcorpus')}")
    found = {name: _version(name) for name in LIBRARIES}
    there = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("libraries", there)
    for name, number in found.items():
        if number is None:
            yield Finding(name, f"is not installed: pip install {name}", missing=True)
    ray = _version("ray")
    yield Finding("ray", ray or "not installed; several workers need it: 'unitcorpus[ray]'")
    model = _version(SPACY_MODEL)
    advice = "not installed; Kokoro's English goes through espeak, or misaki downloads it"
    yield Finding("spaCy", f"{SPACY_MODEL} {model}" if model else f"{SPACY_MODEL} is {advice}")
    yield Finding("Hub", hub())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hub() -> str:
    """Whether the Hugging Face Hub answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline, as HF_HUB_OFFLINE says"
    start = time.perf_counter()
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS).close()
    except HTTPError:
        pass  # it answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        return f"{constants.ENDPOINT} cannot be reached ({reason}); what is cached can be used"
    return f"{constants.ENDPOINT} answers in {time.perf_counter() - start:.2f} s"


# --- the recipe -------------------------------------------------------------------------------


def _recipe(recipe: Recipe, device: str) -> Iterator[Finding]:
    yield Finding("recipe", f"{recipe.name}: {recipe.description or recipe.source.kind}")
    yield _source(recipe)
    if isinstance(recipe.units, PublishedUnits):
        yield Finding("units", f"{recipe.units.name}, as published: no model is needed")
        return
    # Recordings: something has to be spoken to try the extractor on.
    section = recipe.speech or EspeakSpeech()
    try:
        speech = ENGINES[section.engine].resolve(section)
        yield Finding("speech", _described(speech) if recipe.speech else "recordings of the source")
    except UnitcorpusError as error:
        speech = None
        yield Finding("speech", str(error), missing=True)
    try:
        units, codebook = resolve_units(recipe)
    except UnitcorpusError as error:
        yield Finding("units", str(error), missing=True)
        return
    assert codebook is not None
    of = f"{units['size']} clusters, {units['frame_rate']:g} frames a second"
    yield Finding("units", f"{_described(units['extractor'])}; {of}")
    absent = [finding for part in (recipe.speech, recipe.units) for finding in _weights(part)]
    yield from absent
    if speech is not None and not absent:
        spoken = recipe.model_copy(update={"speech": section})
        yield from _try(spoken, speech, units, codebook, device)


def _try(
    recipe: Recipe, speech: dict[str, Any], units: dict[str, Any], codebook: Codebook, device: str
) -> Iterator[Finding]:
    """The models at work."""
    set_numerics(recipe.compute.threads)
    try:
        stages = SpokenStages(recipe, speech, units, codebook, device)
        reference = stages
        if inexact(recipe):
            reference = SpokenStages(exact(recipe), speech, units, codebook, device)
    except UnitcorpusError as error:
        yield Finding("models", str(error), missing=True)
        return
    try:
        yield from _agreement(recipe, compare(stages, reference, _items(recipe)))
    finally:
        reference.close()
        stages.close()


def _source(recipe: Recipe) -> Finding:
    where = recipe.source.path or "built in"
    try:
        open_source(recipe.source, recipe.seed)
    except UnitcorpusError as error:
        return Finding("source", str(error), missing=True)
    return Finding("source", f"{recipe.source.kind}, {where}")


def _described(resolved: dict[str, Any]) -> str:
    """The name and versions of an engine or extractor, as a plan records them."""
    name = resolved.get("engine") or resolved.get("kind")
    keys = ("model", "revision", "layer", "package", "version", "misaki", "espeak", "g2p")
    known = [f"{key} {str(resolved[key])[:19]}" for key in keys if key in resolved]
    return ", ".join([str(name), *known])


def _weights(section: Any) -> Iterator[Finding]:
    """A finding where a model's weights are on the Hub and not in the cache."""
    if not isinstance(section, KokoroSpeech | HubertUnits) or is_local(section.model):
        return
    from huggingface_hub import constants, try_to_load_from_cache

    cached = [
        try_to_load_from_cache(section.model, name, revision=section.revision) for name in WEIGHTS
    ]
    if not any(isinstance(path, str) for path in cached):
        yield Finding(
            "weights",
            f"{section.model} is not in the cache; run `hf download {section.model}`, or a build "
            "will; nothing was measured",
            missing=constants.HF_HUB_OFFLINE,
        )


def _items(recipe: Recipe) -> list[Item]:
    """Built-in texts of one to four sentences, in the voices of the recipe."""
    assert recipe.speech is not None
    rows = StoryRows(StoriesSource(count=UTTERANCES), 0).rows()
    stories = [row for row in rows if isinstance(row, Row)]
    items = []
    for i, row in enumerate(stories):
        text = ". ".join(row.text.split(". ")[: 1 + i % 4]).removesuffix(".") + "."
        voice = pick(recipe.seed, recipe.speech.voices, "voice", f"doctor-{i}")
        seed = seed_of(recipe.seed, "speech", f"doctor-{i}")
        items.append(Item(f"doctor-{i}", PlannedPart(text), voice, seed))
    return items


def _agreement(recipe: Recipe, found: Agreement) -> Iterator[Finding]:
    options = ", ".join(inexact(recipe)) or "every option exact"
    yield Finding(
        "batches",
        f"{recipe.compute.batch_seconds:g} s at a time ({options}) against one at a time: "
        f"{found.utterances} utterances, {found.seconds:.0f} s of speech",
        agreement=found,
    )
    differ = found.frames - found.same
    below = bool(inexact(recipe)) and found.identical < recipe.compute.agreement
    verdict = f", below compute.agreement {recipe.compute.agreement:.2%}" if below else ""
    yield Finding(
        "  same",
        f"{found.identical:.2%} of the units ({differ:,} of {found.frames:,} differ){verdict}",
        missing=below,
    )
    yield Finding("  audio", f"differs by {found.audio_error:.1e} of the peak at most")
    yield Finding(
        "  speed",
        f"{found.batched:,.1f} × real time in batches, {found.alone:,.1f} × one at a time",
    )
