"""What a build was asked for, in the form that a rerun compares before it trusts a plan."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from unitcorpus.build.recordings import Recordings
from unitcorpus.errors import UnitcorpusError
from unitcorpus.quality import transcripts
from unitcorpus.quality.filters import asr_of, needs_seconds
from unitcorpus.recipe.models import PublishedUnits, Recipe, is_local
from unitcorpus.shards.format import FORMAT
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow, PartedRow, Row, Rows
from unitcorpus.speech import ENGINES
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.spec import published_spec, resolve_units


@dataclass(frozen=True)
class Request:
    """A recipe with everything that it leaves to this machine decided: revisions, G2P, codebook."""

    recipe: Recipe
    source: Rows
    speech: dict[str, Any] | None
    units: dict[str, Any]
    codebook: Codebook | None
    asr: dict[str, str] | None = None

    def record(self) -> dict[str, Any]:
        """What `plan/request.json` holds: of a local source what it holds, not where it lies."""
        recipe = self.recipe.public()
        if is_local(self.recipe.source.path or "."):
            recipe["source"].pop("path")
        codebook = getattr(self.recipe.units, "codebook", None)
        if codebook is not None and is_local(codebook):
            recipe["units"].pop("codebook")  # the unit spec has its sha256
        record = {
            "format": FORMAT,
            "recipe": recipe,
            "source": self.source.identity(),
            "speech": self.speech,
            "units": self.units,
            **_tokenizer(self.recipe),
        }
        return record if self.asr is None else {**record, "asr": self.asr}


def resolve(recipe: Recipe) -> Request:
    """Opens the source and finds every model. Raises UnitcorpusError; loads no weights."""
    source = open_source(recipe.source, recipe.seed)
    if isinstance(recipe.units, PublishedUnits):
        spec = published_spec(recipe, _has_durations(recipe.units, source))
        if not spec["durations"] and (name := needs_seconds(recipe.filters)):
            raise UnitcorpusError(
                f"filters.{name} looks at seconds, but these units have no durations: "
                f"measure units, or leave it out with --set filters.{name}=null"
            )
        return Request(recipe, source, None, spec, None)
    units, codebook = resolve_units(recipe)
    rule = asr_of(recipe.filters)
    asr = transcripts.resolve(rule) if rule else None
    if recipe.speech is None:
        speech = Recordings.describe(recipe.source)
    else:
        speech = ENGINES[recipe.speech.engine].resolve(recipe.speech)
    return Request(recipe, source, speech, units, codebook, asr)


def _tokenizer(recipe: Recipe) -> dict[str, Any]:
    """What cuts texts into the words that auto-BLEU counts, where a corpus stores it."""
    return {"tokenizer": f"nltk {version('nltk')}"} if recipe.layout == "pairs" else {}


def _has_durations(section: PublishedUnits, source: Rows) -> bool:
    """Whether the corpus will have durations: as the recipe says, else if all rows have them."""
    if not section.collapsed:
        return True
    if section.durations is not None:
        return section.durations
    return all(_timed(row) for row in source.rows() if not isinstance(row, BadRow))


def _timed(row: Row | PartedRow) -> bool:
    parts = row.parts if isinstance(row, PartedRow) else (row,)
    return all(part.durations is not None for part in parts)


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What changed between two records, one line each: `recipe.seed: 0 -> 1`."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {before.get(key, '(none)')} -> {after.get(key, '(none)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, "(none)") != after.get(key, "(none)")
        and not key.endswith(".fingerprint")
    ]


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        return [(prefix, value)]
    return [leaf for k, v in value.items() for leaf in _leaves(v, f"{prefix}.{k}" if prefix else k)]
