"""The recipe of a corpus: frozen, typed, every key known.

A recipe says *what* a corpus is; how it is run (workers, executor, device) are options of the
command and leave no trace in its bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unitcorpus.errors import without_secrets
from unitcorpus.recipe.filters import Filters, WordErrorFilter, completed
from unitcorpus.recipe.section import Section
from unitcorpus.recipe.sources import ManifestSource, Source, UnitsSource

Precision = Literal["float32", "float64", "bfloat16", "float16"]

# --- speech: text to waveform -----------------------------------------------------------------


class EspeakSpeech(Section):
    """espeak-ng, offline. `rate` in words a minute, `pitch` 0-100."""

    engine: Literal["espeak"] = "espeak"
    voices: tuple[str, ...] = Field(("en-us",), min_length=1)
    rate: int = Field(175, ge=80, le=450)
    pitch: int = Field(50, ge=0, le=100)


class KokoroSpeech(Section):
    """Kokoro. `model` is a Hub repository or a folder of the same layout."""

    engine: Literal["kokoro"] = "kokoro"
    model: str = "hexgrad/Kokoro-82M"
    revision: str | None = None
    voices: tuple[str, ...] = Field(("af_heart",), min_length=1)
    speed: float = Field(1.0, ge=0.25, le=4.0)
    language: str | None = Field(None, description="Kokoro's code; null: the voice's first letter")
    g2p: Literal["auto", "misaki", "espeak"] = "auto"
    precision: Precision = Field("float32", description="of the generator; durations stay exact")
    compile: bool = Field(False, description="torch.compile what lies between convolutions")


Speech = Annotated[EspeakSpeech | KokoroSpeech, Field(discriminator="engine")]


# --- units: waveform to units -----------------------------------------------------------------


class MfccUnits(Section):
    """MFCC with deltas, normalised per utterance: no weights needed. Lengths in samples."""

    extractor: Literal["mfcc"] = "mfcc"
    sample_rate: int = Field(16_000, ge=1000, le=192_000)
    coefficients: int = Field(13, ge=1, le=1024)
    mels: int = Field(40, ge=1, le=1024)
    window: int = Field(400, ge=16, le=1_000_000)
    hop: int = Field(320, ge=1, le=1_000_000)
    codebook: str = "demo"
    codebook_sha256: str | None = None


class HubertUnits(Section):
    """A HuBERT of transformers. `layer` n is hidden_states[n]; layers above it are not run."""

    extractor: Literal["hubert"] = "hubert"
    model: str
    revision: str | None = None
    layer: int = Field(..., ge=1, le=1000)
    sample_rate: int = Field(16_000, ge=1000, le=192_000)
    input_padding: int = Field(0, ge=0, le=1_000_000, description="zero samples added on each side")
    precision: Precision = "float32"
    codebook: str
    codebook_sha256: str | None = None


class PublishedUnits(Section):
    """What is known of units made elsewhere (source kind `units`)."""

    extractor: Literal["published"] = "published"
    name: str = Field(..., description="extractor, layer and codebook, as their authors call them")
    size: int = Field(..., ge=1, le=65_536, description="number of distinct units")
    frame_rate: float = Field(..., gt=0, le=100_000)
    collapsed: bool = Field(True, description="false: one unit a frame; collapsed on import")
    durations: bool | None = Field(None, description="null: if all rows have them")


Units = Annotated[MfccUnits | HubertUnits | PublishedUnits, Field(discriminator="extractor")]


# --- the rest ---------------------------------------------------------------------------------


class Text(Section):
    """Which texts are spoken; the others are listed as rejects. Lengths in characters."""

    min_chars: int = Field(1, ge=1)
    max_chars: int = Field(20_000, ge=1)


class Near(Section):
    """Near-duplicates by MinHash over word n-grams; `threshold` is the Jaccard similarity."""

    threshold: float = Field(0.8, gt=0, lt=1)
    ngram: int = Field(5, ge=1, le=1000)
    permutations: int = Field(128, ge=16, le=4096)


class Dedup(Section):
    exact: bool = True
    near: Near | None = None


class Shards(Section):
    samples: int = Field(1000, ge=1, le=1_000_000, description="rows of a shard")
    audio: Literal["none", "flac"] = "none"


class Compute(Section):
    """What may change the last bits of a feature, and so belongs to the recipe."""

    threads: int = Field(1, ge=1, le=1024, description="torch and faiss threads of a worker")
    batch_seconds: float = Field(
        60, ge=0, le=1e6, description="audio of a model's batch, padding included; 0: one at a time"
    )
    agreement: float = Field(
        0.999, ge=0, le=1, description="share of units that options which are not exact must keep"
    )


class Expected(Section):
    """What the training split is known to hold, before it is built: hours of speech and tokens, as
    published. For estimates alone; a plan does not record it."""

    hours: float = Field(..., gt=0)
    tokens: int = Field(..., gt=0)


class Recipe(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    description: str = ""
    licence: str = ""
    language: str = "en"
    seed: int = Field(0, ge=0, lt=2**63)
    source: Source
    text: Text = Text()
    dedup: Dedup = Dedup()
    validation: float = Field(0.01, ge=0, lt=1, description="share, where the source has no split")
    speech: Speech | None = None
    units: Units
    filters: Filters = Field(default_factory=dict)
    shards: Shards = Shards()
    compute: Compute = Compute()
    expected: Expected | None = Field(None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _is_for_a_corpus(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "source" in data:
            return data
        if {"model", "optim"} & set(data):
            raise ValueError("this is a training recipe; run it with: python -m slam_model.train")
        if "corpora" in data:
            raise ValueError("this is a mixture; look at it with: unitcorpus plan")
        return data

    @model_validator(mode="before")
    @classmethod
    def _tell_the_source_kind(cls, data: Any) -> Any:
        """No `source.kind`: a path is a text file, no path is the built-in stories."""
        source = data.get("source") if isinstance(data, dict) else None
        if isinstance(source, dict) and "kind" not in source:
            kind = "text" if source.get("path") else "stories"
            return {**data, "source": {**source, "kind": kind}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _built_in_texts_are_ours(cls, data: Any) -> Any:
        """Their licence; texts of another's stand under none that a recipe for all could name."""
        source = data.get("source") if isinstance(data, dict) else None
        if not isinstance(source, dict) or data.get("licence") or source.get("path"):
            return data
        ours = source.get("kind", "stories") in ("stories", "pairs", "contrasts")
        return {**data, "licence": "apache-2.0"} if ours else data

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        gives, kind = self.source.gives, self.source.kind
        if (gives == "units") != (self.units.extractor == "published"):
            raise ValueError(
                "source.kind 'units' and units.extractor 'published' go together: "
                f"here they are '{kind}' and '{self.units.extractor}'"
            )
        if gives != "text" and self.speech is not None:
            raise ValueError(f"a source of {gives} has nothing to speak: leave out `speech`")
        if gives == "text" and self.speech is None:
            raise ValueError(
                f"a source of kind '{kind}' holds text: say in `speech` how to speak it"
            )
        return self

    @model_validator(mode="after")
    def _filters_fit(self) -> Recipe:
        asked = {name: rule for name, rule in self.filters.items() if rule is not None}
        for name, rule in asked.items():
            self.filters[name] = completed(name, rule, self.layout, self.source.gives)
        heard = {n: rule for n, rule in asked.items() if isinstance(rule, WordErrorFilter)}
        if len({(rule.model, rule.revision) for rule in heard.values()}) > 1:
            raise ValueError(f"filters {' and '.join(heard)}: all have to name the same model")
        if heard and getattr(self.source, "segments", None) is not None:
            raise ValueError(
                f"filters.{min(heard)}: segments have no text to compare a transcript with"
            )
        return self

    @property
    def layout(self) -> str:
        """The kind of its samples: utterances, pairs or contrasts."""
        source = self.source
        if isinstance(source, UnitsSource | ManifestSource):
            return source.layout
        return source.layout_kind

    def public(self) -> dict[str, Any]:
        """The recipe as a corpus records it: local paths reduced to their last part."""
        return self._told(lambda path: PurePath(path).name)

    def local(self) -> dict[str, Any]:
        """The recipe with the paths of this machine, and no secrets of URLs."""
        return self._told(lambda path: path)

    def _told(self, path: Callable[[str], str]) -> dict[str, Any]:
        data = self.model_dump(mode="json")
        places = [(data[section], key) for section, key in PLACES if data[section]]
        places += [(rule, "model") for rule in data["filters"].values() if rule]
        for section, key in places:
            value = section.get(key)
            if value and is_local(value):
                section[key] = path(value)
            elif value and "://" in value:
                section[key] = without_secrets(value)
        return data


PLACES = (("source", "path"), ("speech", "model"), ("units", "model"), ("units", "codebook"))
"""Keys that may name a file of this machine, beside the models of filters."""


def is_local(location: str) -> bool:
    """Whether a location names a file here, rather than a URL or a Hub repository."""
    if "://" in location:
        return location.startswith("file://")
    return location.startswith(("/", ".", "~")) or os.path.exists(location)  # noqa: PTH110 - any text
