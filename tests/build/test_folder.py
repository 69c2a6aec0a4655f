"""The output folder: what is ours is replaced, what is not stays, whatever goes wrong between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

import unitcorpus
from conftest import SMALL, Digests
from unitcorpus.build import plan as planning
from unitcorpus.build.clean import Wanted, dedup_corpus
from unitcorpus.build.folder import PATTERNS, clear, remove_temporaries
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.models import Near
from unitcorpus.shards.verify import verify
from unitcorpus.sources.text import FileRows


def build(root: Path, *overrides: str, **options: Any) -> None:
    build_corpus(load_recipe("demo/stinystories", overrides), root, **options)


@pytest.fixture
def copy(small_corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_corpus, tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.parametrize(
    "setting", ["source.path=nofile.jsonl", "units.codebook=nofile.npy", "speech.voices=[xx-none]"]
)
def test_overwrite_keeps_the_old_corpus_if_no_new_one_can_be_made(
    copy: Path, small_corpus: Path, digests: Digests, setting: str
) -> None:
    with pytest.raises(UnitcorpusError):
        build(copy, setting, overwrite=True)
    assert digests(copy) == digests(small_corpus)


def test_overwrite_leaves_no_report_of_the_corpus_before(copy: Path) -> None:
    dedup_corpus(Wanted(copy, Near()))
    assert (copy / "dedup.json").is_file()
    clear(copy)
    assert not (copy / "dedup.json").exists()


def test_overwrite_never_touches_a_folder_of_someone_else(tmp_path: Path) -> None:
    for name in ("plan/thesis.md", "data/results.csv", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(UnitcorpusError, match="holds other files"):
        build(tmp_path, *SMALL, overwrite=True)
    assert (tmp_path / "plan/thesis.md").read_text() == "mine"
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("stop", range(0, len(PATTERNS), 3))
def test_a_kill_while_the_old_corpus_is_removed_can_be_repeated(
    copy: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr("unitcorpus.build.folder.PATTERNS", PATTERNS[:stop])
    clear(copy)
    monkeypatch.undo()
    build(copy, "source.limit=3", *SMALL, overwrite=True)
    assert verify(copy) == []
    assert len(unitcorpus.open(copy)) == 3


def test_a_source_inside_the_output_is_refused(copy: Path) -> None:
    (copy / "mine.jsonl").write_text('{"text": "A good day."}\n')
    with pytest.raises(UnitcorpusError, match="lie in each other"):
        build(copy, f"source.path={copy / 'mine.jsonl'}", overwrite=True)
    assert (copy / "mine.jsonl").exists()


def test_only_our_own_unfinished_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ours = tmp_path / "data" / ".train-000000.tar.tmp-0123abcd"
    theirs = tmp_path / ".my.tmp-notes"
    for path in (ours, theirs):
        path.write_text("x")
    remove_temporaries(tmp_path)
    assert (ours.exists(), theirs.exists()) == (False, True)


def test_an_edited_card_stays(copy: Path, small_corpus: Path) -> None:
    (copy / "README.md").write_text("my words")
    (copy / "receipts/train-000000.json").unlink()
    build(copy, *SMALL)
    assert (copy / "README.md").read_text() == "my words"
    assert verify(copy) == []


def test_options_that_exclude_each_other_are_refused_before_anything_is_done(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnitcorpusError, match="--executor ray"):
        build(tmp_path / "c", *SMALL, execution=Execution("local", 2))
    assert not (tmp_path / "c").exists()


def test_a_source_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "s.jsonl"
    source.write_text('{"text": "A good day."}\n')
    original = FileRows.rows

    def growing(self: FileRows) -> Any:
        yield from original(self)
        with source.open("a") as stream:
            stream.write('{"text": "Another day."}\n')

    monkeypatch.setattr(FileRows, "rows", growing)
    with pytest.raises(UnitcorpusError, match="changed while it was read"):
        build(tmp_path / "c", f"source.path={source}")
    monkeypatch.undo()
    build(tmp_path / "c", f"source.path={source}", "validation=0")
    assert len(unitcorpus.open(tmp_path / "c")) == 2


def test_a_changed_source_is_refused_with_what_changed(tmp_path: Path) -> None:
    source = tmp_path / "s.jsonl"
    source.write_text('{"text": "A good day."}\n')
    build(tmp_path / "c", f"source.path={source}")
    source.write_text('{"text": "A better day."}\n')
    with pytest.raises(UnitcorpusError, match=r"holds another corpus: .*source\.sha256"):
        build(tmp_path / "c", f"source.path={source}")


def test_another_version_of_the_format_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unitcorpus.build.request.FORMAT", 2)
    with pytest.raises(UnitcorpusError, match="format: 1 -> 2"):
        build(copy, *SMALL)


def test_ids_that_begin_anew_in_each_split_keep_both_splits(tmp_path: Path) -> None:
    folder = tmp_path / "stories"
    folder.mkdir()
    for split, day in (("train", "good"), ("validation", "bad")):
        rows = [{"id": i, "text": f"A {day} day, number {i}."} for i in range(3)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    splits = "{train: train, validation: validation}"
    build(tmp_path / "c", f"source={{kind: huggingface, path: {folder}, splits: {splits}}}")
    corpus = unitcorpus.open(tmp_path / "c")
    assert {s: len(list(corpus.samples(s))) for s in corpus.splits} == {"train": 3, "validation": 3}


def test_datasets_reads_a_corpus_whose_first_shard_holds_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"id": i, "text": text} for i, text in enumerate(["...!!!", "A good day.", "?!..."])]
    source = tmp_path / "s.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(tmp_path / "c", f"source.path={source}", "validation=0", "shards.samples=1")
    assert verify(tmp_path / "c") == []
    assert len(datasets.load_dataset(str(tmp_path / "c"))["train"]) == 1


def test_lines_that_cannot_be_read_do_not_tie_the_corpus_to_their_place(
    tmp_path: Path, digests: Digests
) -> None:
    lines = ['{"id": 1, "text": "A good day."}\n', '{"id": 2, "text": "A bad\n']
    for name, order in (("a", lines), ("b", [lines[1], lines[0]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(order))
        build(tmp_path / name, f"source.path={tmp_path / name}.jsonl")
    a, b = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert {k for k in a if a[k] != b[k]} == {"plan/rejects.jsonl"}


def test_secrets_of_a_url_and_local_names_stay_out_of_the_corpus() -> None:
    url = "https://user:SECRET@host.example/s.jsonl?X-Signature=SECRET"
    recipe = load_recipe("demo/stinystories", [f"source.path={url}"])
    assert recipe.public()["source"]["path"] == "https://host.example/s.jsonl"


def test_the_plan_appears_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "c", *SMALL)
    assert [p.name for p in (tmp_path / "c").iterdir()] == [".lock"]
