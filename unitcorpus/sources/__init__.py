"""Sources of rows, by the kind a recipe gives in `source.kind`. A new one is a class and a line."""

from __future__ import annotations

from typing import Any

from unitcorpus.sources.audio import LAYOUTS, AudioRows
from unitcorpus.sources.base import Rows
from unitcorpus.sources.contrasts import BlimpRows, ContrastRows, StoryClozeRows
from unitcorpus.sources.huggingface import HuggingfaceRows
from unitcorpus.sources.huggingface_audio import HuggingfaceAudioRows
from unitcorpus.sources.manifest import ManifestRows
from unitcorpus.sources.pairs import PairRows
from unitcorpus.sources.recorded import RecordedRows
from unitcorpus.sources.stories import StoryRows
from unitcorpus.sources.text import FileRows
from unitcorpus.sources.units import UnitRows
from unitcorpus.sources.webdataset import WebdatasetRows

SOURCES: dict[str, Any] = {
    "stories": StoryRows,
    "text": FileRows,
    "huggingface": HuggingfaceRows,
    "units": UnitRows,
    "pairs": PairRows,
    "manifest": ManifestRows,
    "contrasts": ContrastRows,
    "storycloze": StoryClozeRows,
    "blimp": BlimpRows,
    "webdataset": WebdatasetRows,
    "huggingface_audio": HuggingfaceAudioRows,
    "sblimp": RecordedRows,
    "swuggy": RecordedRows,
    "salmon": RecordedRows,
    "spoken_storycloze": RecordedRows,
    **dict.fromkeys(LAYOUTS, AudioRows),
}


CONTAINERS: dict[str, Any] = {
    "webdataset": WebdatasetRows,
    "huggingface_audio": HuggingfaceAudioRows,
}
"""Sources whose recordings are no files of their own: their `fetch(name, size, offset)` gives the
bytes of one."""


def open_source(section: Any, seed: int) -> Rows:
    """The source that a recipe's `source` section describes. Raises UnitcorpusError."""
    source: Rows = SOURCES[section.kind](section, seed)
    return source
