"""Names and links that lead elsewhere: none is followed where something is written, and none that a
corpus brings along is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from unit_corpora import build_units

from unitcorpus.build.lock import build_lock
from unitcorpus.build.repair import repair
from unitcorpus.build.run import build_corpus
from unitcorpus.build.status import status
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import PublishedUnits, Recipe, Shards
from unitcorpus.recipe.sources import UnitsSource
from unitcorpus.shards import tar
from unitcorpus.shards.format import MAX_JSON, MAX_META, DamagedError, seal, unseal
from unitcorpus.shards.reader import open_corpus
from unitcorpus.shards.store import is_safe
from unitcorpus.shards.verify import verify
from unitcorpus.shards.writer import AtomicFile, write_atomic

PRECIOUS = b"do not touch"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"id": str(n), "units": [n, n + 1], "duration": [1, 2], "text": "a"} for n in range(4)]
    return build_units(tmp_path / "c", rows, samples=2)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(PRECIOUS)
    return path


def again(root: Path) -> None:
    """The build of `corpus`, with a receipt missing so that it has something to do."""
    (root / "receipts/train-000000.json").unlink()
    recipe = Recipe(
        name="units",
        source=UnitsSource(path=str(root.with_suffix(".jsonl"))),
        units=PublishedUnits(name="made up", size=500, frame_rate=25),
        shards=Shards(samples=2),
        validation=0,
    )
    assert build_corpus(recipe, root).corpus is not None


@pytest.mark.parametrize(
    "name",
    [
        *("data/train-000000.tar", "rejects/train-000000.jsonl", "index.json", "corpus.json"),
        *(".progress.json", ".progress.json.tmp-0", ".building", ".recipe.json"),
        *(".corpus.json.tmp-00000000", ".plan.tmp-0"),
    ],
)
def test_a_link_in_the_folder_is_replaced_and_never_written_through(
    name: str, corpus: Path, precious: Path
) -> None:
    due = (corpus / "data/train-000000.tar").read_bytes()
    (corpus / name).unlink(missing_ok=True)
    (corpus / name).symlink_to(precious)
    again(corpus)
    assert precious.read_bytes() == PRECIOUS
    assert (corpus / "data/train-000000.tar").read_bytes() == due
    assert verify(corpus) == []
    assert not any(path.is_symlink() for path in corpus.rglob("*"))


def test_a_link_for_the_lock_is_refused(corpus: Path, precious: Path) -> None:
    (corpus / ".lock").unlink()
    (corpus / ".lock").symlink_to(precious)
    with (
        pytest.raises(UnitcorpusError, match="is a link, which no build makes"),
        build_lock(corpus),
    ):
        pass
    assert precious.read_bytes() == PRECIOUS


def test_a_link_at_a_temporary_name_is_not_followed(
    tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who could guess the name."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".a.json.tmp-guessed").symlink_to(precious)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a.json", b"{}")
    assert precious.read_bytes() == PRECIOUS


def test_temporary_names_cannot_be_guessed(tmp_path: Path) -> None:
    names = {AtomicFile(tmp_path / "a")._temporary for _ in range(100)}
    assert len(names) == 100


def test_a_linked_file_of_a_corpus_is_read_like_the_file(corpus: Path, tmp_path: Path) -> None:
    """As in the cache of the Hub, where every file is a link."""
    shutil.move(corpus / "data/train-000000.tar", tmp_path / "blob")
    (corpus / "data/train-000000.tar").symlink_to(tmp_path / "blob")
    assert verify(corpus) == []
    assert len(list(open_corpus(corpus))) == 4
    (tmp_path / "blob").write_bytes(b"other")
    assert any("train-000000.tar" in problem for problem in verify(corpus))


@pytest.mark.parametrize("name", ["../../precious-000000", "/etc/x-000000", "a/b-000000", "..", ""])
def test_a_plan_whose_shards_are_paths_is_refused(name: str, corpus: Path) -> None:
    path = corpus / "plan/plan.json"
    plan = unseal(path.read_bytes(), path.name)
    plan["shards"][0]["name"] = name
    path.write_bytes(seal(plan))
    assert "plan/plan.json is not a plan of this version" in verify(corpus)
    for use in (repair, status):
        with pytest.raises(UnitcorpusError, match="not a plan of this version"):
            use(corpus)


def test_an_index_whose_shards_are_paths_is_refused(corpus: Path) -> None:
    path = corpus / "index.json"
    for url in ("data/../../x.tar", "/etc/passwd", "data//etc/passwd", "x", None):
        content = unseal(path.read_bytes(), path.name)
        content["shardlist"][0]["url"] = url
        path.write_bytes(seal(content))
        with pytest.raises(DamagedError, match=r"index.json is not of this format"):
            open_corpus(corpus).shards()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "//x", "a\\..\\x", "a\0", ""])
def test_a_name_that_leads_out_is_known(name: str) -> None:
    assert not is_safe(name)
    assert is_safe("plan/inputs/train-000000.parquet")


def test_an_object_whose_name_leads_out_is_not_fetched(corpus: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(corpus), "/hostile", recursive=True)
    escaped = tmp_path / "escaped.json"
    memory.store[f"/hostile/{escaped}"] = memory.store["/hostile/corpus.json"]
    try:
        with pytest.raises(UnitcorpusError, match="a name that leads out of it"):
            verify("memory://hostile")
    finally:
        memory.rm("/hostile", recursive=True)
    assert not escaped.exists()


def test_files_beyond_all_measure_are_refused_by_their_size(corpus: Path) -> None:
    """Sparse ones: nothing of them is read."""
    for name in ("corpus.json", "index.json", "receipts/train-000000.json", "plan/plan.json"):
        whole = (corpus / name).read_bytes()
        with (corpus / name).open("r+b") as file:
            file.truncate(MAX_JSON + 1)
        try:
            found = verify(corpus)
        except UnitcorpusError as error:
            found = [str(error)]
        assert any("too large to be ours" in problem for problem in found), (name, found)
        (corpus / name).write_bytes(whole)


def test_a_sample_whose_json_is_too_large_is_refused_unread(corpus: Path) -> None:
    size = 1 << 30
    path = corpus / "data/train-000000.tar"
    with path.open("wb") as file:
        file.write(tar.header("train-000000-000000.json", size))
        file.truncate(512 + size + 1024)
    [sample, *_] = open_corpus(corpus).samples("train")
    with pytest.raises(DamagedError, match=f"its JSON has {size} bytes: too large"):
        _ = sample.meta
    assert size > MAX_META
