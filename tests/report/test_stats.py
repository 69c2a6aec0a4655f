"""What the page counts, against counting it in the plainest way; and what it picks out."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unitcorpus
from made import write_contrasts
from unitcorpus.pairs.auto_bleu import auto_bleu
from unitcorpus.report import stats
from unitcorpus.report.draw import Draw
from unitcorpus.report.samples import choose
from unitcorpus.report.stats import measure, repetition

SEQUENCES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=30), min_size=1, max_size=8)


@given(SEQUENCES)
def test_repetition_is_the_papers_auto_bleu_of_each_sequence(sequences: list[list[int]]) -> None:
    joined = np.array([unit for sequence in sequences for unit in sequence], np.uint16)
    lengths = np.array([len(sequence) for sequence in sequences])
    due = [auto_bleu(sequence, order=2, variant="slam") for sequence in sequences]
    np.testing.assert_allclose(repetition(joined, lengths, 7), due)


def test_totals_are_those_of_the_manifest(small_corpus: Path) -> None:
    corpus = unitcorpus.open(small_corpus)
    part = measure(corpus).parts["units"]
    splits = corpus.info["splits"].values()
    assert part.units == sum(split["units"] for split in splits)
    assert part.frames == sum(split["frames"] for split in splits)
    assert part.seconds == pytest.approx(sum(split["seconds"] for split in splits))


def test_usage_entropy_runs_and_voices_are_those_of_plain_counting(small_corpus: Path) -> None:
    corpus = unitcorpus.open(small_corpus)
    found = measure(corpus)
    samples = list(corpus)
    units = Counter(unit for sample in samples for unit in sample.units.tolist())
    total = sum(units.values())
    part = found.parts["units"]
    assert {unit: n for unit, n in enumerate(part.usage.tolist()) if n} == units
    assert part.entropy == pytest.approx(
        -sum(n / total * np.log2(n / total) for n in units.values())
    )
    runs = Counter(
        run
        for sample in samples
        if sample.durations is not None
        for run in sample.durations.tolist()
    )
    assert {run: n for run, n in enumerate(part.runs.tolist()) if n} == runs
    assert found.voices == Counter(sample.meta["voice"] for sample in samples)
    longest = max(
        max(sample.durations.tolist()) for sample in samples if sample.durations is not None
    )
    tally = part.tallies["longest_run"]
    assert tally.quantile(1.0) == pytest.approx(longest / 50, abs=tally.width)


def test_the_size_of_a_portion_does_not_matter(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = unitcorpus.open(small_corpus)
    whole = measure(corpus)
    monkeypatch.setattr(stats, "PORTION", 5)
    other = measure(corpus)
    for name, tally in whole.parts["units"].tallies.items():
        np.testing.assert_array_equal(tally.counts, other.parts["units"].tallies[name].counts)
    assert [s.sample.key for s in choose(corpus, whole)] == [
        s.sample.key for s in choose(corpus, other)
    ]


def test_duplicates_show_as_fewer_distinct_texts_and_sequences(tmp_path: Path) -> None:
    same = {"right": ("a cat", [1, 2, 3]), "wrong": ("a hat", [1, 4, 3])}
    other = {"right": ("a cat", [1, 2, 3]), "wrong": ("a bat", [1, 5, 3])}
    write_contrasts(tmp_path / "c", [("g", same), ("g", same), ("h", other)])
    found = measure(unitcorpus.open(tmp_path / "c"))
    assert (found.samples, found.distinct_texts, found.distinct_sequences) == (3, 2, 2)
    assert found.groups == {"g": 2, "h": 1}


def test_what_lies_far_off_is_found_and_said_why(tmp_path: Path) -> None:
    generator = random.Random(0)
    rows = []
    for _ in range(60):
        right = [generator.randrange(50) for _ in range(generator.randrange(28, 33))]
        rows.append(("g", {"right": ("so it is", right), "wrong": ("so it was", right[::-1])}))
    stuck = [7, 8] * 15
    rows[41] = ("g", {"right": ("so it is", stuck), "wrong": rows[41][1]["wrong"]})
    write_contrasts(tmp_path / "c", rows)
    corpus = unitcorpus.open(tmp_path / "c")
    shown = choose(corpus, measure(corpus))
    first = next(one.suspect for one in shown if one.suspect)
    assert (first.key, first.part, first.measure) == ("test-000000-000041", "right", "auto_bleu")
    assert "auto-BLEU" in first.reason
    keys = [one.sample.key for one in shown]
    assert len(keys) == len(set(keys))


@given(st.lists(st.text(max_size=5), unique=True, max_size=60), st.integers(0, 60))
def test_the_draw_depends_on_the_keys_alone(keys: list[str], cut: int) -> None:
    one, other = Draw(3, 10), Draw(3, 10)
    one.see(keys)
    other.see(keys[cut:][::-1])
    other.see(keys[:cut])
    assert one.keys == other.keys
    assert len(one.keys) == min(len(keys), 10)
