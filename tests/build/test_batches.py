"""Batches of a build: composed by plan and recipe alone, within memory, and no sample the wiser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import unitcorpus
from checkpoints import make_kokoro
from checkpoints_hubert import make_hubert
from conftest import SMALL, Digests
from unitcorpus.build.agreement import exact, inexact
from unitcorpus.build.chunks import BATCHES, chunks, seconds_of
from unitcorpus.build.codebook import Fit, fit_codebook
from unitcorpus.build.folder import prepare_folder
from unitcorpus.build.plan import write_plan
from unitcorpus.build.request import resolve
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.build.worker import Progress, Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.inputs import PlannedPart
from unitcorpus.shards.receipt import read_receipt
from unitcorpus.speech import kokoro
from unitcorpus.speech.kokoro_batch import BatchedKokoro
from unitcorpus.units import hubert_batch
from unitcorpus.units.runs import expand

TEXTS = [
    "Run!",
    "The cat sat.",
    "A bird sang in the morning, and the fox heard it from far away.",
    "It was a long day. The rain fell on the hill, on the wood and on the old red barn. "
    "Nobody came by, and nobody was missed.",
    "Why not?",
    "The well was deep.",
    "She gave the bread to her brother, who gave her an apple, and they ate by the river.",
]


# --- chunks -----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2000), max_size=40), st.floats(0, 100))
def test_a_chunk_holds_no_more_than_its_batches_longest_first(
    lengths: list[int], budget: float
) -> None:
    parts = [PlannedPart("x" * length) for length in lengths]
    cut = chunks(parts, budget)
    order = [i for chunk in cut for i in chunk]
    assert order == sorted(range(len(parts)), key=lambda i: (-lengths[i], i))
    for chunk in cut:
        assert len(chunk) == 1 or len(chunk) * seconds_of(parts[chunk[0]]) <= BATCHES * budget


def test_without_a_budget_each_goes_alone() -> None:
    assert chunks([PlannedPart("one"), PlannedPart("longer")], 0) == [[1], [0]]


# --- kokoro and HuBERT ------------------------------------------------------------------------

Make = Callable[..., Path]

RECIPE = """
name: batches
source: {{kind: text, path: {root}/texts.jsonl}}
speech:
  engine: kokoro
  model: {root}/kokoro
  g2p: espeak
  speed: 3
  voices: [af_heart, bm_george]
units: {{extractor: hubert, model: {root}/hubert, layer: 3, codebook: {root}/book.npy}}
validation: 0
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kokoro and HuBERT of random weights, texts, a codebook fitted on them, and recipe.yaml."""
    root = tmp_path_factory.mktemp("models")
    make_kokoro(root / "kokoro")
    make_hubert(root / "hubert", layers=3)
    lines = [json.dumps({"text": text}) + "\n" for text in TEXTS]
    (root / "texts.jsonl").write_text("".join(lines))
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    recipe = load_recipe(str(root / "recipe.yaml"))
    fit_codebook(recipe, Fit(100, frames=100_000), "cpu", root / "book.npy")
    return root


@pytest.fixture
def make(models: Path, tmp_path: Path) -> Make:
    """Builds them under these overrides."""

    def build(*settings: str, executor: str = "local", workers: int = 1) -> Path:
        root = tmp_path / f"{executor} {workers} {' '.join(settings)}"
        recipe = load_recipe(str(models / "recipe.yaml"), settings)
        outcome = build_corpus(recipe, root, execution=Execution(executor, workers))
        assert outcome.corpus is not None, outcome.failures
        return root

    return build


def frames(root: Path) -> NDArray[np.uint16]:
    """The unit of every frame of a corpus, in its order."""
    samples = list(unitcorpus.open(root).samples())
    assert len(samples) == len(TEXTS)
    runs = ((s.units, s.durations) for s in samples)
    return np.concatenate([expand(units, d) for units, d in runs if d is not None])


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU takes one utterance at a time; a GPU's way through the models runs on it as well."""
    at_once = partial(BatchedKokoro, frames=1 << 40, together=torch.float64)
    monkeypatch.setattr(kokoro, "BatchedKokoro", at_once)
    monkeypatch.setattr(hubert_batch, "one_at_a_time", lambda device: False)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("precision", "least"), [("float64", 1.0), ("float32", 0.999)])
def test_units_do_not_depend_on_the_batch_budget(make: Make, precision: str, least: float) -> None:
    settings = f"speech.precision={precision}", f"units.precision={precision}"
    small, large = (
        frames(make(*settings, f"compute.batch_seconds={seconds}")) for seconds in (5, 60)
    )
    assert len(small) > 400
    assert len(np.unique(small)) > 50
    same = float((small == large).mean())
    print(f"{precision}: {(small != large).sum()} of {len(small)} units differ")
    assert same >= least


def test_on_a_cpu_the_budget_changes_no_byte(make: Make) -> None:
    small, large = (make(f"compute.batch_seconds={seconds}") for seconds in (5, 60))
    tar = Path("data") / "train-000000.tar"
    assert (small / tar).read_bytes() == (large / tar).read_bytes()


def test_the_same_budget_gives_the_same_bytes_on_any_executor(make: Make, digests: Digests) -> None:
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'unitcorpus[ray]'")
    settings = "compute.batch_seconds=10", "shards.samples=4"
    here = digests(make(*settings))
    for workers in (1, 2):
        assert digests(make(*settings, executor="ray", workers=workers)) == here


# --- memory -----------------------------------------------------------------------------------


def limited(worker: Worker, samples: int) -> None:
    """The extractor's model has memory for batches of this many samples."""

    def check(_module: Any, inputs: Any) -> None:
        if inputs[0].numel() > samples:
            raise torch.OutOfMemoryError("CUDA out of memory")

    worker.stages.extractor._model.register_forward_pre_hook(check)  # type: ignore[attr-defined]


@pytest.fixture
def worker(models: Path, tmp_path: Path, as_on_a_gpu: None) -> Iterator[Worker]:
    """A worker with a plan and nothing built."""
    recipe = load_recipe(str(models / "recipe.yaml"), ["compute.batch_seconds=40"])
    prepare_folder(tmp_path / "planned")
    worker = Worker(write_plan(resolve(recipe), tmp_path / "planned"), tmp_path / "planned")
    yield worker
    worker.close()


def test_out_of_memory_starts_the_shard_again_with_half_the_budget(
    worker: Worker, make: Make
) -> None:
    limited(worker, 10 * 16_000)
    seen: list[Progress] = []
    receipt = worker.build(worker.plan.shards[0], seen.append)
    assert receipt.run == {"attempt": 1, "batch_seconds": 10.0}
    assert read_receipt(worker.root, receipt.shard) == receipt
    assert seen[-1].rows == len(TEXTS)
    halved = make("compute.batch_seconds=10") / "data" / "train-000000.tar"
    assert (worker.root / "data" / "train-000000.tar").read_bytes() == halved.read_bytes()


def test_memory_for_not_even_one_utterance_is_an_error(worker: Worker) -> None:
    limited(worker, 100)
    with pytest.raises(torch.OutOfMemoryError):
        worker.build(worker.plan.shards[0])
    assert not list((worker.root / "data").glob("*.tar"))


# --- without models ---------------------------------------------------------------------------


def test_a_budget_leaves_the_bytes_of_stages_that_batch_nothing(
    small_corpus: Path, tmp_path: Path
) -> None:
    build_corpus(load_recipe("demo/stinystories", [*SMALL, "compute.batch_seconds=0"]), tmp_path)
    for shard in sorted((small_corpus / "data").iterdir()):
        assert (tmp_path / "data" / shard.name).read_bytes() == shard.read_bytes()


# --- options that are not exact ---------------------------------------------------------------


def test_a_build_refuses_options_that_change_units(make: Make, models: Path) -> None:
    with pytest.raises(UnitcorpusError, match=r"precision bfloat16: .* what they are without"):
        make("speech.precision=bfloat16")


def test_a_build_that_asks_for_less_agreement_goes_on(make: Make) -> None:
    settings = "speech.precision=bfloat16", "compute.agreement=0.01"
    whole, half = frames(make()), frames(make(*settings))
    assert len(whole) == len(half)
    assert 0.01 < (whole == half).mean() < 1


def test_exact_leaves_no_option_that_is_not(models: Path) -> None:
    options = "speech.precision=bfloat16", "speech.compile=true", "units.precision=float16"
    recipe = load_recipe(str(models / "recipe.yaml"), options)
    assert len(inexact(recipe)) == 3
    assert inexact(exact(recipe)) == []
    assert exact(recipe) == load_recipe(str(models / "recipe.yaml"))
    double = load_recipe(str(models / "recipe.yaml"), ["speech.precision=float64"])
    assert exact(double) == double
