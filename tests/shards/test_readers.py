"""A corpus read by others: webdataset, datasets, fsspec, and our own reader, all alike."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pytest
import webdataset
import yaml

import unitcorpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.export import export
from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.reader import Sample


def values(sample: Sample) -> tuple[str, list[int], list[int], dict[str, Any]]:
    assert sample.durations is not None
    return sample.key, sample.units.tolist(), sample.durations.tolist(), sample.meta


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """datasets keeps what it prepares; here it goes away with the tests."""
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    yield
    patch.undo()


def test_webdataset_reads_the_same(small_corpus: Path) -> None:
    ours = [values(sample) for sample in unitcorpus.open(small_corpus).samples("train")]
    shards = sorted(str(path) for path in (small_corpus / "data").glob("train-*.tar"))
    theirs = [
        (
            s["__key__"],
            np.load(io.BytesIO(s["units.npy"])).tolist(),
            np.load(io.BytesIO(s["durations.npy"])).tolist(),
            json.loads(s["json"]),
        )
        for s in webdataset.WebDataset(shards, shardshuffle=False)
    ]
    assert theirs == ours


@pytest.mark.parametrize("through_the_card", [True, False])
def test_datasets_reads_the_same(small_corpus: Path, through_the_card: bool) -> None:
    if through_the_card:
        loaded = datasets.load_dataset(str(small_corpus))
    else:
        files = {s: str(small_corpus / f"data/{s}-*.tar") for s in ("train", "validation")}
        loaded = datasets.load_dataset("webdataset", data_files=files)
    corpus = unitcorpus.open(small_corpus)
    assert sorted(loaded) == corpus.splits
    for split in corpus.splits:
        theirs = [
            (r["__key__"], list(r["units.npy"]), list(r["durations.npy"]), r["json"])
            for r in loaded[split]
        ]
        assert theirs == [values(sample) for sample in corpus.samples(split)]


def test_the_card_names_the_splits_and_the_licence(small_corpus: Path) -> None:
    header = yaml.safe_load((small_corpus / "README.md").read_text().split("---")[1])
    assert [f["split"] for f in header["configs"][0]["data_files"]] == ["train", "validation"]
    assert header["license"] == "apache-2.0"


def test_random_access_gives_the_sample_of_the_iteration(small_corpus: Path) -> None:
    corpus = unitcorpus.open(small_corpus)
    for sample in list(corpus)[::-1]:
        assert values(corpus[sample.key]) == values(sample)
    for missing in ("train-000000-999999", "train-000099-000000", "nonsense", ""):
        with pytest.raises(KeyError):
            corpus[missing]


def test_a_corpus_reads_the_same_over_fsspec(small_corpus: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(small_corpus), "/corpus", recursive=True)
    remote = unitcorpus.open("memory://corpus")
    assert [values(s) for s in remote] == [values(s) for s in unitcorpus.open(small_corpus)]


def test_an_unknown_split_names_those_there_are(small_corpus: Path) -> None:
    with pytest.raises(UnitcorpusError, match="train, validation"):
        list(unitcorpus.open(small_corpus).samples("test"))


def test_a_damaged_shard_is_named(small_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(small_corpus, tmp_path / "c")
    shard = tmp_path / "c/data/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(DamagedError, match="train-000000"):
        list(unitcorpus.open(tmp_path / "c"))


def test_what_is_exported_can_be_imported_again(small_corpus: Path, tmp_path: Path) -> None:
    from unitcorpus.build.run import build_corpus
    from unitcorpus.recipe import load_recipe

    corpus = unitcorpus.open(small_corpus)
    with (tmp_path / "units.jsonl").open("wb") as stream:
        assert export(corpus, "jsonl", None, stream) == len(corpus)
    recipe = {
        "name": "again",
        "source": {"kind": "units", "path": str(tmp_path / "units.jsonl")},
        "units": {"extractor": "published", "name": "demo", "size": 100, "frame_rate": 50.0},
    }
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe))
    build_corpus(load_recipe(str(tmp_path / "again.yaml")), tmp_path / "again")
    again = {s.meta["id"]: values(s)[1:3] for s in unitcorpus.open(tmp_path / "again")}
    assert again == {s.meta["id"]: values(s)[1:3] for s in corpus}
