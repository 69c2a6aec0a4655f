"""The real recipe, recipes/stinystories.yaml, through the real libraries: datasets, kokoro and
transformers on checkpoints of the published layout with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unitcorpus
from checkpoints import make_kokoro
from checkpoints_hubert import make_hubert, make_kmeans_pickle
from conftest import Digests
from unitcorpus.build.plan import read_plan
from unitcorpus.build.run import build_corpus
from unitcorpus.build.stages import items_of, load_stages
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.verify import verify

STORIES = {
    "train": ["The cat ran.", "A bird sang.", "The cat ran!", "", "It was\na long day."],
    "validation": ["A dog dug.", "A BIRD sang"],
}
Settings = Callable[[], list[str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that put folders in place of what the recipe takes from the Hub."""
    root = tmp_path_factory.mktemp("models")
    kokoro = make_kokoro(root / "Kokoro-82M")
    hubert = make_hubert(root / "mhubert-base-25hz", style="mhubert25", layers=12)
    centroids = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    book = make_kmeans_pickle(root / "km500.bin", centroids)
    stories = root / "TinyStories"
    stories.mkdir()
    for split, texts in STORIES.items():
        pq.write_table(pa.table({"text": texts}), stories / f"{split}-00000-of-00001.parquet")
    return [
        f"source.path={stories}",
        f"speech.model={kokoro}",
        "speech.g2p=espeak",
        f"units.model={hubert}",
        f"units.codebook={book}",
        f"units.codebook_sha256={sha256(book.read_bytes()).hexdigest()}",
    ]


@pytest.fixture(scope="module")
def spoken(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("spoken") / "stinystories"
    outcome = build_corpus(load_recipe("stinystories", models), root)
    assert outcome.corpus is not None
    return root


def test_the_real_recipe_builds_and_verifies(spoken: Path) -> None:
    assert verify(spoken) == []
    corpus = unitcorpus.open(spoken)
    texts = {
        split: sorted(s.meta["text"] for s in corpus.samples(split)) for split in corpus.splits
    }
    # the official splits are kept, and what validation holds is dropped from train
    assert texts["validation"] == ["A BIRD sang", "A dog dug."]
    assert len(texts["train"]) == 2
    assert corpus.info["rejected"] == {"duplicate_text": 2, "empty_text": 1}


def test_the_unit_spec_names_everything_that_decides_a_unit(
    spoken: Path, models: list[str]
) -> None:
    spec = unitcorpus.open(spoken).unit_spec
    extractor = spec["extractor"]
    assert (extractor["kind"], extractor["layer"], spec["size"]) == ("hubert", 11, 500)
    assert spec["frame_rate"] == 25.0
    assert extractor["frames"]["padding"] == 40
    assert extractor["revision"].startswith("sha256:")
    speech = unitcorpus.open(spoken).info["speech"]
    assert (speech["engine"], speech["g2p"]) == ("kokoro", "espeak")
    for folder in (str(Path(models[1].partition("=")[2]).parent), "/tmp/"):
        assert folder not in (spoken / "corpus.json").read_text()


def test_built_again_every_byte_is_the_same(
    spoken: Path, models: list[str], tmp_path: Path, digests: Digests
) -> None:
    build_corpus(load_recipe("stinystories", models), tmp_path / "again")
    assert digests(tmp_path / "again") == digests(spoken)


def test_a_sample_does_not_depend_on_its_neighbours(spoken: Path, models: list[str]) -> None:
    """Each row synthesised alone, in reverse order, gives the units in the shard."""
    plan = read_plan(spoken, load_recipe("stinystories", models))
    stages = load_stages(plan, spoken)
    corpus = unitcorpus.open(spoken)
    for row in read_inputs(spoken, "train-000000", UTTERANCES)[::-1]:
        (alone,) = stages(items_of(row, plan.recipe.seed))
        assert not isinstance(alone, unitcorpus.errors.Reject)
        np.testing.assert_array_equal(alone.units, corpus[row.key].units)
        np.testing.assert_array_equal(alone.durations, corpus[row.key].durations)
    stages.close()


def test_other_weights_are_another_corpus(spoken: Path, models: list[str], tmp_path: Path) -> None:
    shutil.copytree(spoken, tmp_path / "c")
    other = make_hubert(tmp_path / "mhubert-base-25hz", style="mhubert25", layers=12, seed=1)
    changed = [f"units.model={other}" if m.startswith("units.model") else m for m in models]
    with pytest.raises(unitcorpus.UnitcorpusError, match=r"units\.extractor\.revision"):
        build_corpus(load_recipe("stinystories", changed), tmp_path / "c")


def test_a_codebook_of_another_width_is_refused(models: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "book.npy", np.zeros((5, 7), np.float32))
    changed = [*models, f"units.codebook={tmp_path / 'book.npy'}", "units.codebook_sha256=null"]
    with pytest.raises(unitcorpus.UnitcorpusError, match="width 7, extractor hubert gives 32"):
        build_corpus(load_recipe("stinystories", changed), tmp_path / "c")
