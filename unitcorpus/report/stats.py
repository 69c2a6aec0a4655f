"""Statistics of a corpus in one pass over its shards, a portion of samples at a time.

Memory does not grow with the corpus but for two hashes a sample (16 bytes), which tell how many
texts and unit sequences are distinct, and one count for each voice.

    statistics = measure(unitcorpus.open("corpora/demo"))
    statistics.parts["units"].tallies["seconds"].quantile(0.5)
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitcorpus.report.draw import Draw
from unitcorpus.report.suspects import Extremes
from unitcorpus.report.tally import Tally
from unitcorpus.shards.layout import PAIRS
from unitcorpus.shards.reader import Corpus, Sample

PORTION = 1000
"""Samples that are measured together."""

LONGEST_RUN = 4096
"""Frames: longer runs are counted as this long in the histogram of run lengths."""

SCORES = ("text_slam", "units_slam")
"""Of a pair's stored scores, those that are shown: auto-BLEU-2 as the paper defines it."""

WATCHED = ("units_per_second", "characters_per_second", "longest_run", "auto_bleu")
"""Measures by which a sample may lie far from the others."""


@dataclass
class PartStatistics:
    """One part of every sample. `usage` int64 [size], how often each unit occurs (a run counts
    once); `runs` int64 [LONGEST_RUN + 1] by length in frames; `tallies` by measure: seconds,
    units_per_second, characters_per_second, longest_run (seconds), auto_bleu (of the units)."""

    usage: NDArray[np.int64]
    runs: NDArray[np.int64]
    tallies: dict[str, Tally] = field(default_factory=dict)
    seconds: float = 0.0
    frames: int = 0

    @property
    def units(self) -> int:
        return int(self.usage.sum())

    @property
    def used(self) -> int:
        """Units that occur at all."""
        return int(np.count_nonzero(self.usage))

    @property
    def entropy(self) -> float:
        """Entropy of the units' frequencies in bits: log2(size) if all occur equally often."""
        share = self.usage[self.usage > 0] / max(self.units, 1)
        return float(-(share * np.log2(share)).sum())

    @property
    def mean_run(self) -> float:
        """The mean run length in frames; 0 where durations are not known."""
        return self.frames / max(int(self.runs.sum()), 1)


@dataclass
class Statistics:
    """Everything the page counts. `scores` tallies those of pairs: {"text_slam_chosen": …}."""

    parts: dict[str, PartStatistics]
    draw: Draw
    extremes: Extremes = field(default_factory=Extremes)
    scores: dict[str, Tally] = field(default_factory=dict)
    samples: int = 0
    distinct_texts: int = 0
    distinct_sequences: int = 0
    voices: Counter[str] = field(default_factory=Counter)
    voice_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    groups: Counter[str] = field(default_factory=Counter)
    more_repetitive: Counter[str] = field(default_factory=Counter)
    """Which side of a pair has the higher text auto-BLEU: chosen, rejected or neither."""


def measure(corpus: Corpus, tick: Callable[[str, int], None] = lambda *_: None) -> Statistics:
    """Measures every sample of a corpus; `tick` is called with ("measuring", samples so far).

    Raises DamagedError where a shard cannot be read.
    """
    size = int(corpus.unit_spec["size"])
    parts = {
        part: PartStatistics(np.zeros(size, np.int64), np.zeros(LONGEST_RUN + 1, np.int64))
        for part in corpus.layout.parts
    }
    found = Statistics(parts, Draw(int(corpus.info["recipe"]["seed"])))
    texts, sequences = array("Q"), array("Q")
    for portion in _portions(corpus.samples()):
        for part in corpus.layout.parts:
            _measure_part(corpus, portion, part, found)
        for sample in portion:
            _count(corpus, sample, found)
            texts.append(_hash(*(_text(corpus, sample, p).encode() for p in corpus.layout.parts)))
            sequences.append(_hash(*(sample.part(p).tobytes() for p in corpus.layout.parts)))
        if corpus.layout == PAIRS:
            _count_scores(portion, found)
        found.draw.see([sample.key for sample in portion])
        found.samples += len(portion)
        tick("measuring", found.samples)
    found.distinct_texts = len(np.unique(np.array(texts, np.uint64)))
    found.distinct_sequences = len(np.unique(np.array(sequences, np.uint64)))
    return found


def repetition(units: NDArray[Any], lengths: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Auto-BLEU-2 of several sequences at once, as the paper defines it: the share of positions
    whose bigram occurs at another position too. `units` [sum of lengths], the sequences joined;
    returns [sequences]."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    whole = owner[1:] == owner[:-1]  # not across a seam
    flat = units.astype(np.int64)
    grams = np.sort(((owner[:-1] * size + flat[:-1]) * size + flat[1:])[whole])
    starts = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]])[: len(grams)])
    counts = np.diff(starts, append=len(grams))
    weights = np.where(counts > 1, counts, 0)
    repeated = np.bincount(grams[starts] // size**2, weights, minlength=len(lengths))
    return np.asarray(repeated / np.maximum(lengths - 1, 1), np.float64)


def _portions(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    while portion := list(islice(samples, PORTION)):
        yield portion


def _measure_part(corpus: Corpus, portion: list[Sample], part: str, found: Statistics) -> None:
    """Counts one part of a portion of samples."""
    units = [sample.part(part) for sample in portion]
    lengths = np.array([len(u) for u in units], np.int64)
    joined = np.concatenate(units)
    here = found.parts[part]
    here.usage += np.bincount(joined, minlength=len(here.usage))
    values: dict[str, NDArray[np.float64]] = {}
    if corpus.layout != PAIRS:  # pairs have scores of prompt and continuation together
        values["auto_bleu"] = repetition(joined, lengths, len(here.usage))
    durations = [d for sample in portion if (d := sample.part_durations(part)) is not None]
    if len(durations) == len(portion):
        runs = np.concatenate(durations).astype(np.int64)
        here.runs += np.bincount(np.minimum(runs, LONGEST_RUN), minlength=LONGEST_RUN + 1)
        here.frames += int(runs.sum())
        seconds = np.array([_seconds(corpus, sample, part) for sample in portion])
        characters = np.array([len(_text(corpus, sample, part)) for sample in portion])
        here.seconds += float(seconds.sum())
        values["seconds"] = seconds
        values["units_per_second"] = lengths / np.maximum(seconds, 1e-9)
        if characters.any():
            values["characters_per_second"] = characters / np.maximum(seconds, 1e-9)
        starts = np.cumsum(lengths) - lengths
        longest = np.maximum.reduceat(runs, starts) if len(runs) else runs
        values["longest_run"] = longest / corpus.unit_spec["frame_rate"]
    for name, column in values.items():
        here.tallies.setdefault(name, Tally()).add(column)
        if name in WATCHED:
            found.extremes.see(part, name, [sample.key for sample in portion], column)


def _count(corpus: Corpus, sample: Sample, found: Statistics) -> None:
    """Counts what belongs to a whole sample: its voice and group."""
    meta = sample.meta
    if voice := meta.get("voice", ""):
        found.voices[voice] += 1
        found.voice_seconds[voice] += sum(
            _seconds(corpus, sample, part) for part in corpus.layout.parts
        )
    if group := meta.get("group", ""):
        found.groups[group] += 1


def _count_scores(portion: list[Sample], found: Statistics) -> None:
    """Tallies the scores that are stored with pairs."""
    scores = [sample.meta["scores"] for sample in portion]
    for name in (f"{of}_{side}" for of in SCORES for side in ("chosen", "rejected")):
        values = np.array([score[name] for score in scores], np.float64)
        found.scores.setdefault(name, Tally()).add(values)
    for score in scores:
        chosen, rejected = score["text_slam_chosen"], score["text_slam_rejected"]
        side = "chosen" if chosen > rejected else "rejected" if rejected > chosen else "neither"
        found.more_repetitive[side] += 1


def _seconds(corpus: Corpus, sample: Sample, part: str) -> float:
    return float(sample.meta.get(corpus.layout.field(part, "seconds"), 0.0))


def _text(corpus: Corpus, sample: Sample, part: str) -> str:
    return str(sample.meta.get(corpus.layout.field(part, "text"), ""))


def _hash(*pieces: bytes) -> int:
    digest = blake2b(digest_size=8)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")
