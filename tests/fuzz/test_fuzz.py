"""Any bytes, wherever they are read from: parsed, or refused with our own error. Never another
exception, never a hang, never more memory than a bound."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from sklearn.cluster import KMeans
from unit_corpora import build_units

import unitcorpus
from mutations import bounded, changed, examples, mutated
from unitcorpus.build.rows import prepare
from unitcorpus.build.status import status
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.loading import load_section, recipe_folder
from unitcorpus.recipe.models import PublishedUnits, Recipe
from unitcorpus.recipe.sources import UnitsSource
from unitcorpus.shards import tar
from unitcorpus.shards.export import export
from unitcorpus.shards.format import read_npy, seal, unseal
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.reader import Sample
from unitcorpus.shards.verify import verify
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow
from unitcorpus.units.codebook import read_codebook

MIB = 1 << 20

SEALED = ["corpus.json", "index.json", "plan/plan.json", "plan/request.json"]

amounts = pytest.mark.parametrize("amount", [1, pytest.param(40, marks=pytest.mark.slow)])
"""The short form, and the long one: 40 times as many inputs."""


def fuzz(number: int, strategy: Any, read: Callable[[Any], Any], most: int) -> None:
    """Reads that many inputs; some are refused and some are not."""
    parsed = [0, 0]

    @examples(number)
    @given(data=strategy)
    def run(data: Any) -> None:
        parsed[bounded(lambda: read(data), most)] += 1

    run()
    assert min(parsed) > 0, parsed


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of two small shards."""
    rows = [{"units": [n, n + 1, 7], "duration": [1, 2, 3], "text": f"row {n}"} for n in range(6)]
    return build_units(tmp_path / "c", rows, samples=3)


def read_all(archive: bytes) -> None:
    """All that the reader gives of a shard."""
    for key, members in tar.scan(archive):
        sample = Sample(key, members)
        assert "/" not in key
        for part in ("units", "prompt"):
            if f"{part}.npy" in members:
                sample.part(part)
                sample.part_durations(part)
        if "json" in members:
            assert isinstance(sample.meta, dict)


@amounts
def test_shards(amount: int, small_corpus: Path) -> None:
    shard = (small_corpus / "data/train-000000.tar").read_bytes()
    members = next(tar.scan(shard))[1]
    small = BytesIO()
    written = tar.write_sample(
        small, "a", {"units.npy": bytes(members["units.npy"]), "json": b"{}"}
    )
    seeds = [small.getvalue() + tar.end(written), shard]
    fuzz(400 * amount, mutated(seeds), read_all, 8 * MIB)
    fuzz(
        400 * amount,
        mutated([bytes(members["units.npy"]), bytes(members["durations.npy"])]),
        lambda data: (read_npy(data, "<u2"), data)[1],
        MIB,
    )


def test_headers_that_claim_more_than_there_is(tmp_path: Path) -> None:
    """Sizes that nobody could allocate, and ones that would lead back or nowhere."""
    head = b"\x93NUMPY\x01\x00"
    for shape in (b"1000000000000", b"9" * 5000, b"-1", b"1, 2", b"0x10"):
        text = b"{'descr': '<u2', 'fortran_order': False, 'shape': (" + shape + b",), }\n"
        data = head + len(text).to_bytes(2, "little") + text
        assert not bounded(partial(read_npy, data, "<u2"), MIB)
        (tmp_path / "c.npy").write_bytes(data)
        assert not bounded(lambda: read_codebook(str(tmp_path / "c.npy")), 16 * MIB)
    block = tar.header("a.json", 512)
    for size in (
        b"-0000001000",
        b"77777777777",
        b"+0000001000",
        b"0o000001000",
        b"\x80" + b"\xff" * 10,
    ):
        header = block[:124] + size + block[135:]
        assert not bounded(partial(read_all, header + bytes(2048)), MIB)


@amounts
@pytest.mark.parametrize(
    "name", ["corpus.json", "index.json", "plan/plan.json", "plan/request.json"]
)
def test_sealed_files_of_a_stranger(amount: int, name: str, corpus: Path) -> None:
    """A digest that fits, over content that does not."""
    path = corpus / name
    sound = path.read_bytes()

    def read(content: dict[str, Any]) -> None:
        try:
            path.write_bytes(seal(content))
        except (ValueError, UnicodeEncodeError):  # no JSON
            path.write_bytes(sound)
        everything(corpus)

    @examples(100 * amount)
    @given(content=changed(unseal(sound, name)))
    def run(content: dict[str, Any]) -> None:
        bounded(lambda: read(content), None)

    run()


@amounts
def test_receipts_of_a_stranger(amount: int, corpus: Path) -> None:
    path = corpus / "receipts/train-000000.json"
    content = unseal(path.read_bytes(), path.name)

    def read(content: dict[str, Any]) -> None:
        path.write_bytes(seal(content))
        everything(corpus)

    @examples(100 * amount)
    @given(other=changed(content))
    def run(other: dict[str, Any]) -> None:
        bounded(lambda: read(other), None)

    run()


def everything(root: Path) -> None:
    """What can be asked of a corpus; raises what the first refusal raises."""
    errors = []
    for ask in (
        lambda: verify(root),
        lambda: status(root),
        lambda: export(unitcorpus.open(root), "jsonl", None, BytesIO()),
    ):
        try:
            ask()
        except UnitcorpusError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@amounts
def test_inputs_of_a_shard(amount: int, small_corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan/inputs/train-000000.parquet"
    path.parent.mkdir(parents=True)
    seeds = [(small_corpus / "plan/inputs" / path.name).read_bytes()]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_inputs(tmp_path, "train-000000", UTTERANCES)

    fuzz(150 * amount, mutated(seeds), read, 8 * MIB)


@amounts
def test_recipes(amount: int, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    seeds = [p.read_bytes() for p in sorted(recipe_folder().rglob("*.yaml"))]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_recipe(str(path))

    fuzz(250 * amount, mutated([s for s in seeds if b"source:" in s]), read, 8 * MIB)


@amounts
def test_overrides(amount: int) -> None:
    seeds = [b"shards.samples=5", b"dedup.near={threshold: 0.5}", b"speech.voices=[a, b]"]

    def read(data: bytes) -> None:
        load_recipe("demo/stinystories", [data.decode("utf-8", "replace")])

    fuzz(150 * amount, mutated(seeds), read, 8 * MIB)


def test_a_recipe_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    for text in (
        "\n".join(lines),
        "[" * 100_000,
        "a: " + "x" * (1 << 20),
        "!!python/name:os.system",
    ):
        path.write_text(text)
        assert not bounded(lambda: load_section(Recipe, str(path)), 16 * MIB)


@amounts
def test_codebooks(amount: int, tmp_path: Path) -> None:
    centroids = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    path = tmp_path / "codebook"
    npy, dumped = BytesIO(), BytesIO()
    np.save(npy, centroids)
    model = KMeans(3, n_init=1).fit(centroids)
    joblib.dump(model, dumped)
    pickles = [pickle.dumps(model, protocol=protocol) for protocol in (2, 5)]
    seeds = [npy.getvalue(), safetensors.numpy.save({"c": centroids}), dumped.getvalue(), *pickles]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_codebook(str(path))

    fuzz(500 * amount, mutated(seeds), read, 8 * MIB)


ROWS = [
    {"file_name": "a", "units": [1, 2, 3], "duration": [1, 1, 2], "text": "x"},
    {"id": "b", "audio_repr": "<Un3><Un49>"},
    {"prompt": [1, 2], "chosen": [3], "rejected": "<Un4>", "prompt_text": "a", "speaker": 3},
]


@amounts
@pytest.mark.parametrize("layout", ["utterances", "pairs"])
def test_published_units(amount: int, layout: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    recipe = Recipe(
        name="x",
        source=UnitsSource(path=str(path), layout=layout),
        units=PublishedUnits(name="x", size=500, frame_rate=25),
    )
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for row in open_source(recipe.source, 0).rows():
            if not isinstance(row, BadRow):
                prepare(row, recipe, durations=False)

    @examples(250 * amount)
    @given(data=mutated([*lines, b"".join(lines)]))
    def run(data: bytes) -> None:
        assert bounded(lambda: read(data), 8 * MIB)  # a bad line is a bad row, and no more

    run()


def test_a_small_file_that_unfolds_to_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb") as stream:
        for _ in range(200):
            stream.write(b"[" * MIB)
    section = UnitsSource(path=str(path))
    assert not bounded(lambda: list(open_source(section, 0).rows()), 300 * MIB)
