"""Pairs of sequences from shards: preference pairs, and likelihood test sets.

    pairs = read_pairs("corpora/spokenswag", "train")
    pairs.chosen[i]        # uint16: BOS, prompt, completion, EOS

Preference pairs have a prompt, a chosen and a rejected completion; contrasts have a right and a
wrong utterance, which are `chosen` and `rejected` here, with no prompt. The seam between prompt and
completion is not collapsed, as in the published data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unitcorpus
from slam_model.tokens import (
    BOS,
    EOS,
    FIRST_UNIT,
    check_units,
    read_shard,
    vocabulary,
)
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import fingerprint
from unitcorpus.shards.reader import Corpus, Sample


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split, in the corpus's order.

    `chosen` and `rejected`: whole token sequences. `prompt_lengths` int64 [n]: tokens of the
    prompt, BOS included; what follows is the completion. `meta`: the JSON of each sample.
    """

    name: str
    split: str
    fingerprint: str
    unit_spec: dict[str, Any]
    keys: list[str]
    chosen: list[NDArray[np.uint16]]
    rejected: list[NDArray[np.uint16]]
    prompt_lengths: NDArray[np.int64]
    meta: list[dict[str, Any]]

    @property
    def vocabulary(self) -> int:
        return vocabulary(self.unit_spec)

    def __len__(self) -> int:
        return len(self.keys)


def read_pairs(location: str | Path, split: str) -> Pairs:
    """The pairs of one split of a finished corpus (a folder or any fsspec URL).

    Raises UnitcorpusError where it holds none, DamagedError where a shard is not what the build
    wrote.
    """
    corpus = unitcorpus.open(location)
    if corpus.layout.plain:
        raise UnitcorpusError(f"{location} holds {corpus.layout.kind}, not pairs")
    samples = (sample for shard in corpus.shards(split) for sample in read_shard(corpus, shard))
    read = [_read(sample, corpus) for sample in samples]
    if not read:
        raise UnitcorpusError(f"{location} has no pairs in its split '{split}'")
    keys, chosen, rejected, prompts, meta = (list(column) for column in zip(*read, strict=True))
    return Pairs(
        name=corpus.name,
        split=split,
        fingerprint=fingerprint({"corpus": fingerprint(corpus.info), "split": split}),
        unit_spec=corpus.unit_spec,
        keys=keys,
        chosen=chosen,
        rejected=rejected,
        prompt_lengths=np.array(prompts, np.int64),
        meta=meta,
    )


def _read(
    sample: Sample, corpus: Corpus
) -> tuple[str, NDArray[np.uint16], NDArray[np.uint16], int, dict[str, Any]]:
    """(key, chosen, rejected, length of the prompt with BOS, meta) of a sample."""
    parts = [sample.part(name) for name in corpus.layout.parts]
    check_units(np.concatenate(parts), corpus.unit_spec, f"{corpus.name}, sample {sample.key}")
    *prompt, chosen, rejected = parts
    return (
        sample.key,
        _sequence(*prompt, chosen),
        _sequence(*prompt, rejected),
        1 + sum(map(len, prompt)),
        sample.meta,
    )


def _sequence(*parts: NDArray[np.uint16]) -> NDArray[np.uint16]:
    units = np.concatenate(parts) + np.uint16(FIRST_UNIT)
    return np.concatenate([[BOS], units, [EOS]]).astype(np.uint16)
