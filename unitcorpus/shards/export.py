"""A corpus as other toolkits read it: JSON lines, one utterance each.

`jsonl`: {"file_name", "units", "duration"}; `tokens`: {"file_name", "audio_repr": "<Un3><Un49>…"}.
Both are the published layouts of speech language model data; `source.kind: units` reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, Any

from unitcorpus.shards.reader import Corpus, Sample


def jsonl(sample: Sample) -> dict[str, Any]:
    line: dict[str, Any] = {"file_name": sample.meta["id"], "units": sample.units.tolist()}
    if sample.durations is not None:
        line["duration"] = sample.durations.tolist()
    return {**line, "text": sample.meta["text"]}


def tokens(sample: Sample) -> dict[str, Any]:
    text = "".join(f"<Un{unit}>" for unit in sample.units.tolist())
    return {"file_name": sample.meta["id"], "audio_repr": text}


EXPORTS: dict[str, Callable[[Sample], dict[str, Any]]] = {"jsonl": jsonl, "tokens": tokens}


def export(corpus: Corpus, format: str, split: str | None, stream: IO[bytes]) -> int:
    """Writes the samples of a split (or of all) as lines of `format`; returns how many."""
    convert = EXPORTS[format]
    count = 0
    for count, sample in enumerate(corpus.samples(split), 1):  # noqa: B007 - the count is the result
        stream.write(json.dumps(convert(sample), ensure_ascii=False).encode() + b"\n")
    return count
