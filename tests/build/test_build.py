"""A build: the same bytes, whatever the order of the input and however often it stopped."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import unitcorpus
from conftest import SMALL, Digests
from unitcorpus.build.plan import read_plan
from unitcorpus.build.run import build_corpus
from unitcorpus.build.stages import load_stages
from unitcorpus.build.worker import Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.seeds import seed_of
from unitcorpus.shards.inputs import read_inputs
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.tar import scan
from unitcorpus.shards.verify import verify
from unitcorpus.speech.base import Utterance
from unitcorpus.units.resample import resample
from unitcorpus.units.runs import expand

STORIES = [
    "Tom found a red ball. He gave it to his friend, and they played until dark.",
    "A small bird could not fly. Her mother showed her how, and she tried again.",
    "The cat sat on the mat. The cat sat on the mat. The cat sat on the mat.",
    "Once there was a boat with no sail. It waited for the wind all day.",
    "Lily wanted a cake. She shared it with everyone at the party!",
    "Max the dog dug a deep hole. What did he find? A very old bone.",
    "It rained and rained. Anna put on her boots and jumped in the puddles.",
]


def build(root: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    outcome = build_corpus(load_recipe("demo/stinystories", overrides), root, **options)
    assert outcome.corpus is not None
    return outcome.corpus


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"source.path={path}"


def test_every_planned_row_is_a_sample_and_verify_is_content(small_corpus: Path) -> None:
    corpus = unitcorpus.open(small_corpus)
    assert len(corpus) == 12
    assert corpus.splits == ["train", "validation"]
    assert verify(small_corpus) == []
    assert len({sample.key for sample in corpus}) == 12
    assert len({sample.meta["id"] for sample in corpus}) == 12


def test_built_again_every_byte_is_the_same(
    small_corpus: Path, tmp_path: Path, digests: Digests
) -> None:
    build(tmp_path / "again", *SMALL)
    assert digests(tmp_path / "again") == digests(small_corpus)


def test_the_order_of_the_input_does_not_matter(tmp_path: Path, digests: Digests) -> None:
    rows = [{"id": i, "text": text} for i, text in enumerate(STORIES + STORIES[:2])]
    settings = ("shards.samples=3", "validation=0.3")
    build(tmp_path / "a", write_jsonl(tmp_path / "a.jsonl", rows), *settings)
    random.Random(1).shuffle(rows)
    build(tmp_path / "b", write_jsonl(tmp_path / "b.jsonl", rows), *settings)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_the_container_of_the_input_does_not_matter(tmp_path: Path, digests: Digests) -> None:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(STORIES)]
    build(tmp_path / "jsonl", write_jsonl(tmp_path / "s.jsonl", rows))
    lines = "".join(f'{r["id"]},"{r["text"]}"\n' for r in rows)
    (tmp_path / "s.csv").write_text("id,text\n" + lines)
    build(tmp_path / "csv", f"source.path={tmp_path / 's.csv'}")
    assert digests(tmp_path / "csv") == digests(tmp_path / "jsonl")


def test_units_and_durations_expand_to_the_frames_of_the_audio(small_corpus: Path) -> None:
    """Against the stages run again, one row alone."""
    recipe = load_recipe("demo/stinystories", SMALL)
    plan = read_plan(small_corpus, recipe)
    stages: Any = load_stages(plan, small_corpus)
    corpus = unitcorpus.open(small_corpus)
    for row in read_inputs(small_corpus, "train-000000", UTTERANCES)[::2]:
        seed = seed_of(recipe.seed, "speech", row.id)
        wave = stages.engine.synthesize([Utterance(row.id, row.text, row.voice, seed)])[0]
        wave = resample(wave, stages.engine.sample_rate, 16_000)
        features = stages.extractor.features([wave])[0]
        sample = corpus[row.key]
        assert sample.durations is not None
        assert sample.meta["num_samples"] == len(wave)
        np.testing.assert_array_equal(
            expand(sample.units, sample.durations), stages.quantise(features)
        )
    stages.close()


def test_running_again_builds_nothing(small_corpus: Path, tmp_path: Path, digests: Digests) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_corpus, root)
    before = {p: p.stat().st_mtime_ns for p in (root / "data").iterdir()}
    outcome = build_corpus(load_recipe("demo/stinystories", SMALL), root)
    assert outcome.resumed == len(outcome.plan.shards)
    assert {p: p.stat().st_mtime_ns for p in (root / "data").iterdir()} == before
    assert digests(root) == digests(small_corpus)


@pytest.mark.parametrize(
    "lost",
    [
        "data/train-000000.tar",
        "receipts/train-000001.json",
        "corpus.json",
        "index.json",
        "rejects/validation-000000.jsonl",
    ],
)
def test_what_is_missing_is_built_again_to_the_same_bytes(
    small_corpus: Path, tmp_path: Path, digests: Digests, lost: str
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_corpus, root)
    (root / lost).unlink()
    build(root, *SMALL)
    assert digests(root) == digests(small_corpus)
    assert verify(root) == []


def test_a_build_that_stops_between_shards_goes_on(
    small_corpus: Path, tmp_path: Path, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    original = Worker.build

    def interrupted(self: Worker, shard: Any, *rest: Any) -> Any:
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(shard.name)
        return original(self, shard, *rest)

    monkeypatch.setattr(Worker, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "c", *SMALL)
    assert not (tmp_path / "c" / "corpus.json").exists()
    monkeypatch.undo()
    outcome = build_corpus(load_recipe("demo/stinystories", SMALL), tmp_path / "c")
    assert outcome.resumed == 2
    assert digests(tmp_path / "c") == digests(small_corpus)


def test_a_shard_that_fails_is_tried_three_times_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_corpus: Path, digests: Digests
) -> None:
    tries: list[str] = []
    original = Worker.build

    def failing(self: Worker, shard: Any, *rest: Any) -> Any:
        if shard.name == "train-000001":
            tries.append(shard.name)
            raise RuntimeError("the model broke")
        return original(self, shard, *rest)

    monkeypatch.setattr(Worker, "build", failing)
    recipe = load_recipe("demo/stinystories", SMALL)
    outcome = build_corpus(recipe, tmp_path / "c")
    assert outcome.corpus is None
    assert len(tries) == 3
    assert [f.error for f in outcome.failures] == ["RuntimeError: the model broke"]
    assert not (tmp_path / "c" / "corpus.json").exists()
    monkeypatch.undo()
    build(tmp_path / "c", *SMALL)
    assert digests(tmp_path / "c") == digests(small_corpus)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((*SMALL, "seed=1"), "recipe.seed: 0 -> 1"),
        ((*SMALL, "speech.rate=200"), "recipe.speech.rate: 175 -> 200"),
        ((*SMALL, "source.limit=3"), "recipe.source.limit: None -> 3"),
    ],
)
def test_another_corpus_in_the_folder_is_refused_with_what_changed(
    small_corpus: Path, tmp_path: Path, digests: Digests, overrides: tuple[str, ...], words: str
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_corpus, root)
    with pytest.raises(UnitcorpusError, match=words):
        build(root, *overrides)
    assert digests(root) == digests(small_corpus)


def test_overwrite_replaces_a_corpus_and_keeps_foreign_files(
    small_corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(small_corpus, root)
    (root / "notes.txt").write_text("mine")
    build(root, *SMALL, "source.limit=3", overwrite=True)
    assert len(unitcorpus.open(root)) == 3
    assert verify(root) == []
    assert (root / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UnitcorpusError, match=r"thesis\.tex"):
        build(tmp_path, *SMALL, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_bad_rows_are_listed_and_change_no_other_sample(tmp_path: Path) -> None:
    good = [{"id": f"g{i}", "text": text} for i, text in enumerate(STORIES)]
    bad: list[dict[str, Any]] = [
        {"id": "empty", "text": ""},
        {"id": "blank", "text": " \n\t \x00\x07"},
        {"id": "long", "text": "word " * 20_000},
        {"id": "silent", "text": "...!!!"},
        {"id": "null", "text": None},
        {"id": "again", "text": STORIES[0].upper() + "!!"},
        {"id": "g1", "text": "The same id with another text, which has to go."},
    ]
    odd = [
        {"id": "emoji", "text": "A happy \U0001f600 day \U0001f469‍\U0001f680"},
        {"id": "mixed", "text": "Привет means hello, 你好 too, and שלום."},
        {"id": "control", "text": "one\x00two\x1b[31mthree\x7f"},
        {"id": "surrogate", "text": "broken \ud83d here"},
        {"id": "ssml", "text": "<break time='9s'/> [[h@'loU]] a < b & c"},
    ]
    rows = [*good[:3], *bad, *odd, *good[3:]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"id": "cut", "text": "once up')
    build(tmp_path / "bad", f"source.path={path}", "validation=0")
    build(tmp_path / "good", write_jsonl(tmp_path / "good.jsonl", good), "validation=0")
    assert verify(tmp_path / "bad") == []

    found = {
        s.meta["id"]: (s.meta["text"], s.units.tolist()) for s in unitcorpus.open(tmp_path / "bad")
    }
    clean = {
        s.meta["id"]: (s.meta["text"], s.units.tolist()) for s in unitcorpus.open(tmp_path / "good")
    }
    kept = {k: v for k, v in clean.items() if k not in ("g0", "g1")}
    assert {k: v for k, v in found.items() if k in kept} == kept
    assert set(found) - set(clean) - {"again"} <= {row["id"] for row in odd}

    lines = (tmp_path / "bad/plan/rejects.jsonl").read_text().splitlines()
    lines += (tmp_path / "bad/rejects/train-000000.jsonl").read_text().splitlines()
    reasons = sorted(json.loads(line)["reason"] for line in lines)
    assert len(found) + len(lines) == len(rows) + 1
    for reason in (
        "duplicate_id",
        "duplicate_text",
        "empty_text",
        "malformed_json",
        "not_text",
        "silence",
        "too_long",
    ):
        assert reason in reasons


def test_audio_is_kept_beside_the_units_when_asked(tmp_path: Path) -> None:
    build(tmp_path / "c", "source.count=3", "shards.audio=flac")
    assert verify(tmp_path / "c") == []
    corpus = unitcorpus.open(tmp_path / "c")
    shards = (tmp_path / "c" / "audio").glob("*.tar")
    audio = {key: members["flac"] for path in shards for key, members in scan(path.read_bytes())}
    assert set(audio) == {sample.key for sample in corpus}
    for sample in corpus:
        wave, rate = soundfile.read(io.BytesIO(audio[sample.key]))
        assert (rate, len(wave)) == (16_000, sample.meta["num_samples"])
        assert float(np.abs(wave).max()) > 0.05


def test_near_duplicates_are_dropped_when_the_recipe_says_so(tmp_path: Path) -> None:
    long = " ".join(STORIES)
    rows = [{"id": "a", "text": long}, {"id": "b", "text": long.replace("red ball", "green ball")}]
    settings = write_jsonl(
        tmp_path / "s.jsonl", [*rows, {"id": "c", "text": " ".join(STORIES[::-1])}]
    )
    assert build(tmp_path / "without", settings)["rejected"] == {}
    near = "dedup.near={threshold: 0.8}"
    assert build(tmp_path / "with", settings, near)["rejected"] == {"near_duplicate": 1}


def test_published_units_become_a_corpus_without_synthesis(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.flac", "units": [3, 49, 7], "duration": [2, 1, 5]},
        {"file_name": "b.flac", "units": [9, 9, 4], "duration": [1, 2, 3]},
        {"file_name": "c.flac", "units": [1, 900], "duration": [1, 1]},
    ]
    path = tmp_path / "units.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    corpus = build_corpus(load_units_recipe(path), tmp_path / "c").corpus
    assert corpus is not None
    assert corpus["rejected"] == {"bad_units": 1}
    assert verify(tmp_path / "c") == []
    found = {s.meta["id"]: s for s in unitcorpus.open(tmp_path / "c")}
    assert found["a.flac"].units.tolist() == [3, 49, 7]
    assert found["b.flac"].units.tolist() == [9, 4]
    assert found["b.flac"].durations is not None
    assert found["b.flac"].durations.tolist() == [3, 3]
    assert found["a.flac"].meta["seconds"] == 8 / 25


def test_published_units_without_durations_say_so(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    path.write_text('{"file_name": "a", "audio_repr": "<Un3><Un49>"}\n')
    build_corpus(load_units_recipe(path), tmp_path / "c")
    corpus = unitcorpus.open(tmp_path / "c")
    assert corpus.unit_spec["durations"] is False
    assert next(iter(corpus)).durations is None
    assert verify(tmp_path / "c") == []


def test_frame_level_units_are_collapsed_with_their_durations(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    path.write_text('{"id": "a", "units": [5, 5, 5, 2, 2, 5]}\n')
    build_corpus(load_units_recipe(path, "units.collapsed=false"), tmp_path / "c")
    sample = next(iter(unitcorpus.open(tmp_path / "c")))
    assert sample.durations is not None
    assert expand(sample.units, sample.durations).tolist() == [5, 5, 5, 2, 2, 5]


def load_units_recipe(path: Path, *overrides: str) -> Any:
    import yaml

    recipe = path.with_suffix(".yaml")
    units = {"extractor": "published", "name": "mhubert", "size": 500, "frame_rate": 25.0}
    source = {"kind": "units", "path": str(path)}
    recipe.write_text(yaml.safe_dump({"name": "mine", "source": source, "units": units}))
    return load_recipe(str(recipe), overrides)


def test_threads_of_the_process_are_those_of_the_recipe(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        build(tmp_path / "c", "source.count=1", "compute.threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
