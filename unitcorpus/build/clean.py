"""`unitcorpus dedup`: finds what repeats in a corpus or is in a test set, and writes it without.

A cleaned corpus is a corpus like any other: the same shard inputs, keys and unit spec, a plan of
its own whose `cleaned` says what it was made from, the samples that stay byte for byte, and the
others among the rejects of their shard. It goes through the same commits as a build: a plan that
appears by one rename, a receipt for each shard, corpus.json last. What was found is kept in
`.dedup` until then, so that running the command again goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unitcorpus.build.copying import Copier, write_cleaned_plan
from unitcorpus.build.finish import finish
from unitcorpus.build.folder import prepare_folder, remove_temporaries
from unitcorpus.build.lock import build_lock
from unitcorpus.build.request import difference
from unitcorpus.dedup.contamination import Detector, Shared, Suspects, index_tests
from unitcorpus.dedup.pool import Pool
from unitcorpus.dedup.report import Leaks, describe, removals, write_removals
from unitcorpus.dedup.search import find_twins
from unitcorpus.dedup.sketch import Job, Sketcher, Sketches, job_of
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Near
from unitcorpus.shards.format import DamagedError, canonical, fingerprint, read_sealed, seal
from unitcorpus.shards.reader import Corpus, open_corpus
from unitcorpus.shards.receipt import committed
from unitcorpus.shards.schema import read_plan_file
from unitcorpus.shards.writer import write_atomic

WORK = ".dedup"
REPORT = "dedup.json"

Tick = Callable[[str, int, int], None]
"""Called with (what is going on, how many done, of how many)."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for in the corpus of a folder. `against` are folders or URLs of test sets; a
    training sample may not share so many `units` or `words` in a row with them."""

    root: Path
    near: Near
    against: Sequence[str] = ()
    units: int = 50
    words: int = 13

    @property
    def shared(self) -> Shared:
        return Shared(self.units, self.words)

    def open(self) -> tuple[Corpus, dict[str, Corpus]]:
        """The corpus and, by name, the test sets."""
        corpus = open_corpus(self.root)
        tests: dict[str, Corpus] = {}
        for where in self.against:
            test = open_corpus(where)
            if test.info == corpus.info:
                raise UnitcorpusError(f"--against {where} is the corpus itself")
            if test.name in tests:
                raise UnitcorpusError(f"--against {where}: there is a test set {test.name} already")
            tests[test.name] = test
        return corpus, tests

    def record(self, corpus: Corpus, tests: dict[str, Corpus]) -> dict[str, Any]:
        """All that decides what is found; no paths."""
        found: dict[str, Any] = {"source": _identity(corpus), "near": self.near.model_dump()}
        if tests:
            found["against"] = {name: _identity(test) for name, test in tests.items()}
            found["shared"] = asdict(self.shared)
        return found


def _identity(corpus: Corpus) -> dict[str, Any]:
    """Which corpus it is: corpus.json answers for all of its files."""
    return {
        "name": corpus.name,
        "plan": corpus.info["plan"],
        "digest": fingerprint(corpus.info),
        "samples": len(corpus),
    }


def dedup_corpus(
    wanted: Wanted,
    out: Path | None = None,
    report: Path | None = None,
    workers: int = 1,
    tick: Tick = lambda *_: None,
) -> dict[str, Any]:
    """Finds duplicates and contaminated samples; writes the corpus without them to `out`.

    Writes the report to `report` (by default dedup.json in `out`, or else in the corpus's folder)
    and returns its content. Raises UnitcorpusError: no finished corpus, another corpus in `out`, no
    permission.
    """
    corpus, tests = wanted.open()
    record = wanted.record(corpus, tests)
    home = out or wanted.root
    report = report or home / REPORT
    if out is not None:
        _check_apart(wanted.root, out)
        prepare_folder(out)
    with build_lock(home):
        if out is not None:
            remove_temporaries(out)
            _check_same(out, record)
        work = home / WORK
        _prepare_work(work, record)
        if not (_is_report_of(report, record) and (_is_cleaned(out) or (work / "done").exists())):
            _search(corpus, tests, wanted, record, (work, report), workers, tick)
            write_atomic(work / "done", b"")
        if out is not None:
            _write(wanted.root, out, record, workers, tick)
        shutil.rmtree(work)
    found: dict[str, Any] = json.loads(report.read_bytes())
    return found


def _check_apart(root: Path, out: Path) -> None:
    inside, outside = root.resolve(), out.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise UnitcorpusError(f"{root} and --out {out} lie in each other; give another --out")


def _check_same(out: Path, record: dict[str, Any]) -> None:
    """Refuses a folder that holds another corpus."""
    if not (out / "plan").exists():
        return
    old = read_sealed(out / "plan" / "request.json").get("request", {}).get("cleaned", {})
    if changes := difference(old, record):
        raise UnitcorpusError(
            f"{out} holds another corpus: {'; '.join(changes[:6])}. "
            "Give another --out, or delete it"
        )


def _prepare_work(work: Path, record: dict[str, Any]) -> None:
    """Keeps what an earlier run found, if it looked for the same."""
    path = work / "record.json"
    try:
        same = read_sealed(path) == record
    except DamagedError:
        same = False
    if not same:
        shutil.rmtree(work, ignore_errors=True)
        write_atomic(path, seal(record))


def _is_report_of(report: Path, record: dict[str, Any]) -> bool:
    try:
        found = json.loads(report.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and record.items() <= found.items()


def _is_cleaned(out: Path | None) -> bool:
    """Whether all shards of a cleaned corpus are there."""
    if out is None or not (out / "plan").exists():
        return False
    plan = read_plan_file(out)
    return all(committed(out, shard["name"], plan["fingerprint"]) for shard in plan["shards"])


# --- finding --------------------------------------------------------------------------------------


def _search(
    corpus: Corpus,
    tests: dict[str, Corpus],
    wanted: Wanted,
    record: dict[str, Any],
    places: tuple[Path, Path],
    workers: int,
    tick: Tick,
) -> None:
    """Writes what is removed from each shard, then the report."""
    work, report = places
    job = job_of(corpus, wanted.root, work, wanted.near)
    with Pool(workers, Sketcher, job) as pool:
        done = 0
        for count in pool.map(Sketcher.sketch, job.shards):
            done += count
            tick("reading", done, len(corpus))
    sketches = Sketches(job)
    suspects, leaks = None, Leaks()
    if tests:
        suspects, leaks = _contaminated(job, sketches, corpus, tests, wanted.shared, workers, tick)
    left_out = np.zeros(len(sketches), bool)
    left_out[list(leaks)] = True
    twins = find_twins(sketches, left_out, workers, lambda n, of: tick("comparing", n, of))
    found = list(removals(sketches, twins, leaks, suspects.owners if suspects else []))
    write_removals(work / "removals", job.shards, found)
    content = describe(corpus, record, sketches, twins, leaks, suspects, found)
    write_atomic(report, canonical(content))


def _contaminated(
    job: Job,
    sketches: Sketches,
    corpus: Corpus,
    tests: dict[str, Corpus],
    shared: Shared,
    workers: int,
    tick: Tick,
) -> tuple[Suspects, Leaks]:
    """The training samples that share a run with a test set, by number."""
    folder = job.work / "tests"
    suspects = index_tests(
        tests, corpus.unit_spec, folder, shared, lambda n, of: tick("reading the test sets", n, of)
    )
    others = sum(not shard.startswith("train-") for shard in job.shards)
    first, last = int(sketches.begins[others]), len(sketches)
    leaks: Leaks = {}
    with Pool(workers, Detector, (job, folder, suspects.lengths)) as pool:
        for number, found in enumerate(pool.map(Detector.leaks, job.shards[others:]), others):
            begin, end = sketches.begins[number : number + 2].tolist()
            rows = sketches.rows[begin:end]
            leaks |= {begin + int(rows.searchsorted(leak.row)): leak for leak in found}
            tick("comparing with the test sets", end - first, last - first)
    return suspects, leaks


# --- writing --------------------------------------------------------------------------------------


def _write(root: Path, out: Path, record: dict[str, Any], workers: int, tick: Tick) -> None:
    """Writes the cleaned corpus, or what is missing of it."""
    if not (out / "plan").exists():
        write_cleaned_plan(root, out, record)
    plan = read_plan_file(out)
    names = [shard["name"] for shard in plan["shards"]]
    pending = [name for name in names if committed(out, name, plan["fingerprint"]) is None]
    if pending:
        (out / "corpus.json").unlink(missing_ok=True)
        with Pool(workers, Copier, (root, out, out / WORK / "removals", plan)) as pool:
            for number, _ in enumerate(pool.map(Copier.copy, pending)):
                tick("writing shards", len(names) - len(pending) + number + 1, len(names))
    receipts = [committed(out, name, plan["fingerprint"]) for name in names]
    whole = [receipt for receipt in receipts if receipt is not None]
    if len(whole) < len(names):
        raise DamagedError(f"shards in {out} changed meanwhile; run the same command again")
    finish(out, whole)
