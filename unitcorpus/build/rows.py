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
from unitcorpus.errors import Reject, within
from unitcorpus.quality.filters import drop_by_text
from unitcorpus.recipe.models import PublishedUnits, Recipe
from unitcorpus.shards.layout import LAYOUTS, Layout
from unitcorpus.sources.base import Part, PartedRow, Row
from unitcorpus.units.runs import collapse

# Everything of Unicode's category Cc but the newline.
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
BLANKS = re.compile(r"[ \xa0\u2000-\u200a\u3000]{2,}")
SURROGATES = re.compile(r"[\ud800-\udfff]")
FIXED = ("units", "audio")
"""Fields of what is not spoken here."""


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


def prepare(row: Row | PartedRow, recipe: Recipe, durations: bool) -> Candidate | Reject:
    """What a plan keeps of a row, or why it keeps nothing. `id` stays empty where it has none.

    The payload holds the columns of the shard's input but for key, id and the voice picked.
    """
    layout = LAYOUTS[recipe.layout]
    if isinstance(row, Row):
        parts: tuple[Part, ...] = (Part(row.text, row.units, row.durations),)
    else:
        parts = row.parts
    payload: dict[str, Any] = {}
    for name, part in zip(layout.parts, parts, strict=True):
        fields = _part_fields(part, recipe, durations)
        if isinstance(fields, Reject):
            return fields if layout.plain else within(fields, name)
        payload |= {layout.field(name, field): value for field, value in fields.items()}
    by_part = {name: payload[layout.field(name, "text")] for name in layout.parts}
    if isinstance(row, PartedRow):
        texts = list(by_part.values())
        if recipe.source.gives == "text" and texts[-1] == texts[-2]:
            return Reject("same_text", f"{layout.parts[-2]} and {layout.parts[-1]} are one text")
        if len(parts) > 1 and _one_recording(*parts[-2:]):
            return Reject("same_audio", f"{layout.parts[-2]} and {layout.parts[-1]} are one file")
        payload |= {"voice": clean_text(row.voice), "group": clean_text(row.group)}
    if (reject := drop_by_text(recipe.filters, by_part)) is not None:
        return reject
    data = _json(payload)
    content = _hash(data)
    return Candidate(row.id, row.split, content, _duplicate_key(payload, layout, content), data)


def _one_recording(one: Part, other: Part) -> bool:
    place = (one.audio, one.start, one.end)
    return bool(one.audio) and place == (other.audio, other.start, other.end)


def texts_of(payload: bytes, layout: Layout) -> str:
    """The texts of a payload, one a line, as near-duplicates are compared."""
    fields = json.loads(payload)
    return "\n".join(fields[layout.field(part, "text")] for part in layout.parts)


def _duplicate_key(payload: dict[str, Any], layout: Layout, content: bytes) -> bytes:
    """What counts as the same row: the same texts to speak, each in its place; of recordings and
    units, the same content."""
    if any(layout.field(part, name) in payload for part in layout.parts for name in FIXED):
        return content
    texts = [payload[layout.field(part, "text")] for part in layout.parts]
    keys = [text_hash(text) for text in texts]
    return keys[0] if layout.plain else _hash(b"".join([*keys, payload["group"].encode()]))


def _part_fields(part: Part, recipe: Recipe, durations: bool) -> dict[str, Any] | Reject:
    """The fields of one utterance, or why it is none."""
    if isinstance(recipe.units, PublishedUnits):
        return _units_fields(part, recipe.units, durations)
    text = clean_text(part.text)
    if part.audio:
        span = {} if part.start is None else {"start": part.start, "end": part.end}
        place = {} if part.offset is None else {"offset": part.offset}
        size = {"audio": part.audio, "audio_bytes": part.audio_bytes}
        return {"text": text, **size, **span, **place}
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
    return {"text": text}


def _units_fields(part: Part, section: PublishedUnits, durations: bool) -> dict[str, Any] | Reject:
    units = part.units
    if units is None or not units.size:
        return Reject("no_units", "the row holds no units")
    if int(units.max()) >= section.size:
        return Reject("bad_units", f"unit {int(units.max())} in a codebook of {section.size}")
    collapsed, runs = collapse(units)
    lengths: list[int] | None = None
    if not section.collapsed:
        lengths = runs.tolist()
    elif durations:
        if part.durations is None:
            return Reject("no_durations", "the row has no durations, the corpus has")
        # Equal neighbours become one run, so their frames add up.
        starts = np.concatenate([[0], np.cumsum(runs, dtype=np.int64)[:-1]])
        lengths = np.add.reduceat(part.durations, starts).tolist()
        if max(lengths) >= 2**32:
            return Reject("bad_durations", f"a run of {max(lengths)} frames")
    elif len(collapsed) != len(units):
        return Reject(
            "not_collapsed", "repeats without durations: units.collapsed=false for frames"
        )
    fields: dict[str, Any] = {"text": clean_text(part.text), "units": collapsed.tolist()}
    return fields if lengths is None else {**fields, "durations": lengths}


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
