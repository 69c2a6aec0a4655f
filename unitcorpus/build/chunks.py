"""Which utterances of a shard go to the models together: longest first, by an estimate.

Batches of near-equal lengths hold little padding, and what memory does not hold shows at once. The
composition of a chunk depends on the shard's rows, which are the plan's, and on
`compute.batch_seconds`, which is the recipe's: it decides the last bits of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence

from unitcorpus.shards.inputs import PlannedPart

BATCHES = 4
"""Batches of a chunk: the models cut their own from it, by lengths that are known only then."""

CHARACTERS = 15.0
"""Of a text, in a second of speech."""

BYTES = 16_000.0
"""Of a FLAC file of 16 kHz, in a second."""


def seconds_of(part: PlannedPart) -> float:
    """About how long an utterance is."""
    if part.start is not None and part.end is not None:
        return part.end - part.start
    return part.audio_bytes / BYTES if part.audio else len(part.text) / CHARACTERS


def chunks(parts: Sequence[PlannedPart], batch_seconds: float) -> list[list[int]]:
    """Indexes of `parts` in chunks of at most `BATCHES` batches of `batch_seconds`, padding
    included. One part alone may exceed that; equal lengths stay in order."""
    lengths = [seconds_of(part) for part in parts]
    cut: list[list[int]] = []
    for i in sorted(range(len(parts)), key=lambda i: -lengths[i]):
        if cut and (len(cut[-1]) + 1) * lengths[cut[-1][0]] <= BATCHES * batch_seconds:
            cut[-1].append(i)
        else:
            cut.append([i])
    return cut
