"""Compiled tokens: what the reader of the corpus gives, once, whole, and never of a damaged one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unitcorpus
from slam_model.tokens import check_same_units, open_tokens
from tiny import stories, write_corpus
from unitcorpus.errors import UnitcorpusError


def documents(location: Path, split: str = "train") -> list[list[int]]:
    """As the reader of the corpus has them."""
    samples = unitcorpus.open(location).samples(split)
    return [[1, *(int(unit) + 2 for unit in sample.units), 1] for sample in samples]


def flat(lists: list[list[int]]) -> list[int]:
    return [token for one in lists for token in one]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    splits = {"train": stories(30), "validation": stories(4, seed=1)}
    return write_corpus(tmp_path / "corpus", splits)


def test_documents_are_the_samples_of_the_split_in_order(corpus: Path) -> None:
    for split in ("train", "validation"):
        tokens = open_tokens(corpus, split)
        bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
        assert [tokens.tokens[a:b].tolist() for a, b in bounds] == documents(corpus, split)
        assert tokens.vocabulary == 52


def test_a_built_corpus_compiles(small_corpus: Path) -> None:
    tokens = open_tokens(small_corpus, "train")
    assert tokens.tokens.tolist() == flat(documents(small_corpus))


def test_a_url_compiles_to_the_same_tokens(corpus: Path) -> None:
    remote = open_tokens(f"file://{corpus}", "train", corpus.parent / "other")
    np.testing.assert_array_equal(remote.tokens, open_tokens(corpus, "train").tokens)


def test_shards_are_read_once(corpus: Path) -> None:
    first = open_tokens(corpus, "train")
    shutil.rmtree(corpus / "data")
    again = open_tokens(corpus, "train")
    np.testing.assert_array_equal(again.tokens, first.tokens)
    assert again.fingerprint == first.fingerprint


def test_a_changed_corpus_is_compiled_anew(corpus: Path) -> None:
    first = open_tokens(corpus, "train")
    shutil.rmtree(corpus)
    write_corpus(corpus, {"train": stories(30, seed=5)})
    again = open_tokens(corpus, "train")
    assert again.fingerprint != first.fingerprint
    assert again.tokens.tolist() == flat(documents(corpus))


def test_processes_that_start_together_share_one_compilation(corpus: Path, own_cache: Path) -> None:
    code = f"from slam_model.tokens import open_tokens; print(open_tokens({str(corpus)!r}).tokens)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert said == {f"{open_tokens(corpus).tokens}\n"}
    root = own_cache / "unitcorpus" / "tokens"
    assert len([path for path in root.iterdir() if path.is_dir()]) == 1


def test_a_process_waits_for_the_one_that_compiles(corpus: Path, own_cache: Path) -> None:
    root = own_cache / "unitcorpus" / "tokens"
    folder = root / open_tokens(corpus).fingerprint
    shutil.rmtree(folder)
    code = f"from slam_model.tokens import open_tokens; open_tokens({str(corpus)!r})"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen([sys.executable, "-c", code])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
    assert waiting.wait(60) == 0
    assert folder.is_dir()


def test_what_a_killed_compilation_left_is_replaced(corpus: Path, own_cache: Path) -> None:
    whole = open_tokens(corpus)
    root = own_cache / "unitcorpus" / "tokens"
    (root / whole.fingerprint).rename(root / f".{whole.fingerprint}.tmp")
    (root / f".{whole.fingerprint}.tmp" / "tokens.u16").write_bytes(b"half")
    assert open_tokens(corpus).tokens.tolist() == flat(documents(corpus))
    assert not (root / f".{whole.fingerprint}.tmp").exists()


def test_keys_are_those_of_the_samples(corpus: Path) -> None:
    tokens = open_tokens(corpus)
    keys = [sample.key for sample in unitcorpus.open(corpus).samples("train")]
    assert [tokens.key(document) for document in range(len(tokens))] == keys


def test_a_key_is_told_from_its_shard_when_the_corpus_is_gone(corpus: Path) -> None:
    tokens = open_tokens(corpus)
    shutil.rmtree(corpus)
    assert tokens.key(8) == "sample 1 of train-000001"


def test_a_corpus_without_corpus_json_is_refused(corpus: Path) -> None:
    (corpus / "corpus.json").unlink()
    with pytest.raises(UnitcorpusError, match=r"not a finished corpus.*run the same command again"):
        open_tokens(corpus)


@pytest.mark.parametrize("position", [0, 700, -20_000])
def test_one_changed_byte_of_a_shard_is_refused(corpus: Path, position: int) -> None:
    path = corpus / "data" / "train-000002.tar"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnitcorpusError, match="train-000002 is damaged"):
        open_tokens(corpus)


def test_a_missing_shard_is_refused(corpus: Path) -> None:
    (corpus / "data" / "train-000002.tar").unlink()
    with pytest.raises(UnitcorpusError, match=r"data/train-000002.tar is missing"):
        open_tokens(corpus)


def test_a_unit_beyond_the_codebook_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "wide", {"train": stories(9, size=60)}, size=50)
    with pytest.raises(UnitcorpusError, match=r"shard train-00000\d: unit 5\d in a codebook of 50"):
        open_tokens(corpus)


def test_an_unknown_split_is_refused_with_those_there_are(corpus: Path) -> None:
    with pytest.raises(UnitcorpusError, match="no split 'test'; its splits are train, validation"):
        open_tokens(corpus, "test")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"train": stories(3), "validation": []})
    with pytest.raises(UnitcorpusError, match="no samples"):
        open_tokens(corpus, "validation")


def test_pairs_are_not_pretrained_on(tmp_path: Path) -> None:
    row = {"right": stories(1)[0]["units"], "wrong": stories(1, seed=1)[0]["units"]}
    corpus = write_corpus(tmp_path / "swuggy", {"test": [row]})
    with pytest.raises(UnitcorpusError, match="holds contrasts"):
        open_tokens(corpus, "test")


def test_corpora_of_different_units_are_refused_by_both_names(tmp_path: Path) -> None:
    one = open_tokens(write_corpus(tmp_path / "one", {"train": stories(3)}))
    same = open_tokens(write_corpus(tmp_path / "same", {"train": stories(3, seed=1)}))
    other = open_tokens(write_corpus(tmp_path / "other", {"train": stories(3)}, size=100))
    check_same_units([one, same])
    with pytest.raises(
        UnitcorpusError, match=r"one \(test50, 50 units.*other \(test100, 100 units"
    ):
        check_same_units([one, same, other])


def test_a_cache_that_cannot_be_written_is_told(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UnitcorpusError, match=r"cannot keep compiled tokens in .*make room"):
        open_tokens(corpus, cache=file / "tokens")


@pytest.mark.skipif(not Path("/dev/full").exists() or os.name != "posix", reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_that_is_taken_for_whole(
    corpus: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: object) -> object:
        return real(Path("/dev/full") if path.name == "tokens.u16" else path, mode, *rest)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(UnitcorpusError, match="No space left"):
            open_tokens(corpus)
    assert open_tokens(corpus).tokens.tolist() == flat(documents(corpus))
