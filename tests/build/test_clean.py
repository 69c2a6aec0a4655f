"""A cleaned corpus is a corpus: verified, the same bytes every time, whole after any kill."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from unit_corpora import build_units, changed, random_units

import unitcorpus
from unitcorpus.build.clean import REPORT, WORK, Wanted, dedup_corpus
from unitcorpus.build.repair import repair
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.models import Near
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.receipt import read_receipt
from unitcorpus.shards.verify import verify

NEAR = Near(threshold=0.7)


def rows(seed: int, count: int, variants: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found = []
    for family in range(count):
        units = random_units(rng, 150)
        for variant in range(variants):
            own = changed(rng, units, int(rng.choice([0, 1, 3, 20])))
            name = f"{family}-{variant}"
            durations = rng.integers(1, 9, len(own)).tolist()
            found.append({"id": name, "text": f"text {name}", "units": own, "durations": durations})
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "c"
    return build_units(folder, rows(0, 30), validation=0.1)


@pytest.fixture(scope="module")
def held_out(root: Path) -> Path:
    some = [r for r in rows(0, 30) if r["id"].endswith("-0")][:9]
    items = [{"id": r["id"], "units": r["units"], "durations": r["durations"]} for r in some]
    return build_units(root.with_name("t"), items, name="held-out")


def files(root: Path) -> dict[str, str]:
    """sha256 of every file but the lock."""
    return {
        str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def wanted(root: Path, *against: Path, near: Near = NEAR) -> Wanted:
    return Wanted(root, near, tuple(map(str, against)))


def members(sample: Any) -> dict[str, bytes]:
    return {name: bytes(content) for name, content in sample.members.items()}


def test_a_cleaned_corpus_verifies_and_keeps_samples_as_they_are(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    report = dedup_corpus(wanted(root, held_out), out)
    assert verify(out) == []
    assert {p.name for p in out.glob(".*")} == {".lock"}
    source, cleaned = unitcorpus.open(root), unitcorpus.open(out)
    removed = {key: (reason, detail) for key, reason, detail in report["removals"]}
    assert {reason for reason, _ in removed.values()} == {
        "contaminated",
        "duplicate_units",
        "near_duplicate",
    }
    kept = {s.key: members(s) for s in source.samples() if s.key not in removed}
    assert {s.key: members(s) for s in cleaned.samples()} == kept
    assert len(cleaned) == report["kept"] == len(source) - len(removed)
    assert cleaned.unit_spec == source.unit_spec
    assert cleaned.info["cleaned"]["source"]["plan"] == source.info["plan"] != cleaned.info["plan"]
    assert cleaned.info["cleaned"]["near"] == NEAR.model_dump()


def test_removed_samples_are_among_the_rejects_and_counted(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    report = dedup_corpus(wanted(root, held_out), out)
    source = unitcorpus.open(root)
    lines: dict[str, Any] = {}
    for path in sorted((out / "rejects").glob("*.jsonl")):
        own = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["key"] for line in own] == sorted(line["key"] for line in own)
        lines |= {line["key"]: line for line in own}
    assert lines.keys() == {key for key, _, _ in report["removals"]}
    for key, reason, detail in report["removals"]:
        meta = source[key].meta
        assert lines[key] == {
            "key": key,
            "id": meta["id"],
            "text": meta["text"],
            "reason": reason,
            "detail": detail,
        }
    rejected = unitcorpus.open(out).info["rejected"]
    assert {reason: rejected[reason] for reason in report["removed"]} == report["removed"]


def test_processes_make_no_difference_to_any_byte(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    for workers in (1, 2):
        dedup_corpus(wanted(root, held_out), tmp_path / str(workers), workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_without_out_the_corpus_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "c"
    shutil.copytree(root, own)
    before = files(own)
    report = dedup_corpus(wanted(own), report=tmp_path / "r.json")
    assert files(own) == before
    assert json.loads((tmp_path / "r.json").read_text()) == report
    assert dedup_corpus(wanted(own)) == report
    assert files(own).keys() - before.keys() == {REPORT}
    assert verify(own) == []


def test_the_report_shows_clusters_with_texts(root: Path) -> None:
    report = dedup_corpus(wanted(root))
    (root / REPORT).unlink()
    clusters = report["clusters"]
    sizes = {int(size): count for size, count in clusters["sizes"].items()}
    assert sum(sizes.values()) == clusters["count"]
    assert sum((size - 1) * count for size, count in sizes.items()) == len(report["removals"])
    first = clusters["largest"][0]
    assert first["size"] == max(sizes)
    assert first["text"].startswith("text ")
    assert all(member["jaccard"] >= 0.7 for member in first["members"])
    corpus = unitcorpus.open(root)
    families = [corpus[m["key"]].meta["id"].split("-")[0] for m in [first, *first["members"]]]
    assert len(set(families)) == 1


def test_validation_loses_nothing_to_train(root: Path) -> None:
    report = dedup_corpus(wanted(root))
    (root / REPORT).unlink()
    for key, _, detail in report["removals"]:
        if key.startswith("validation"):
            assert detail.startswith("of validation")
    assert any(
        key.startswith("train") and detail.startswith("of validation")
        for key, _, detail in report["removals"]
    )


def test_a_second_run_has_nothing_to_do(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    first = dedup_corpus(wanted(root), out)
    before = {p: p.stat().st_mtime_ns for p in (out / "data").iterdir()}
    steps: list[str] = []
    again = dedup_corpus(wanted(root), out, tick=lambda step, *_: steps.append(step))
    assert (again, steps) == (first, [])
    assert {p: p.stat().st_mtime_ns for p in (out / "data").iterdir()} == before


def test_a_damaged_shard_is_made_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    dedup_corpus(wanted(root), out)
    before = files(out)
    (out / "data" / "train-000001.tar").write_bytes(b"")
    (out / "receipts" / "train-000002.json").unlink()
    dedup_corpus(wanted(root), out)
    assert files(out) == before


def test_a_repair_names_the_command_that_makes_the_shard_again(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    wanted = Wanted(root, NEAR, (str(held_out),))
    out = tmp_path / "clean"
    dedup_corpus(wanted, out)
    whole = files(out)
    tar = out / "data/train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UnitcorpusError) as caught:
        repair(out)
    said = str(caught.value)
    assert "dedup " in said
    for option in ("--threshold 0.7 --ngram 5", "--against held-out", "--shared-units 50"):
        assert option in said
    (out / "receipts/train-000000.json").unlink()
    dedup_corpus(wanted, out)
    assert files(out) == whole
    assert verify(out) == []


def test_a_cleaned_corpus_has_nothing_left_to_find(root: Path, tmp_path: Path) -> None:
    dedup_corpus(wanted(root), tmp_path / "o")
    report = dedup_corpus(wanted(tmp_path / "o"), tmp_path / "o2")
    assert report["removals"] == []
    assert verify(tmp_path / "o2") == []
    once, twice = unitcorpus.open(tmp_path / "o"), unitcorpus.open(tmp_path / "o2")
    assert [e["sha256"] for e in once.index] == [e["sha256"] for e in twice.index]
    assert once.info["rejected"] == twice.info["rejected"]


def test_audio_goes_with_its_samples(tmp_path: Path) -> None:
    recipe = load_recipe(
        "demo/stinystories", ("source.count=8", "shards.samples=5", "shards.audio=flac")
    )
    build_corpus(recipe, tmp_path / "c")
    test = load_recipe("demo/stinystories", ("source.count=3", "name=test", "validation=0"))
    build_corpus(test, tmp_path / "t")
    report = dedup_corpus(wanted(tmp_path / "c", tmp_path / "t"), tmp_path / "o")
    assert report["removed"]["contaminated"] >= 2  # the same stories, spoken the same
    assert verify(tmp_path / "o") == []
    assert len(unitcorpus.open(tmp_path / "o")) < len(unitcorpus.open(tmp_path / "c"))
    sizes = [(r.num_samples, r.frames, r.units) for r in receipts(tmp_path / "o")]
    assert sizes != [(r.num_samples, r.frames, r.units) for r in receipts(tmp_path / "c")]


def receipts(root: Path) -> list[Any]:
    shards = read_sealed(root / "plan" / "plan.json")["shards"]
    return [read_receipt(root, shard["name"]) for shard in shards]


def test_pairs_are_cleaned_by_all_their_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = ("prompt", "chosen", "rejected")
    pairs: list[dict[str, Any]] = []
    for number in range(10):
        own = [random_units(rng, 80) for _ in parts]
        swapped = [own[1], own[0], own[2]]  # the same units, in other places
        for name, units in (("a", own), ("b", own), ("c", swapped)):
            pair = {"id": f"{number}{name}", "prompt_text": f"{number}{name}"}
            pairs.append(pair | dict(zip(parts, units, strict=True)))
    root = build_units(tmp_path / "c", pairs, layout="pairs")
    report = dedup_corpus(wanted(root), tmp_path / "o")
    assert report["removed"] == {"duplicate_units": 10}
    assert verify(tmp_path / "o") == []
    left = {sample.meta["id"][-1] for sample in unitcorpus.open(tmp_path / "o")}
    assert "c" in left
    assert len(unitcorpus.open(tmp_path / "o")) == 20


def test_a_shard_may_lose_all_its_samples(root: Path, tmp_path: Path) -> None:
    report = dedup_corpus(wanted(root, near=Near(threshold=0.01, ngram=1)), tmp_path / "o")
    assert report["kept"] < 5
    assert verify(tmp_path / "o") == []
    assert 0 in [entry["nsamples"] for entry in unitcorpus.open(tmp_path / "o").index]


# --- what is refused --------------------------------------------------------------------------


def test_another_corpus_or_other_settings_in_out_are_refused(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    dedup_corpus(wanted(root), out)
    before = files(out)
    with pytest.raises(UnitcorpusError, match=r"near\.threshold: 0\.7 -> 0\.8"):
        dedup_corpus(wanted(root, near=Near()), out)
    other = build_units(tmp_path / "other", rows(1, 5))
    with pytest.raises(UnitcorpusError, match="holds another corpus"):
        dedup_corpus(wanted(root), other)
    assert files(out) == before
    assert verify(other) == []


def test_a_build_does_not_go_on_in_a_cleaned_corpus(tmp_path: Path) -> None:
    root = build_units(tmp_path / "c", rows(0, 5))
    dedup_corpus(wanted(root), tmp_path / "o")
    shutil.copy(tmp_path / "c.jsonl", tmp_path / "o.jsonl")
    with pytest.raises(UnitcorpusError, match="cleaned"):
        build_units(tmp_path / "o", rows(0, 5))
    assert verify(tmp_path / "o") == []


@pytest.mark.parametrize("where", ["inside", "."])
def test_folders_in_each_other_are_refused(root: Path, where: str) -> None:
    with pytest.raises(UnitcorpusError, match="lie in each other"):
        dedup_corpus(wanted(root), root / where)


def test_the_corpus_as_its_own_test_set_is_refused(root: Path) -> None:
    with pytest.raises(UnitcorpusError, match="is the corpus itself"):
        dedup_corpus(wanted(root, root))


def test_no_corpus_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="not a finished corpus"):
        dedup_corpus(wanted(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["data/train-000001.tar", "rejects/train-000001.jsonl", "plan/inputs/train-000001.parquet"],
)
def test_a_corpus_that_was_changed_is_not_cleaned(root: Path, tmp_path: Path, name: str) -> None:
    own = tmp_path / "c"
    shutil.copytree(root, own)
    with (own / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match=Path(name).name):
        dedup_corpus(wanted(own), tmp_path / "o")
    assert not (tmp_path / "o" / "corpus.json").exists()


# --- killed and run again -----------------------------------------------------------------------


def command(root: Path, held_out: Path, out: Path) -> list[str]:
    words = ["-m", "unitcorpus", "dedup", str(root), "--out", str(out), "--workers", "2"]
    return [sys.executable, *words, "--threshold", "0.7", "--against", str(held_out)]


def test_killed_at_any_moment_and_run_again_the_bytes_are_the_same(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    calm, out = tmp_path / "calm", tmp_path / "o"
    start = time.monotonic()
    subprocess.run(command(root, held_out, calm), check=True, capture_output=True)
    took = time.monotonic() - start
    draw = random.Random(0)
    for kill in range(3):
        process = psutil.Popen(
            command(root, held_out, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=draw.uniform(0.2, 0.95) * took)
        except psutil.TimeoutExpired:
            workers = process.children(recursive=True)
            process.kill()
            process.wait()
            if kill % 2:  # the others are to end by themselves
                for worker in workers:
                    worker.kill()
            assert psutil.wait_procs(workers, timeout=10)[1] == []
    subprocess.run(command(root, held_out, out), check=True, capture_output=True)
    assert files(out) == files(calm)
    assert verify(out) == []


def test_stopped_it_says_how_to_go_on(root: Path, held_out: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    process = subprocess.Popen(
        command(root, held_out, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (out / WORK / "sketches").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143
    assert errors.strip().splitlines() == [
        "unitcorpus: stopped; what was finished is kept, run the same command to go on"
    ]


def test_the_command_has_help_with_an_example_and_says_what_it_found(
    root: Path, held_out: Path, tmp_path: Path
) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "unitcorpus", "dedup", "--help"], capture_output=True, text=True
    )
    assert "Example: unitcorpus dedup" in shown.stdout
    out = tmp_path / "o"
    words = [word for word in command(root, held_out, out) if word not in ("--workers", "2")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    report = json.loads((out / REPORT).read_text())
    assert f"samples     {report['samples']:,}, of which {report['kept']:,} stay" in done.stdout
    for reason, count in report["removed"].items():
        assert f"{count:,} {reason}" in done.stdout
    assert "held-out:" in done.stdout
    assert str(out / REPORT) in done.stdout
