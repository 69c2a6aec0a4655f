"""The unit spec: everything that decides what a unit means.

Corpora with different fingerprints are never mixed. It says nothing of where the speech came from.
"""

from __future__ import annotations

from typing import Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Recipe
from unitcorpus.shards.format import fingerprint
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import Codebook, check_width, load_codebook
from unitcorpus.units.resample import RESAMPLER


def resolve_units(recipe: Recipe) -> tuple[dict[str, Any], Codebook | None]:
    """(unit spec with its fingerprint, codebook) of a recipe that makes units from speech.

    Raises UnitcorpusError for a model or codebook that is missing or does not fit.
    """
    section = recipe.units
    if section.extractor == "published":
        raise UnitcorpusError("published units have no extractor to resolve")
    extractor = EXTRACTORS[section.extractor].resolve(section)
    codebook = load_codebook(section)
    check_width(codebook, extractor["width"], section.extractor)
    size, width = codebook.centroids.shape
    spec = {
        "extractor": extractor,
        "resampler": RESAMPLER,
        "codebook": {"sha256": codebook.sha256, "width": width},
        "size": size,
        "frame_rate": float(extractor["frame_rate"]),
        "collapsed": True,
        "durations": True,
    }
    return sealed_spec(spec), codebook


def published_spec(recipe: Recipe, durations: bool) -> dict[str, Any]:
    """The unit spec of units made elsewhere, as the recipe tells it."""
    section = recipe.units
    assert section.extractor == "published"
    spec = {
        "extractor": {"kind": "published", "name": section.name},
        "size": section.size,
        "frame_rate": section.frame_rate,
        "collapsed": True,
        "durations": durations,
    }
    return sealed_spec(spec)


def sealed_spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "fingerprint": fingerprint(spec)}
