"""Contamination: training samples that share a long run of units or of words with a test set.

A run counts from 13 words on, as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C), or 50
units. Speech has some 20 units a second and 3 words, so 50 units are 7 or 8 words, the shortest run
that GPT-3's authors allow. Different speech does not share so many: of 100 utterances of
LibriSpeech no two share more than 17, and each unit more halves the number of shared runs, so that
the longest run that a million samples share by chance with some thousand test items has about 37.
An utterance of the test set that is shorter than a run is looked for as a whole, down to 8 words or
40 units.

Words are those of `exact.normal_form`. Runs are compared by hashes of 64 bits, those of the test
set sorted in files of RUNS each, which every process maps.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unitcorpus.dedup.exact import normal_form
from unitcorpus.dedup.near import shingles
from unitcorpus.dedup.ngrams import unit_ngrams
from unitcorpus.dedup.sketch import Job, read_shard
from unitcorpus.shards.layout import Layout
from unitcorpus.shards.reader import Corpus, Sample
from unitcorpus.shards.writer import write_atomic

RUNS = 1 << 24
"""Runs of the test set in one file: 200 MB."""
BATCH = 1 << 20
"""Units or characters that are hashed at once."""
BITS = 24
"""Of a hash, those that tell most runs from all of the test set's."""

Hashes = NDArray[np.uint64]
KINDS = ("units", "words")


@dataclass(frozen=True)
class Shared:
    """How many consecutive units or words a training sample may not share with a test set."""

    units: int
    words: int

    def shortest(self, kind: str) -> int:
        """The shortest utterance of a test set that is looked for as a whole."""
        return min(40, self.units) if kind == "units" else min(8, self.words)


@dataclass(frozen=True)
class Leak:
    """A training sample that is in a test set: the row of its shard, the kind of run it shares, how
    many of them, and the number of the test utterance that has the first."""

    row: int
    kind: str
    runs: int
    owner: int


# --- hashes ---------------------------------------------------------------------------------------


def hash_units(sequences: Sequence[NDArray[np.uint16]], n: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The runs of n units of each sequence (one of fewer is one run), and offsets."""
    lengths = np.array([len(units) for units in sequences], np.int64)
    return unit_ngrams(np.concatenate(sequences), lengths, n)


def hash_words(forms: Sequence[str], n: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The runs of n words of each normal form, likewise."""
    hashes, offsets = shingles(list(forms), n)
    return hashes, offsets.astype(np.int64)


HASH: dict[str, Callable[..., tuple[Hashes, NDArray[np.int64]]]] = {
    "units": hash_units,
    "words": hash_words,
}


def sequences_of(sample: Sample, layout: Layout, kind: str) -> list[NDArray[np.uint16] | str]:
    """What is hashed of each part of a sample."""
    if kind == "units":
        return [sample.part(part) for part in layout.parts]
    return [normal_form(sample.meta.get(layout.field(part, "text"), "")) for part in layout.parts]


def length(sequence: NDArray[np.uint16] | str) -> int:
    """Units, or words."""
    return len(sequence.split()) if isinstance(sequence, str) else len(sequence)


# --- the test sets --------------------------------------------------------------------------------


class Writer:
    """Collects the runs of test sets of one kind into files of a folder. `short` counts utterances
    that are too short to look for; `lengths` are those of the runs."""

    def __init__(self, folder: Path, kind: str, shared: Shared) -> None:
        self.kind, self.short = kind, 0
        self.lengths: set[int] = set()
        self._folder = folder
        self._most = getattr(shared, kind)
        self._least = shared.shortest(kind)
        self._waiting: dict[int, list[tuple[int, NDArray[np.uint16] | str]]] = defaultdict(list)
        self._size = self._runs = self._files = 0
        self._found: list[tuple[Hashes, NDArray[np.int32]]] = []

    def add(self, owner: int, sequence: NDArray[np.uint16] | str) -> None:
        size = length(sequence)
        if size < self._least:
            self.short += size > 0
            return
        self._waiting[min(size, self._most)].append((owner, sequence))
        self._size += len(sequence)
        if self._size >= BATCH:
            self._hash()

    def close(self) -> None:
        self._hash()
        self._write()

    def _hash(self) -> None:
        for n, waiting in self._waiting.items():
            hashes, offsets = HASH[self.kind]([sequence for _, sequence in waiting], n)
            owners = np.array([owner for owner, _ in waiting], np.int32)
            self._found.append((hashes, np.repeat(owners, np.diff(offsets))))
            self._runs += len(hashes)
            self.lengths.add(n)
        self._waiting.clear()
        self._size = 0
        if self._runs >= RUNS:
            self._write()

    def _write(self) -> None:
        """The runs so far: sorted, each with the first utterance that has it."""
        if not self._runs:
            return
        hashes, first = np.unique(np.concatenate([h for h, _ in self._found]), return_index=True)
        owners = np.concatenate([owner for _, owner in self._found])[first]
        np.save(self._folder / f"{self.kind}-{self._files:03d}.hashes.npy", hashes)
        np.save(self._folder / f"{self.kind}-{self._files:03d}.owners.npy", owners)
        self._found.clear()
        self._runs = 0
        self._files += 1


def comparable(corpus: Corpus, spec: dict[str, object]) -> bool:
    """Whether the units of a test set are those of `spec`, with or without durations."""
    other = corpus.unit_spec
    names = (spec.keys() | other.keys()) - {"fingerprint", "durations"}
    return all(spec.get(name) == other.get(name) for name in names)


@dataclass(frozen=True)
class Suspects:
    """The test sets as an index: its folder, the lengths of runs of each kind, the name of every
    utterance, and of each test set what was not looked for: (utterances too short in units, in
    words), and whether its units could be compared."""

    folder: Path
    lengths: dict[str, list[int]]
    owners: list[str]
    short: dict[str, dict[str, int]]
    units: dict[str, bool]


def index_tests(
    corpora: dict[str, Corpus],
    spec: dict[str, object],
    folder: Path,
    shared: Shared,
    tick: Callable[[int, int], None],
) -> Suspects:
    """Hashes every part of every sample of the test sets, given by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.npy"):
        path.unlink()
    writers = {kind: Writer(folder, kind, shared) for kind in KINDS}
    found = Suspects(folder, {}, [], {}, {})
    total = sum(len(corpus) for corpus in corpora.values())
    done = 0
    for name, corpus in corpora.items():
        found.units[name] = comparable(corpus, spec)
        before = {kind: writer.short for kind, writer in writers.items()}
        for sample in corpus.samples():
            for kind, writer in writers.items():
                if kind == "words" or found.units[name]:
                    for part, sequence in enumerate(sequences_of(sample, corpus.layout, kind)):
                        writer.add(len(found.owners) + part, sequence)
            found.owners.extend(_names(name, sample, corpus.layout))
            done += 1
            tick(done, total)
        found.short[name] = {kind: writer.short - before[kind] for kind, writer in writers.items()}
    for kind, writer in writers.items():
        writer.close()
        found.lengths[kind] = sorted(writer.lengths)
    return found


def _names(name: str, sample: Sample, layout: Layout) -> Iterator[str]:
    for part in layout.parts:
        yield f"{name} {sample.key}" + ("" if layout.plain else f" {part}")


# --- the training samples -------------------------------------------------------------------------


class Detector:
    """Looks for the runs of the test sets in training samples, in one process."""

    def __init__(self, given: tuple[Job, Path, dict[str, list[int]]]) -> None:
        self._job, folder, self._lengths = given
        self._files = {kind: [_File(p) for p in _files(folder, kind)] for kind in KINDS}

    def leaks(self, shard: str) -> list[Leak]:
        """The contaminated samples of a shard, in order; kept in a file for the next run."""
        path = self._job.work / "leaks" / f"{shard}.json"
        if not path.exists():
            write_atomic(path, json.dumps([astuple(leak) for leak in self._search(shard)]).encode())
        return [Leak(*fields) for fields in json.loads(path.read_bytes())]

    def _search(self, shard: str) -> list[Leak]:
        found: list[Leak] = []
        batch: list[Sample] = []
        size = 0
        for sample in read_shard(self._job, shard):
            batch.append(sample)
            size += sum(len(member) for member in sample.members.values())
            if size >= BATCH:
                found += self._batch(batch)
                batch, size = [], 0
        return found + self._batch(batch)

    def _batch(self, samples: list[Sample]) -> list[Leak]:
        leaks: dict[int, Leak] = {}
        for kind in KINDS:
            for n in self._lengths[kind] if samples else []:
                for place, runs, owner in self._shared(samples, kind, n):
                    row = int(samples[place].key.rpartition("-")[2])
                    leaks.setdefault(row, Leak(row, kind, runs, owner))
        return [leaks[row] for row in sorted(leaks)]

    def _shared(self, samples: list[Sample], kind: str, n: int) -> Iterator[tuple[int, int, int]]:
        """(place of a sample, runs of n that it shares, test utterance of the first)."""
        layout = self._job.layout
        sequences = [s for sample in samples for s in sequences_of(sample, layout, kind)]
        hashes, offsets = HASH[kind](sequences, n)
        sample_of = np.repeat(np.arange(len(samples)), np.diff(offsets[:: len(layout.parts)]))
        owners = np.full(len(hashes), -1, np.int32)
        for file in self._files[kind]:
            place, owner = file.find(hashes)
            fresh = owners[place] < 0
            owners[place[fresh]] = owner[fresh]
        hit = np.flatnonzero(owners >= 0)
        places, first, counts = np.unique(sample_of[hit], return_index=True, return_counts=True)
        yield from zip(places.tolist(), counts.tolist(), owners[hit[first]].tolist(), strict=True)


class _File:
    """One file of sorted runs. A table of their low bits tells at once of most runs that they are
    not among them."""

    def __init__(self, path: Path) -> None:
        self._hashes = np.load(path, mmap_mode="r")
        self._owners = np.load(str(path).replace(".hashes.", ".owners."), mmap_mode="r")
        self._table = np.zeros(1 << BITS, bool)
        self._table[self._hashes & np.uint64(len(self._table) - 1)] = True

    def find(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(places of `hashes` that are in the file, their test utterances)."""
        places = np.flatnonzero(self._table[hashes & np.uint64(len(self._table) - 1)])
        at = np.minimum(self._hashes.searchsorted(hashes[places]), len(self._hashes) - 1)
        same = self._hashes[at] == hashes[places]
        return places[same], np.asarray(self._owners[at[same]])


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*.hashes.npy"))
