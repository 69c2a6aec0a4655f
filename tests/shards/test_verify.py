"""`verify` finds what was changed, wherever: a flipped byte, a cut, a file lost or left over."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards import tar
from unitcorpus.shards.check import check_sample
from unitcorpus.shards.format import npy_bytes, seal, unseal
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.shards.layout import UTTERANCES
from unitcorpus.shards.reader import Sample, open_corpus
from unitcorpus.shards.receipt import read_receipt, write_receipt
from unitcorpus.shards.verify import verify
from unitcorpus.shards.writer import ShardWriter


@pytest.fixture
def copy(small_corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_corpus, tmp_path / "c")
    return tmp_path / "c"


def covered(root: Path) -> list[Path]:
    """Every file that verify answers for: all but the card, which people edit, and hidden files."""
    files = sorted(
        p for p in root.rglob("*") if p.is_file() and p.name != "README.md" and p.name[0] != "."
    )
    return [p for p in files if p.stat().st_size]


def problems_of(root: Path) -> list[str]:
    try:
        return verify(root)
    except UnitcorpusError as error:
        return [str(error)]


def test_a_whole_corpus_has_no_problems(copy: Path) -> None:
    assert verify(copy) == []


def test_every_flipped_byte_is_found_and_its_file_named(copy: Path) -> None:
    draw = random.Random(7)
    for path in covered(copy):
        data = path.read_bytes()
        for at in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(3))}:
            flipped = bytearray(data)
            flipped[at] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            found = problems_of(copy)
            assert any(path.name in problem for problem in found), (path.name, at, found)
        path.write_bytes(data)
    assert verify(copy) == []


def test_every_cut_and_every_lost_file_is_found_and_named(copy: Path) -> None:
    draw = random.Random(8)
    for path in covered(copy):
        data = path.read_bytes()
        path.write_bytes(data[: draw.randrange(len(data))])
        assert any(path.name in problem for problem in problems_of(copy)), path.name
        path.unlink()
        assert any(path.name in problem for problem in problems_of(copy)), path.name
        path.write_bytes(data)
    assert verify(copy) == []


def test_a_remote_corpus_is_verified_like_a_local_one(copy: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(copy), "/remote", recursive=True)
    assert verify("memory://remote") == []
    name = "/remote/data/train-000001.tar"
    whole = memory.cat_file(name)
    memory.pipe_file(name, whole[:600] + b"?" + whole[601:])
    memory.pipe_file("/remote/receipts/other.json", b"{}")
    assert verify("memory://remote") == [
        "data/train-000001.tar was changed: its sha256 is not the one in its receipt",
        "receipts/other.json is not part of the corpus",
    ]
    memory.rm("/remote", recursive=True)
    with pytest.raises(UnitcorpusError, match="is not a finished corpus"):
        verify("memory://remote")


def test_a_file_too_many_is_named(copy: Path) -> None:
    shutil.copy(copy / "data/train-000000.tar", copy / "data/train-000099.tar")
    assert verify(copy) == ["data/train-000099.tar is not part of the corpus"]


def test_a_sample_missing_from_a_shard_is_found_even_if_every_digest_fits(copy: Path) -> None:
    """A shard rewritten with its receipt and index, as a bug (not an accident) would."""
    from dataclasses import replace

    from unitcorpus.shards.receipt import FileMark

    corpus = open_corpus(copy)
    kept = list(corpus.samples("train"))[:4]
    with ShardWriter(copy / "data/train-000000.tar") as writer:
        for sample in kept:
            writer.sample(sample.key, {n: bytes(m) for n, m in sample.members.items()})
    receipt = read_receipt(copy, "train-000000")
    write_receipt(copy, replace(receipt, data=FileMark(writer.sha256, writer.size)))
    assert any("do not add up to the 5 planned rows" in problem for problem in verify(copy))


SPEC = {
    "size": 10,
    "collapsed": True,
    "durations": True,
    "extractor": {"sample_rate": 16_000, "frames": {"padding": 0, "convolutions": [[400, 320]]}},
}
ROW = Input("train-000000-000000", "a", {"units": PlannedPart("text")}, "en-us")


def sample_of(
    units: list[int], durations: list[int] | None, num_samples: int, **changes: object
) -> Sample:
    members = {"units.npy": npy_bytes(np.array(units, np.uint16))}
    if durations is not None:
        members["durations.npy"] = npy_bytes(np.array(durations, np.uint32))
    meta = {"id": "a", "text": "text", "voice": "en-us", "num_samples": num_samples}
    members["json"] = json.dumps({**meta, "seconds": num_samples / 16_000, **changes}).encode()
    return Sample("train-000000-000000", {n: memoryview(d) for n, d in members.items()})


def test_a_good_sample_passes() -> None:
    assert check_sample(sample_of([1, 2], [2, 1], 400 + 2 * 320), SPEC, UTTERANCES, ROW) == (
        None,
        (1040, 3, 2),
    )


@pytest.mark.parametrize(
    ("units", "durations", "num_samples", "words"),
    [
        ([], [], 0, "no units"),
        ([1, 10], [1, 2], 1040, "codebook of 10"),
        ([1, 1], [1, 2], 1040, "repeat"),
        ([1, 2], None, 1040, "its members are json, units.npy"),
        ([1, 2], [3], 1040, "do not fit"),
        ([1, 2], [3, 0], 1040, "do not fit"),
        ([1, 2], [1, 1], 1040, "2 frames, but 1040 audio samples give 3"),
    ],
)
def test_a_sample_that_breaks_an_invariant_is_told_why(
    units: list[int], durations: list[int] | None, num_samples: int, words: str
) -> None:
    problem, _ = check_sample(sample_of(units, durations, num_samples), SPEC, UTTERANCES, ROW)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(
    "changes", [{"id": "b"}, {"text": None}, {"voice": 3}, {"seconds": -1.0}, {"extra": 1}]
)
def test_a_field_unlike_the_plan_is_named(changes: dict[str, object]) -> None:
    problem, _ = check_sample(sample_of([1, 2], [2, 1], 1040, **changes), SPEC, UTTERANCES, ROW)
    assert problem == f"{next(iter(changes))} not as planned"


@pytest.mark.parametrize("number", [None, "x", 3.0, True])
def test_a_count_that_is_no_integer_is_told(number: object) -> None:
    sample = sample_of([1, 2], [2, 1], 1040)
    sample.meta["num_samples"] = number
    assert check_sample(sample, SPEC, UTTERANCES, ROW)[0] == f"num_samples is {number!r}"


Change = Callable[[dict[str, Any]], None]


def put(*keys: Any, value: object) -> Change:
    """Sets the value at a path of keys."""

    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("corpus.json", put("splits", "train", "seconds", value=1.0)),
        ("corpus.json", put("splits", "train", "bytes", value=1)),
        ("corpus.json", put("name", value="other")),
        ("corpus.json", put("recipe", "seed", value=9)),
        ("corpus.json", put("speech", "engine", value="other")),
        ("corpus.json", put("units", "size", value=5000)),
        ("corpus.json", put("format", value=99)),
        ("corpus.json", put("files", value={})),
        ("corpus.json", put("splits", value=None)),
        ("index.json", put("shardlist", 0, "nsamples", value=1)),
        ("plan/plan.json", put("units", "size", value=5000)),
        ("plan/plan.json", put("shards", 0, value={})),
        ("plan/request.json", put("rejects", value=None)),
        ("receipts/train-000000.json", put("samples", value=4)),
        ("receipts/train-000000.json", put("data", value=None)),
        ("receipts/train-000000.json", put("shard", value="train-000001")),
    ],
)
def test_a_file_that_is_sealed_again_with_other_content_is_found(
    copy: Path, name: str, change: Change
) -> None:
    content = unseal((copy / name).read_bytes(), name)
    change(content)
    (copy / name).write_bytes(seal(content))
    assert problems_of(copy)


def test_a_reject_with_odd_line_separators_does_not_confuse_verify(tmp_path: Path) -> None:
    rows = [{"id": "a\u2028b", "text": "...!!!"}, {"id": "c\x85d", "text": "A good day."}]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe("demo/stinystories", [f"source.path={source}", "validation=0"])
    build_corpus(recipe, tmp_path / "c")
    assert verify(tmp_path / "c") == []


def test_scanning_a_shard_of_the_corpus_gives_its_samples(small_corpus: Path) -> None:
    keys = [k for k, _ in tar.scan((small_corpus / "data/train-000000.tar").read_bytes())]
    assert keys == [f"train-000000-{row:06d}" for row in range(5)]
