"""What near-duplicates are searched with: small files for each shard, made once.

`SHARD.bulk` is uint16, mapped into memory and never read whole: by chunks of samples their units,
then the low 16 bits of every n-gram of their sets. `SHARD.bands` is uint64 [bands, samples]:
samples with equal keys of a band are candidates. `SHARD.npz` says where each sample lies, and is
written last: a sketch is there when it is. Samples are numbered in the order in which they are
preferred: splits other than `train` first, then the corpus's order.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.dedup.near import band_keys, band_shape
from unitcorpus.dedup.ngrams import Grams, base_of, gram_sets
from unitcorpus.recipe.models import Near
from unitcorpus.seeds import seed_of
from unitcorpus.shards.format import DamagedError, sample_key
from unitcorpus.shards.layout import Layout
from unitcorpus.shards.reader import Corpus, Sample
from unitcorpus.shards.receipt import data_path
from unitcorpus.shards.tar import scan
from unitcorpus.shards.writer import AtomicFile, write_atomic

CHUNK = 1000
"""Samples that are sketched at once: bounds the memory of a large shard."""


@dataclass(frozen=True)
class Job:
    """What a process needs to know of the corpus in `root`; `digests` are its shards' sha256 by
    name. `work` is the folder for whatever is to be found again by the next run."""

    root: Path
    work: Path
    layout: Layout
    size: int
    near: Near
    digests: dict[str, str]

    @property
    def base(self) -> int:
        return base_of(self.size, self.near.ngram)

    @property
    def shards(self) -> list[str]:
        """Their names in the order in which samples are preferred."""
        return sorted(self.digests, key=lambda name: (name.startswith("train-"), name))

    def path(self, shard: str, ending: str) -> Path:
        return self.work / "sketches" / f"{shard}.{ending}"


def job_of(corpus: Corpus, root: Path, work: Path, near: Near) -> Job:
    digests = {Path(shard["url"]).stem: shard["sha256"] for shard in corpus.index}
    return Job(root, work, corpus.layout, corpus.unit_spec["size"], near, digests)


def read_shard(job: Job, shard: str) -> Iterator[Sample]:
    """The samples of a shard. Raises DamagedError where it is not the one in index.json."""
    path = data_path(job.root, shard)
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if sha256(data).hexdigest() != job.digests[shard]:
        raise DamagedError(f"{path} was changed: it is not the shard of index.json")
    for key, members in scan(memoryview(data)):
        yield Sample(key, members)


class Sketcher:
    """Writes sketches, in one process."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def sketch(self, shard: str) -> int:
        """Writes the sketch of a shard, unless it is there; returns the number of its samples."""
        job = self._job
        index = job.path(shard, "npz")
        if not index.exists():
            with AtomicFile(job.path(shard, "bulk")) as bulk:
                chunks = [self._chunk(some, bulk) for some in _chunked(read_shard(job, shard))]
            joined = {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}
            write_atomic(job.path(shard, "bands"), joined.pop("bands").T.tobytes())
            stream = BytesIO()
            np.savez(stream, **joined)  # type: ignore[arg-type]
            write_atomic(index, stream.getvalue())
        with np.load(index) as data:
            return len(data["rows"])

    def _chunk(self, samples: list[Sample], bulk: AtomicFile) -> dict[str, NDArray[Any]]:
        """Writes the bulk of some samples; returns what is kept of each, [samples, ...]."""
        job = self._job
        parts = [[sample.part(part) for part in job.layout.parts] for sample in samples]
        shape = len(samples), len(job.layout.parts)
        lengths = np.array([len(u) for own in parts for u in own], np.int64).reshape(shape)
        units = np.concatenate([np.empty(0, np.uint16), *(u for own in parts for u in own)])
        sets = gram_sets(units, lengths, job.near.ngram, job.base)
        distinct = np.array([len(grams) for grams in sets], np.int64)
        start = bulk.size // 2
        for values in (units, *sets):
            bulk.write(values.astype("<u2").tobytes())
        return {
            "rows": np.array([int(sample.key.rpartition("-")[2]) for sample in samples], np.int32),
            "lengths": lengths.astype(np.int32),
            "distinct": distinct.astype(np.int32),
            "units_at": start + _starts(lengths.sum(axis=1)),
            "low_at": start + len(units) + _starts(distinct),
            "exact": np.array([_content(own) for own in parts], np.uint64).reshape(-1, 2),
            "bands": _bands(sets, job.near),
        }


def _chunked(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """The samples in lists of up to CHUNK; one empty list where there are none."""
    yield list(islice(samples, CHUNK))
    while chunk := list(islice(samples, CHUNK)):
        yield chunk


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some values begins that stand one after another."""
    starts: NDArray[np.int64] = np.cumsum(sizes) - sizes
    return starts


def _content(parts: Sequence[NDArray[np.uint16]]) -> tuple[int, int]:
    """16 bytes, equal where all parts have the same units."""
    digest = blake2b(digest_size=16)
    for units in parts:
        digest.update(len(units).to_bytes(8, "little") + units.tobytes())
    whole = digest.digest()
    return int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:], "little")


def _bands(sets: list[Grams], near: Near) -> NDArray[np.uint64]:
    """[samples, bands]: samples whose keys of a band are equal are candidates."""
    bands, rows = band_shape(near)
    keys = np.empty((len(sets), bands), np.uint64)
    if sets:
        slots = signatures(sets, near.permutations)
        for band in range(bands):
            keys[:, band] = band_keys(slots[:, band * rows : (band + 1) * rows])
    return keys


def signatures(sets: list[Grams], permutations: int) -> NDArray[np.uint32]:
    """uint32 [sets, permutations] by rensa: the share of equal slots of two rows estimates their
    Jaccard similarity."""
    from rensa import RMinHash

    offsets = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(sets), offsets, permutations, seed_of(0, "minhash")
    )
    return np.array(matrix.to_rows(), np.uint32)


class Sketches:
    """All samples of a job, by number. Some 60 bytes a sample in memory; the bulk is mapped."""

    def __init__(self, job: Job) -> None:
        self.job, self._shards = job, job.shards
        found = [self._load(shard) for shard in self._shards]
        counts = [len(part["rows"]) for part in found]
        self.begins = np.cumsum([0, *counts])
        self.shard = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        self.rows, self.lengths, self.exact = (joined[n] for n in ("rows", "lengths", "exact"))
        self.distinct: NDArray[np.int32] = joined["distinct"]
        self._units_at, self._low_at = joined["units_at"], joined["low_at"]
        self._bulk = [_mapped(job.path(shard, "bulk"), "<u2") for shard in self._shards]

    def _load(self, shard: str) -> dict[str, Any]:
        with np.load(self.job.path(shard, "npz")) as data:
            return dict(data)

    def __len__(self) -> int:
        return len(self.rows)

    def band(self, number: int) -> NDArray[np.uint64]:
        """The keys of one band, [samples]."""
        keys = []
        for shard, samples in zip(self._shards, np.diff(self.begins).tolist(), strict=True):
            whole = _mapped(self.job.path(shard, "bands"), "<u8")
            keys.append(whole[number * samples : (number + 1) * samples])
        return np.concatenate(keys)

    def key(self, sample: int) -> str:
        return sample_key(self._shards[self.shard[sample]], int(self.rows[sample]))

    def low(self, samples: NDArray[np.int64]) -> list[NDArray[np.uint16]]:
        """The low 16 bits of the n-grams of each sample's set, in no order."""
        begin = self._low_at[samples]
        places = zip(
            self.shard[samples].tolist(),
            begin.tolist(),
            (begin + self.distinct[samples]).tolist(),
            strict=True,
        )
        bulk = self._bulk
        return [bulk[shard][start:stop] for shard, start, stop in places]

    def grams(self, sample: int) -> Grams:
        """The set of n-grams of a sample, ascending."""
        lengths = self.lengths[sample].astype(np.int64)
        start = self._units_at[sample]
        units = self._bulk[self.shard[sample]][start : start + lengths.sum()]
        return gram_sets(units, lengths[None], self.job.near.ngram, self.job.base)[0]


def _mapped(path: Path, dtype: str) -> NDArray[Any]:
    """A file of numbers, mapped into memory."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))
