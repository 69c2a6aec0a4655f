"""From a source's row to what a plan keeps of it: cleaned, checked, hashed.

Everything here is a function of the row and the recipe alone, so that the order of the input never
matters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from unitcorpus.dedup.exact import text_hash
from unitcorpus.errors import Reject
from unitcorpus.recipe.models import PublishedUnits, Recipe
from unitcorpus.sources.base import Row
from unitcorpus.units.runs import collapse

# Everything of Unicode's category Cc but the newline.
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
BLANKS = re.compile(r"[ \xa0\u2000-\u200a\u3000]{2,}")
SURROGATES = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A usable row. `content` identifies it exactly, `duplicate` up to what counts as the same
    text; 16 bytes each. `payload` is what the shard input will hold, as compact JSON."""

    id: str
    split: str
    content: bytes
    duplicate: bytes
    payload: bytes


def clean_text(text: str) -> str:
    """The text as it is spoken and stored: NFC, control characters and runs of blanks to one space,
    lone surrogates replaced, stripped. Line breaks stay: engines pause at them."""
    if SURROGATES.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = CONTROLS.sub(" ", unicodedata.normalize("NFC", text))
    return BLANKS.sub(" ", text).strip()


def prepare(row: Row, recipe: Recipe, durations: bool) -> Candidate | Reject:
    """What a plan keeps of a row, or why it keeps nothing. `id` stays empty where it has none."""
    if isinstance(recipe.units, PublishedUnits):
        return _prepare_units(row, recipe.units, durations)
    text = clean_text(row.text)
    if not text:
        return Reject("empty_text", "the text is empty")
    if len(text) < recipe.text.min_chars:
        return Reject(
            "too_short", f"{len(text)} characters, text.min_chars is {recipe.text.min_chars}"
        )
    if len(text) > recipe.text.max_chars:
        return Reject(
            "too_long", f"{len(text)} characters, text.max_chars is {recipe.text.max_chars}"
        )
    return Candidate(
        row.id, row.split, _hash(text.encode()), text_hash(text), _json({"text": text})
    )


def _prepare_units(row: Row, section: PublishedUnits, durations: bool) -> Candidate | Reject:
    units = row.units
    if units is None or not units.size:
        return Reject("no_units", "the row holds no units")
    if int(units.max()) >= section.size:
        return Reject("bad_units", f"unit {int(units.max())} in a codebook of {section.size}")
    collapsed, runs = collapse(units)
    lengths: list[int] | None = None
    if not section.collapsed:
        lengths = runs.tolist()
    elif durations:
        if row.durations is None:
            return Reject("no_durations", "the row has no durations, the corpus has")
        # Equal neighbours become one run, so their frames add up.
        starts = np.concatenate([[0], np.cumsum(runs, dtype=np.int64)[:-1]])
        lengths = np.add.reduceat(row.durations, starts).tolist()
        if max(lengths) >= 2**32:
            return Reject("bad_durations", f"a run of {max(lengths)} frames")
    elif len(collapsed) != len(units):
        return Reject(
            "not_collapsed", "repeats without durations: units.collapsed=false for frames"
        )
    payload: dict[str, Any] = {"text": clean_text(row.text), "units": collapsed.tolist()}
    if lengths is not None:
        payload["durations"] = lengths
    data = _json(payload)
    content = _hash(data)
    return Candidate(row.id, row.split, content, content, data)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
