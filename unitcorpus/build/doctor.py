"""What a build on this machine would use, and whether batching changes a unit on it.

Findings come one by one, as they are made. One that is `missing` is something that a build of the
recipe needs and would not find.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unitcorpus.build.agreement import Agreement, compare, exact, inexact
from unitcorpus.build.machine import Finding, machine
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
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.spec import resolve_units

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "kokoro-v1_0.pth")
UTTERANCES = 8


def examine(recipe: Recipe | None, device: str) -> Iterator[Finding]:
    """The machine, and what the recipe, if there is one, would use on it."""
    yield from machine(device)
    if recipe is not None:
        yield from _recipe(recipe, device)


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
    cached = _cached(recipe.speech) | _cached(recipe.units)
    for model, size in cached.items():
        yield _weights(model, size)
    if speech is not None and all(cached.values()):
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
        yield from _agreement(recipe, compare(stages, reference, _items(recipe)), device)
    finally:
        stages.close()
        if reference is not stages:
            reference.close()


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


def _cached(section: Any) -> dict[str, int]:
    """The bytes of weights that the cache has of a model of the Hub; none for a folder."""
    if not isinstance(section, KokoroSpeech | HubertUnits) or is_local(section.model):
        return {}
    from huggingface_hub import try_to_load_from_cache

    paths = [
        try_to_load_from_cache(section.model, name, revision=section.revision) for name in WEIGHTS
    ]
    return {
        section.model: sum(Path(path).stat().st_size for path in paths if isinstance(path, str))
    }


def _weights(model: str, size: int) -> Finding:
    from huggingface_hub import constants

    if size:
        return Finding("weights", f"{model} is in the cache ({size / 1e6:,.0f} MB)")
    advice = f"run `hf download {model}`, or a build will; nothing was measured"
    return Finding(
        "weights", f"{model} is not in the cache; {advice}", missing=constants.HF_HUB_OFFLINE
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


def _agreement(recipe: Recipe, found: Agreement, device: str) -> Iterator[Finding]:
    options = ", ".join(inexact(recipe)) or "every option exact"
    alone = isinstance(recipe.speech, KokoroSpeech) or isinstance(recipe.units, HubertUnits)
    cpu = "; on a CPU the models take each utterance alone, whatever the batch"
    yield Finding(
        "batches",
        f"{recipe.compute.batch_seconds:g} s at a time ({options}) against one at a time: "
        f"{found.utterances} utterances, {found.seconds:.0f} s of speech"
        + (cpu if alone and device == "cpu" else ""),
        agreement=found,
    )
    differ = found.frames - found.same
    below = bool(inexact(recipe)) and found.identical < recipe.compute.agreement
    verdict = (
        f", below compute.agreement {recipe.compute.agreement:.2%}: a build refuses"
        if below
        else ""
    )
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
