"""Pairs through the whole machinery: plan, worker, shards, verify, export and back."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import nltk
import numpy as np
import pytest
from datasets import load_dataset

import unitcorpus
from checkpoints import make_kokoro
from checkpoints_hubert import make_hubert, make_kmeans_pickle
from conftest import Digests
from unitcorpus.build.plan import read_plan
from unitcorpus.build.run import Execution, build_corpus
from unitcorpus.build.stages import items_of, load_stages
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.seeds import seed_of
from unitcorpus.shards.export import export
from unitcorpus.shards.format import read_sealed
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.layout import PAIRS
from unitcorpus.shards.verify import verify
from unitcorpus.speech.base import Utterance
from unitcorpus.units.resample import resample

SMALL = ("source.count=14", "shards.samples=6")
PARTS = ("prompt", "chosen", "rejected")
FAR = "over every green hill until the long night fell on his small house"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs") / "demo"
    assert build_corpus(load_recipe("demo/spokenswag", SMALL), root).corpus is not None
    return root


def test_pairs_build_and_verify(built: Path) -> None:
    assert verify(built) == []
    corpus = unitcorpus.open(built)
    assert corpus.layout == PAIRS
    assert corpus.info["layout"]["seam"] == "not collapsed"
    request = read_sealed(built / "plan/request.json")["request"]
    assert request["tokenizer"] == f"nltk {nltk.__version__}"
    samples = list(corpus.samples("train"))
    assert len(samples) == 14
    for sample in samples:
        assert set(sample.meta["scores"]) == {
            f"{of}_{variant}_{side}"
            for of in ("text", "units")
            for variant in ("slam", "gslm")
            for side in ("chosen", "rejected")
        }


def test_each_units_are_those_of_its_own_text_spoken_alone(built: Path) -> None:
    recipe = load_recipe("demo/spokenswag", SMALL)
    stages: Any = load_stages(read_plan(built, recipe), built)
    corpus = unitcorpus.open(built)
    for sample in list(corpus)[::5]:
        for part in PARTS:
            text, name = sample.meta[f"{part}_text"], sample.meta["id"]
            seed = seed_of(recipe.seed, "speech", name, part)
            said = Utterance("other", text, sample.meta["voice"], seed)
            wave = stages.engine.synthesize([said])[0]
            wave = resample(wave, stages.engine.sample_rate, 16_000)
            units = stages.quantise(stages.extractor.features([wave])[0])
            durations = sample.part_durations(part)
            assert durations is not None
            np.testing.assert_array_equal(np.repeat(sample.part(part), durations), units)
            assert sample.meta[f"{part}_seconds"] == len(wave) / 16_000
    stages.close()


def test_executors_workers_and_kills_give_the_same_bytes(
    built: Path, tmp_path: Path, digests: Digests
) -> None:
    recipe = load_recipe("demo/spokenswag", SMALL)
    for name, how in {"one": Execution("ray", 1), "two": Execution("ray", 2)}.items():
        build_corpus(recipe, tmp_path / name, execution=how)
        assert digests(tmp_path / name) == digests(built)
    (tmp_path / "two" / "data" / "train-000001.tar").unlink()  # as a kill before the receipt
    assert build_corpus(recipe, tmp_path / "two").resumed == 2
    assert digests(tmp_path / "two") == digests(built)


def test_the_order_of_the_file_does_not_matter(tmp_path: Path, digests: Digests) -> None:
    rows = [
        {"ind": i, "ctx": f"Number {i} is up. It", "endings": [f"{w} {i}." for w in "abcd"]}
        | {"label": i % 4}
        for i in range(7)
    ]
    for name, order in {"a": 0, "b": 1}.items():
        random.Random(order).shuffle(rows)
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = load_recipe("demo/spokenswag", [f"source.path={path}"])
        build_corpus(recipe, tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_datasets_reads_pairs_through_the_card(built: Path, tmp_path: Path) -> None:
    data = load_dataset(str(built), cache_dir=str(tmp_path))["train"]
    corpus = unitcorpus.open(built)
    assert len(data) == len(corpus)
    for row in data:
        sample = corpus[row["__key__"]]
        assert row["json"] == sample.meta
        for part in PARTS:
            assert row[f"{part}.npy"] == sample.part(part).tolist()


@pytest.mark.parametrize("format", ["jsonl", "tokens"])
def test_exported_pairs_are_imported_without_a_change(
    built: Path, tmp_path: Path, format: str
) -> None:
    """The published columns, and back, through a source of kind `units`."""
    corpus, path = unitcorpus.open(built), tmp_path / "pairs.jsonl"
    with path.open("wb") as stream:
        assert export(corpus, format, None, stream) == 14
    line = json.loads(path.read_text().splitlines()[0])
    published = {"speaker", "auto_bleu2", *PARTS, *(f"{part}_text" for part in PARTS)}
    assert published <= set(line)
    name = tmp_path / "published.yaml"
    name.write_text(
        f"name: published\nsource: {{kind: units, layout: pairs, path: {path}}}\n"
        "units: {extractor: published, name: demo, size: 100, frame_rate: 50}\nvalidation: 0\n"
    )
    build_corpus(load_recipe(str(name)), tmp_path / "again")
    assert verify(tmp_path / "again") == []
    again = {sample.meta["id"]: sample for sample in unitcorpus.open(tmp_path / "again")}
    for sample in corpus:
        other = again[sample.meta["id"]]
        assert other.meta["scores"] == sample.meta["scores"]
        assert other.meta["voice"] == sample.meta["voice"]
        for part in PARTS:
            np.testing.assert_array_equal(other.part(part), sample.part(part))
            assert other.meta[f"{part}_text"] == sample.meta[f"{part}_text"]
            runs = other.part_durations(part)
            assert (runs is None) == (format == "tokens")
            if runs is not None:
                np.testing.assert_array_equal(runs, sample.part_durations(part))


def test_a_filter_of_seconds_wants_durations(tmp_path: Path) -> None:
    (tmp_path / "u.jsonl").write_text('{"prompt": [1], "chosen": [2], "rejected": [3]}\n')
    (tmp_path / "r.yaml").write_text(
        f"name: p\nsource: {{kind: units, layout: pairs, path: {tmp_path / 'u.jsonl'}}}\n"
        "units: {extractor: published, name: x, size: 9, frame_rate: 25}\n"
        "filters: {long: {measure: seconds, max: 3}}\n"
    )
    with pytest.raises(UnitcorpusError, match=r"filters\.long looks at seconds, but"):
        build_corpus(load_recipe(str(tmp_path / "r.yaml")), tmp_path / "c")


def test_rejects_of_filters_carry_reason_and_scores(tmp_path: Path) -> None:
    rows = [
        {"id": "same", "prompt": "A.", "chosen": "It ran.", "rejected": "It ran."},
        {"id": "loop", "prompt": "A b A b A b.", "chosen": "A b A b.", "rejected": "No."},
        {"id": "long", "prompt": "A fox.", "chosen": f"It ran {FAR}.", "rejected": "No."},
        {"id": "fine", "prompt": "A fox.", "chosen": "It ran home.", "rejected": "It sat down."},
        {"id": "void", "prompt": "", "chosen": "It ran home.", "rejected": "It sat down."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"source.path={path}",
        "filters.auto_bleu.below=0.5",
        "filters.ratio={measure: length_ratio, max: 3}",
    ]
    root = tmp_path / "c"
    corpus = build_corpus(load_recipe("demo/spokenswag", settings), root).corpus
    assert corpus is not None
    counted = {"same_text": 1, "auto_bleu": 1, "ratio": 1, "empty_text": 1}
    assert corpus["rejected"] == dict(sorted(counted.items()))
    assert [sample.meta["id"] for sample in unitcorpus.open(root)] == ["fine"]
    planned = [json.loads(x) for x in (root / "plan/rejects.jsonl").read_text().splitlines()]
    [early] = [line for line in planned if line["reason"] == "auto_bleu"]
    assert early["scores"]["text_slam_chosen"] > 0.5
    assert [x["detail"] for x in planned if x["id"] == "void"] == ["prompt: the text is empty"]
    [late] = [json.loads(x) for x in (root / "rejects/train-000000.jsonl").read_text().splitlines()]
    assert (late["id"], late["reason"]) == ("long", "ratio")
    assert late["scores"]["units_slam_chosen"] > 0
    assert verify(root) == []


# --- with the real kokoro package, on random weights ------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    kokoro = make_kokoro(root / "Kokoro-82M")
    hubert = make_hubert(root / "mhubert-base-25hz", style="mhubert25", layers=12)
    centroids = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    book = make_kmeans_pickle(root / "km500.bin", centroids)
    return [
        f"speech.model={kokoro}",
        "speech.g2p=espeak",
        f"units.model={hubert}",
        f"units.codebook={book}",
        f"units.codebook_sha256={sha256(book.read_bytes()).hexdigest()}",
    ]


SWAG_ROWS = [
    {"video-id": f"v{i}", "fold-ind": str(i), "sent1": f"Line {i}.", "sent2": "He"}
    | {f"ending{e}": f"goes {e}." for e in range(4)}
    | {"gold-source": "gold", "label": i % 4}
    for i in range(4)
]
LONG = " and ".join(f"number {n} went up the hill" for n in range(24)) + "."


def swag(folder: Path, models: list[str], rows: list[dict[str, Any]]) -> unitcorpus.Corpus:
    folder.mkdir()
    path = folder / "swag.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus(
        load_recipe("spokenswag", [*models, f"source.path={path}", "filters.auto_bleu=null"]),
        folder / "c",
    )
    assert verify(folder / "c") == []
    return unitcorpus.open(folder / "c")


def test_long_and_empty_texts_leave_every_other_pair_as_it_is(
    models: list[str], tmp_path: Path
) -> None:
    """The published script gave the audio of a text's second piece to the next file."""
    plain = {s.meta["id"]: s for s in swag(tmp_path / "plain", models, SWAG_ROWS)}
    odd = [
        {**SWAG_ROWS[0], "fold-ind": "8", "sent1": LONG},
        {**SWAG_ROWS[1], "fold-ind": "9", "sent1": ""},
        {**SWAG_ROWS[2], "fold-ind": "10", "sent1": "…"},
    ]
    corpus = swag(tmp_path / "odd", models, [odd[0], *SWAG_ROWS, *odd[1:]])
    found = {sample.meta["id"]: sample for sample in corpus}
    assert set(found) == {*plain, "v0-8"}
    assert corpus.info["rejected"] == {"empty_text": 1, "no_phonemes": 1}
    assert found["v0-8"].meta["prompt_seconds"] > 5 * found["v0-0"].meta["prompt_seconds"]
    for name, sample in plain.items():
        for part in PARTS:
            np.testing.assert_array_equal(found[name].part(part), sample.part(part))
    voices = {sample.meta["voice"] for sample in found.values()}
    assert voices <= {"af_heart", "am_fenrir", "bf_emma", "bm_george"}


def test_a_pairs_three_texts_have_three_seeds(models: list[str], tmp_path: Path) -> None:
    corpus = swag(tmp_path / "s", models, SWAG_ROWS)
    del corpus
    recipe = load_recipe("spokenswag", [*models, f"source.path={tmp_path / 's/swag.jsonl'}"])
    for row in read_inputs(tmp_path / "s" / "c", "train-000000", PAIRS):
        assert len({item.seed for item in items_of(row, recipe.seed)}) == 3
