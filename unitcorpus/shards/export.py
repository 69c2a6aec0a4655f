"""A corpus as other toolkits read it: JSON lines, one sample each.

Utterances: `jsonl` {"file_name", "units", "duration"}; `tokens` {"file_name", "audio_repr":
"<Un3><Un49>…"}. Preference pairs have the published columns speaker, prompt_text, chosen_text,
rejected_text, prompt, chosen, rejected, auto_bleu2; test sets right and wrong in their place. With
`tokens`, units are such strings; with `jsonl`, lists, and durations beside them.
`source.kind: units` reads all of them back but test sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, Any

from numpy.typing import NDArray

from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.layout import CONTRASTS, PAIRS, Layout
from unitcorpus.shards.reader import Corpus, Sample

Lines = Callable[[Sample, Layout], dict[str, Any]]


def jsonl(sample: Sample, layout: Layout) -> dict[str, Any]:
    if not layout.plain:
        runs = ((part, sample.part_durations(part)) for part in layout.parts)
        durations = {f"{part}_durations": r.tolist() for part, r in runs if r is not None}
        return {**_parts(sample, layout, lambda units: units.tolist()), **durations}
    line: dict[str, Any] = {"file_name": sample.meta["id"], "units": sample.units.tolist()}
    if sample.durations is not None:
        line["duration"] = sample.durations.tolist()
    return {**line, "text": sample.meta["text"]}


def tokens(sample: Sample, layout: Layout) -> dict[str, Any]:
    if not layout.plain:
        return _parts(sample, layout, _token_string)
    return {"file_name": sample.meta["id"], "audio_repr": _token_string(sample.units)}


def _token_string(units: NDArray[Any]) -> str:
    return "".join(f"<Un{unit}>" for unit in units.tolist())


def _parts(
    sample: Sample, layout: Layout, convert: Callable[[NDArray[Any]], Any]
) -> dict[str, Any]:
    """The columns of a sample of several parts."""
    meta = sample.meta
    line = {"file_name": meta["id"], "speaker": meta["voice"]}
    if layout == CONTRASTS:
        line["group"] = meta["group"]
    line |= {f"{part}_text": meta[f"{part}_text"] for part in layout.parts}
    line |= {part: convert(sample.part(part)) for part in layout.parts}
    if layout == PAIRS:
        line["auto_bleu2"] = meta["scores"]["text_slam_chosen"]
    return line


EXPORTS: dict[str, Lines] = {"jsonl": jsonl, "tokens": tokens}


def export(corpus: Corpus, format: str, split: str | None, stream: IO[bytes]) -> int:
    """Writes the samples of a split (or of all) as lines of `format`; returns how many."""
    convert, layout = EXPORTS[format], corpus.layout
    count = 0
    for count, sample in enumerate(corpus.samples(split), 1):  # noqa: B007 - the count is the result
        try:
            line = json.dumps(convert(sample, layout), ensure_ascii=False)
        except (KeyError, TypeError) as error:
            raise DamagedError(f"sample {sample.key} has no field {error}") from None
        stream.write(line.encode() + b"\n")
    return count
