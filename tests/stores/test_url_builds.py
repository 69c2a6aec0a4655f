"""A corpus at a URL is that of a folder: the same bytes, the same commits, the same refusals."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

import unitcorpus
from unitcorpus.build.plan import read_plan
from unitcorpus.build.remote import Remote, workplace
from unitcorpus.build.run import Execution
from unitcorpus.build.status import status
from unitcorpus.build.worker import Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.store import Store
from unitcorpus.shards.verify import verify
from url_builds import SETTINGS, build, killed_before, local_files, objects, promised

POINTS = {
    "planning": r"at/plan/inputs/.*\.parquet$",
    "before the plan": r"at/plan/plan\.json$",
    "before data": r"at/data/.*\.tar$",
    "between data and receipt": r"at/receipts/.*\.json$",
    "before corpus.json": r"at/corpus\.json$",
}
"""Files of the URL that are about to be written; it is a folder, whose puts are not even atomic."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"local://{tmp_path}/at"


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://bucket/corpus"
    system = fsspec.filesystem("memory")
    if system.exists("/bucket"):
        system.rm("/bucket", recursive=True)


def test_the_objects_at_a_url_are_the_files_of_a_folder(memory: str, small_corpus: Path) -> None:
    outcome = build(memory)
    assert outcome.corpus == unitcorpus.open(small_corpus).info
    assert promised(objects(memory)) == promised(local_files(small_corpus))
    assert verify(memory) == []
    assert status(memory)["state"] == "finished"
    assert not workplace(memory).exists()
    keys = [sample.key for sample in unitcorpus.open(memory).samples("train")]
    assert keys == [sample.key for sample in unitcorpus.open(small_corpus).samples("train")]
    again = build(memory)
    assert again.resumed == len(again.plan.shards)


@pytest.mark.parametrize("point", sorted(POINTS))
def test_killed_at_any_point_and_run_again_the_objects_are_the_same(
    point: str, url: str, tmp_path: Path, small_corpus: Path
) -> None:
    draw = random.Random(point)
    count = 1 if point.startswith("before") and point != "before data" else 3
    assert killed_before(POINTS[point], draw.randint(1, count), url) == -9
    with pytest.raises(UnitcorpusError, match="is not a finished corpus"):
        unitcorpus.open(url)
    outcome = build(url)
    assert outcome.resumed == len(outcome.plan.shards) if "corpus.json" in point else True
    assert promised(objects(url)) == promised(local_files(small_corpus))
    assert verify(url) == []


def test_half_an_object_is_never_taken_for_a_whole_one(
    url: str, tmp_path: Path, small_corpus: Path
) -> None:
    """As a put that is not atomic leaves it: data, receipts, corpus.json."""
    build(url)
    for name in ("data/train-000000.tar", "receipts/train-000001.json", "corpus.json"):
        path = tmp_path / "at" / name
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DamagedError):
        unitcorpus.open(url)
    assert build(url).resumed == 2
    assert promised(objects(url)) == promised(local_files(small_corpus))


def test_half_a_plan_is_none(url: str, tmp_path: Path, small_corpus: Path) -> None:
    killed_before(POINTS["before data"], 1, url)
    path = tmp_path / "at/plan/plan.json"
    path.write_bytes(path.read_bytes()[:100])
    build(url)
    assert promised(objects(url)) == promised(local_files(small_corpus))


def test_another_machine_goes_on_and_needs_no_data_of_the_first(
    url: str, tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed_before(POINTS["between data and receipt"], 3, url) == -9
    assert status(url)["state"] == "stopped"
    assert status(url)["shards_done"] == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert build(url).resumed == 2
    assert promised(objects(url)) == promised(local_files(small_corpus))


def test_a_worker_elsewhere_fetches_what_it_needs_and_sends_what_it_makes(
    url: str, tmp_path: Path, small_corpus: Path
) -> None:
    Store(url).put([(p, p.relative_to(small_corpus).as_posix()) for p in plan_files(small_corpus)])
    plan = read_plan(small_corpus, load_recipe("demo/stinystories", SETTINGS))
    root = tmp_path / "node"
    worker = Worker(replace(plan, url=url), root)
    try:
        worker.build(plan.shards[2])
    finally:
        worker.close()
    name = plan.shards[2].name
    made, due = objects(url), local_files(small_corpus)
    assert made[f"data/{name}.tar"] == due[f"data/{name}.tar"]
    assert f"receipts/{name}.json" in made
    assert not list(root.rglob("*.tar"))
    (tmp_path / "at/plan/inputs" / f"{name}.parquet").write_bytes(b"other")
    shutil.rmtree(root)
    worker = Worker(replace(plan, url=url), root)
    with pytest.raises(DamagedError, match=r"parquet was changed: --overwrite starts again"):
        worker.build(plan.shards[2])


def plan_files(root: Path) -> list[Path]:
    return [*(p for p in (root / "plan").rglob("*") if p.is_file()), root / "codebook.npy"]


@pytest.mark.slow
def test_workers_on_ray_send_their_own_shards(url: str, small_corpus: Path) -> None:
    assert build(url, execution=Execution("ray", workers=2)).corpus is not None
    assert promised(objects(url)) == promised(local_files(small_corpus))


def test_another_plan_is_refused_and_overwriting_leaves_nothing_of_the_old_one(
    memory: str, small_corpus: Path
) -> None:
    build(memory, "source.count=30")
    before = objects(memory)
    with pytest.raises(UnitcorpusError, match=rf"{memory} holds another corpus: .*count: 30 -> 12"):
        build(memory)
    assert objects(memory) == before
    build(memory, overwrite=True)
    assert promised(objects(memory)) == promised(local_files(small_corpus))


def test_a_place_with_other_files_is_refused_and_left_alone(memory: str) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/corpus/mine.txt", b"mine")
    with pytest.raises(UnitcorpusError, match=r"holds other files \(mine.txt\)"):
        build(memory)
    assert objects(memory) == {"mine.txt": b"mine"}


def test_a_lost_plan_input_is_named(url: str, tmp_path: Path) -> None:
    killed_before(POINTS["before data"], 1, url)
    (tmp_path / "at/plan/inputs/train-000001.parquet").unlink()
    with pytest.raises(UnitcorpusError, match=r"cannot be used: plan/inputs/train-000001.parquet"):
        build(url)


def test_a_card_that_is_there_stays(url: str, tmp_path: Path) -> None:
    (tmp_path / "at").mkdir()
    (tmp_path / "at/README.md").write_text("mine")
    build(url)
    assert objects(url)["README.md"] == b"mine"


def test_memory_is_of_one_process(memory: str) -> None:
    with pytest.raises(UnitcorpusError, match="of this process alone: use --executor local"):
        build(memory, execution=Execution("ray", workers=2))


@pytest.mark.parametrize("secret", ["s3://me:key@bucket/c", "https://x.org/c?sig=key"])
def test_a_url_with_a_secret_is_refused_without_telling_it(secret: str) -> None:
    with pytest.raises(UnitcorpusError, match="give them as the store's own settings") as error:
        Remote(secret)
    assert "key@" not in str(error.value)
    assert "=key" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("gs://bucket/c", "cannot open gs://bucket/c: .*gcsfs"),
        ("nonsense://c", "cannot open nonsense://c: Protocol not known: nonsense"),
        ("local:///proc/nowhere/c", "cannot write to local:///proc/nowhere/c"),
    ],
)
def test_what_is_wrong_with_a_store_is_one_line(where: str, words: str) -> None:
    with pytest.raises(UnitcorpusError, match=words) as error:
        build(where)
    assert "\n" not in str(error.value)


def test_a_file_url_is_a_folder(tmp_path: Path, small_corpus: Path) -> None:
    shutil.copytree(small_corpus, tmp_path / "c")
    assert verify(f"file://{tmp_path}/c") == []
    assert unitcorpus.open(f"file://{tmp_path}/c").info == unitcorpus.open(small_corpus).info


def test_commands_work_at_a_url_or_say_that_they_do_not(url: str, tmp_path: Path) -> None:
    build(url, "shards.audio=flac")

    def command(*words: str) -> tuple[int, str]:
        whole = [sys.executable, "-m", "unitcorpus", *words]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    page = tmp_path / "page.html"
    assert command("report", url)[1] == (
        "unitcorpus: say with --out where the page is to be written\n"
    )
    code, said = command("report", url, "--out", str(page))
    assert (code, " clips" in said) == (0, True)
    assert "The audio is what was stored with the corpus." in page.read_text()
    assert "finished" in command("status", url)[1]
    refused = "unitcorpus: unitcorpus export --out wants a path of this machine, and"
    assert refused in command("export", url, "--out", f"{url}.jsonl")[1]
    assert command("push", url, "user/name") == (
        2,
        f"unitcorpus: unitcorpus push wants a path of this machine, and {url} is a URL\n",
    )
