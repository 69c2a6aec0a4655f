"""Libri-Light as it unpacks: SUBSET/SPEAKER/BOOK/CHAPTER.flac, each with a CHAPTER.json beside it:
`speaker` and `voice_activity`, a list of [start, end] in seconds.

Chapters last up to hours. They are cut as the corpus's own cut_by_vad.py groups them: stretches of
speech in a row as long as their speech together fits `seconds`; one that is longer stays whole.
That script drops the silence between the stretches of a group, here it stays: a sample is what lies
between two points of the recording. Checked: the layout and the fields in the corpus's
data_preparation/README.md, the grouping in its cut_by_vad.py; not checked against the archives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from unitcorpus.sources.base import BadRow
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording, stem

Span = tuple[float, float]


def recordings(folder: Folder, seconds: float | None) -> Iterator[Recording | BadRow]:
    """The chapters below the folder, cut into groups of at most `seconds` of speech, or whole."""
    for name in folder.names((".flac",)):
        if isinstance(name, BadRow):
            yield name
            continue
        beside = PurePosixPath(name).with_suffix(".json")
        try:
            about = json.loads((folder.path / beside).read_bytes())
            speaker, speech = str(about["speaker"]), _speech(about["voice_activity"])
        except FileNotFoundError:
            yield BadRow(name, "no_metadata", f"{beside.name} is missing")
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = f"{beside.name} has no speaker and voice_activity ({type(error).__name__})"
            yield BadRow(name, "no_metadata", said)
            continue
        ident = f"{speaker}-{PurePosixPath(name).parent.name}-{stem(name)}"
        if seconds is None:
            yield Recording(name, name, id=ident, voice=speaker)
            continue
        if not speech:
            yield BadRow(name, "no_speech", f"{beside.name} lists no voice activity")
        for number, (start, end) in enumerate(groups(speech, seconds)):
            where = f"{name} from {start:g} s"
            yield Recording(
                where, name, "", f"{ident}-{number:04d}", voice=speaker, start=start, end=end
            )


def _speech(said: Any) -> list[Span]:
    """Stretches of speech. Raises ValueError or TypeError for what is none."""
    spans = [(float(start), float(end)) for start, end in said]
    if any(not 0 <= start < end < float("inf") for start, end in spans):
        raise ValueError("a stretch that ends before it starts")
    return sorted(spans)


def groups(speech: list[Span], seconds: float) -> Iterator[Span]:
    """Start and end of each group of stretches whose speech adds up to at most `seconds`."""
    first, last, total = 0.0, 0.0, 0.0
    for start, end in speech:
        if total and total + (end - start) > seconds:
            yield first, last
            total = 0.0
        if not total:
            first = start
        last, total = max(end, last), total + (end - start)
    if total:
        yield first, last
