"""What was found, for people and programs: `dedup.json`, and what is removed from each shard."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.dedup.contamination import Leak, Suspects
from unitcorpus.dedup.search import Twins
from unitcorpus.dedup.sketch import Sketches
from unitcorpus.shards.reader import Corpus
from unitcorpus.shards.writer import write_atomic

LARGEST = 20
"""Clusters and test utterances that the report shows with texts."""
SHOWN = 5
"""Members of a cluster that it shows."""
EXCERPT = 100
"""Characters of a text."""

Removal = tuple[str, str, str]
"""(key, reason, detail)."""
Leaks = dict[int, Leak]
"""By the sample's number."""


def removals(
    sketches: Sketches, twins: Twins, leaks: Leaks, owners: list[str]
) -> Iterator[Removal]:
    """What is removed, in the order of the samples' numbers."""
    for sample in np.union1d(np.flatnonzero(twins.of >= 0), np.array(sorted(leaks), int)).tolist():
        key = sketches.key(sample)
        if sample in leaks:
            leak = leaks[sample]
            run = "run" if leak.runs == 1 else "runs"
            detail = f"shares {leak.runs:,} {run} of {leak.kind} with {owners[leak.owner]}"
            yield key, "contaminated", detail
        elif twins.exact[sample]:
            yield key, "duplicate_units", f"of {sketches.key(twins.of[sample])}"
        else:
            detail = f"of {sketches.key(twins.of[sample])}, Jaccard {twins.jaccard[sample]:.2f}"
            yield key, "near_duplicate", detail


def write_removals(folder: Path, shards: list[str], found: list[Removal]) -> None:
    """A file for each shard, read by `read_removals`. `found` in the order of the shards."""
    own: dict[str, list[Removal]] = {shard: [] for shard in shards}
    for removal in found:
        own[removal[0].rpartition("-")[0]].append(removal)
    for shard, some in own.items():
        write_atomic(folder / f"{shard}.json", json.dumps(some).encode())


def read_removals(folder: Path, shard: str) -> list[Removal]:
    return [tuple(item) for item in json.loads((folder / f"{shard}.json").read_bytes())]


def describe(
    corpus: Corpus,
    record: dict[str, Any],
    sketches: Sketches,
    twins: Twins,
    leaks: Leaks,
    suspects: Suspects | None,
    found: list[Removal],
) -> dict[str, Any]:
    """The content of dedup.json; a function of the corpora and the settings."""
    reasons = Counter(reason for _, reason, _ in found)
    clusters = Counter(twins.of[twins.of >= 0].tolist())
    sizes = Counter(size + 1 for size in clusters.values())
    return {
        **record,
        "samples": len(sketches),
        "kept": len(sketches) - len(found),
        "removed": dict(sorted(reasons.items())),
        "clusters": {
            "count": len(clusters),
            "sizes": {str(size): sizes[size] for size in sorted(sizes)},
            "largest": _largest(corpus, sketches, twins, clusters),
        },
        "contamination": _contamination(leaks, suspects) if suspects else [],
        "removals": [list(removal) for removal in found],
    }


def _largest(
    corpus: Corpus, sketches: Sketches, twins: Twins, clusters: Counter[int]
) -> list[dict[str, Any]]:
    """The largest clusters: the sample that stays, and some of those that go, least alike first."""
    shown = []
    for kept, size in sorted(clusters.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]:
        members = np.flatnonzero(twins.of == kept)
        members = members[np.argsort(twins.jaccard[members], kind="stable")][:SHOWN]
        entry = _excerpt(corpus, sketches.key(kept))
        entry["size"] = size + 1
        entry["members"] = [
            {**_excerpt(corpus, sketches.key(m)), "jaccard": round(float(twins.jaccard[m]), 4)}
            for m in members.tolist()
        ]
        shown.append(entry)
    return shown


def _excerpt(corpus: Corpus, key: str) -> dict[str, Any]:
    meta = corpus[key].meta
    fields = [corpus.layout.field(part, "text") for part in corpus.layout.parts]
    return {"key": key, "text": " / ".join(meta.get(field, "") for field in fields)[:EXCERPT]}


def _contamination(leaks: Leaks, suspects: Suspects) -> list[dict[str, Any]]:
    """For each test set: training samples that share with it, by kind; utterances that were too
    short to look for; the utterances that most samples share with."""
    by_owner: dict[str, Counter[str]] = {name: Counter() for name in suspects.units}
    by_kind: dict[str, Counter[str]] = {name: Counter() for name in suspects.units}
    for leak in leaks.values():
        name, _, utterance = suspects.owners[leak.owner].partition(" ")
        by_kind[name][leak.kind] += 1
        by_owner[name][utterance] += 1
    return [
        {
            "test": name,
            "units_compared": suspects.units[name],
            "samples": by_kind[name].total(),
            "by": dict(sorted(by_kind[name].items())),
            "too_short": suspects.short[name],
            "most_shared": [
                list(item)
                for item in sorted(by_owner[name].items(), key=lambda i: (-i[1], i[0]))[:LARGEST]
            ],
        }
        for name in suspects.units
    ]
