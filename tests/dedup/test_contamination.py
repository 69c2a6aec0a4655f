"""Training samples that share a run with a test set are found, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit_corpora import build_units, random_units

import unitcorpus
from unitcorpus.dedup import contamination
from unitcorpus.dedup.contamination import Detector, Leak, Shared, Suspects, index_tests
from unitcorpus.dedup.exact import normal_form
from unitcorpus.dedup.sketch import Job, job_of
from unitcorpus.recipe.models import Near
from unitcorpus.shards.reader import Corpus

SHARED = Shared(units=50, words=13)
WORDS = [f"word{number}" for number in range(3000)]


def texts(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words).tolist())


def runs(sequence: list[Any], n: int) -> set[tuple[Any, ...]]:
    return {tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)}


def contaminated(train: Corpus, tests: list[Corpus], shared: Shared) -> dict[str, set[str]]:
    """By definition: {key: kinds of runs shared}."""
    found: dict[str, set[str]] = {}
    for kind in ("units", "words"):
        known: set[tuple[Any, ...]] = set()
        most, least = getattr(shared, kind), shared.shortest(kind)
        for test in tests:
            for sequence in sequences(test, kind):
                if len(sequence) >= least:
                    known |= runs(sequence, min(most, len(sequence)))
        lengths = {len(run) for run in known}
        for sample in train.samples("train"):
            own = [runs(s, n) for s in parts_of(sample, train, kind) for n in lengths]
            if any(known & some for some in own):
                found.setdefault(sample.key, set()).add(kind)
    return found


def sequences(corpus: Corpus, kind: str) -> list[list[Any]]:
    return [s for sample in corpus.samples() for s in parts_of(sample, corpus, kind)]


def parts_of(sample: Any, corpus: Corpus, kind: str) -> list[list[Any]]:
    if kind == "units":
        return [sample.part(part).tolist() for part in corpus.layout.parts]
    fields = [corpus.layout.field(part, "text") for part in corpus.layout.parts]
    return [normal_form(sample.meta[field]).split() for field in fields]


def detected(
    train: Path, tests: dict[str, Path], shared: Shared = SHARED
) -> tuple[dict[str, Leak], Suspects]:
    corpus = unitcorpus.open(train)
    job: Job = job_of(corpus, train, train.with_suffix(".work"), Near())
    folder = job.work / "tests"
    opened = {name: unitcorpus.open(path) for name, path in tests.items()}
    suspects = index_tests(opened, corpus.unit_spec, folder, shared, lambda *_: None)
    detector = Detector((job, folder, suspects.lengths))
    leaks = {}
    for shard in corpus.shards("train"):
        for leak in detector._search(shard):
            leaks[f"{shard}-{leak.row:06d}"] = leak
    return leaks, suspects


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Training samples of which some hold runs of every length around the limit; utterances and
    pairs as test sets."""
    folder = tmp_path_factory.mktemp("contamination")
    rng = np.random.default_rng(0)
    items = [(random_units(rng, n), texts(rng, n // 4)) for n in rng.integers(20, 160, 60)]
    train = []
    for number in range(300):
        units, words = random_units(rng, 200), texts(rng, 60).split()
        theirs = items[rng.integers(len(items))]
        if number % 3 == 0:
            size = int(rng.integers(30, 70))
            units[20 : 20 + size] = theirs[0][:size]
        if number % 3 == 1:
            size = int(rng.integers(5, 20))
            words[7 : 7 + size] = theirs[1].upper().replace(" ", ", ").split()[:size]
        units = [u for i, u in enumerate(units) if not i or u != units[i - 1]]
        train.append({"id": str(number), "units": units, "text": " ".join(words)})
    utterances = [{"id": f"u{i}", "units": u, "text": t} for i, (u, t) in enumerate(items[:30])]
    pairs = []
    for i in range(30, 60, 3):
        pair: dict[str, Any] = {"id": f"p{i}"}
        for part, (units, text) in zip(
            ("prompt", "chosen", "rejected"), items[i : i + 3], strict=True
        ):
            pair |= {part: units, f"{part}_text": text}
        pairs.append(pair)
    return (
        build_units(folder / "train", train, samples=80, validation=0.1),
        build_units(folder / "utterances", utterances, name="utterances"),
        build_units(folder / "pairs", pairs, name="pairs", layout="pairs"),
    )


@pytest.mark.parametrize("shared", [SHARED, Shared(60, 10), Shared(35, 5), Shared(90, 20)])
def test_found_are_exactly_those_that_share_a_run(
    corpora: tuple[Path, Path, Path], shared: Shared
) -> None:
    train, *tests = corpora
    due = contaminated(unitcorpus.open(train), [unitcorpus.open(t) for t in tests], shared)
    leaks, _ = detected(train, {"utterances": tests[0], "pairs": tests[1]}, shared)
    assert leaks.keys() == due.keys()
    assert all(leak.kind in due[key] for key, leak in leaks.items())
    if shared == SHARED:
        assert {kind for kinds in due.values() for kind in kinds} == {"units", "words"}
        assert 20 < len(leaks) < 200


def test_the_test_utterance_that_is_named_has_the_run(corpora: tuple[Path, Path, Path]) -> None:
    train, utterances, pairs = corpora
    leaks, suspects = detected(train, {"utterances": utterances, "pairs": pairs})
    opened = {"utterances": unitcorpus.open(utterances), "pairs": unitcorpus.open(pairs)}
    ours = unitcorpus.open(train)
    parts_named = set()
    for key, leak in leaks.items():
        name, test_key, *part = suspects.owners[leak.owner].split(" ")
        test = opened[name]
        number = test.layout.parts.index(part[0]) if part else 0
        parts_named.add(part[0] if part else "")
        theirs = parts_of(test[test_key], test, leak.kind)[number]
        own = parts_of(ours[key], ours, leak.kind)[0]
        n = min(getattr(SHARED, leak.kind), len(theirs))
        assert runs(theirs, n) & runs(own, n)
    assert parts_named == {"", "prompt", "chosen", "rejected"}


def test_files_and_batches_make_no_difference(
    corpora: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, utterances, pairs = corpora
    tests = {"utterances": utterances, "pairs": pairs}
    due, _ = detected(train, tests)
    monkeypatch.setattr(contamination, "RUNS", 500)
    monkeypatch.setattr(contamination, "BATCH", 2000)
    leaks, suspects = detected(train, tests)
    assert len(list(suspects.folder.glob("units-*.hashes.npy"))) > 2
    assert leaks == due


def test_utterances_too_short_to_look_for_are_counted(corpora: tuple[Path, Path, Path]) -> None:
    train, utterances, pairs = corpora
    _, suspects = detected(train, {"utterances": utterances, "pairs": pairs})
    for name, path in (("utterances", utterances), ("pairs", pairs)):
        corpus = unitcorpus.open(path)
        for kind in ("units", "words"):
            lengths = [len(s) for s in sequences(corpus, kind)]
            assert suspects.short[name][kind] == sum(n < SHARED.shortest(kind) for n in lengths) > 0


def test_units_of_another_spec_are_not_compared_but_texts_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    units, text = random_units(rng, 200), texts(rng, 40)
    train = build_units(
        tmp_path / "train",
        [
            {"id": "a", "units": units, "text": "other words"},
            {"id": "b", "units": random_units(rng, 200), "text": text},
        ],
    )
    item = [{"id": "t", "units": units[20:120], "text": text}]
    same = build_units(tmp_path / "same", item)
    other = build_units(tmp_path / "other", item, frame_rate=50.0)
    assert {leak.kind for leak in detected(train, {"same": same})[0].values()} == {"units", "words"}
    leaks, suspects = detected(train, {"other": other})
    assert [leak.kind for leak in leaks.values()] == ["words"]
    assert suspects.units == {"other": False}


def test_units_with_and_without_durations_are_the_same_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    units = random_units(rng, 100)
    train = build_units(tmp_path / "train", [{"id": "a", "units": units, "durations": [2] * 100}])
    test = build_units(tmp_path / "test", [{"id": "t", "units": units}])
    leaks, suspects = detected(train, {"test": test})
    assert suspects.units == {"test": True}
    assert len(leaks) == 1
