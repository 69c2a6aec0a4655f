"""Recordings within tars and data sets: read as webdataset and datasets read them, built as the
same files in a folder are."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from pydantic import TypeAdapter

import unitcorpus
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.sources import Source
from unitcorpus.shards.verify import verify
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow, PartedRow

FORMATS = ("flac", "wav", "mp3", "ogg", "opus")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def sound(number: int, ending: str) -> bytes:
    """A rising tone of a length of its own."""
    times = np.arange(8000 + 800 * number) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * (150 + 40 * number + 60 * times) * times)
    stream = io.BytesIO()
    kind: Any = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS")}.get(ending)
    form, subtype = kind or (ending.upper(), None)
    soundfile.write(stream, wave, 16_000, format=form, subtype=subtype)
    return stream.getvalue()


SOUNDS = {f"u{n}": (ending, sound(n, ending)) for n, ending in enumerate(FORMATS)}


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Two tars that webdataset itself writes."""
    import webdataset as wds

    root = tmp_path / "tars"
    root.mkdir()
    for name, keys in (("train-0.tar", ("u0", "u1", "u2")), ("dev-0.tar", ("u3", "u4"))):
        with wds.TarWriter(str(root / name)) as writer:
            for key in keys:
                ending, data = SOUNDS[key]
                about = {"text": f"text of {key}", "speaker": 7}
                writer.write({"__key__": f"a/{key}", ending: data, "json": about})
    return root


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A data set of two splits as `datasets` writes it."""
    import datasets

    root = tmp_path / "hf"
    root.mkdir()
    for split, keys in (("train", ("u0", "u1", "u2")), ("validation", ("u3", "u4"))):
        rows = {
            "audio": [{"bytes": SOUNDS[key][1], "path": f"{key}.{SOUNDS[key][0]}"} for key in keys],
            "sentence": [f"text of {key}" for key in keys],
            "id": list(keys),
            "client": [7] * len(keys),
        }
        data = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))
        data.to_parquet(root / f"{split}.parquet")
    return root


HUGGINGFACE = {
    "kind": "huggingface_audio",
    "splits": {"train": "train", "validation": "validation"},
    "text_column": "sentence",
    "speaker_column": "client",
}


def source(**section: Any) -> Any:
    given: Any = TypeAdapter(Source).validate_python(section)
    return open_source(given, 0)


def bad(rows: list[PartedRow | BadRow]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, BadRow)]


def test_members_are_those_that_webdataset_reads(tars: Path) -> None:
    import webdataset as wds

    found = source(kind="webdataset", path=str(tars))
    rows = {row.id: row for row in found.rows()}
    for name, split in (("train-0.tar", "train"), ("dev-0.tar", "validation")):
        for sample in wds.WebDataset(str(tars / name), shardshuffle=False):
            row = rows.pop(sample["__key__"])
            [part] = row.parts
            about = json.loads(sample["json"])
            assert (row.split, part.text, row.voice) == (split, about["text"], "7")
            [ending] = set(sample) & set(FORMATS)
            assert found.fetch(part.audio, part.audio_bytes, part.offset) == sample[ending]
    assert not rows


def test_rows_are_those_that_datasets_reads(parquet: Path) -> None:
    import datasets

    found = source(path=str(parquet), **HUGGINGFACE)
    rows = list(found.rows())
    due = datasets.load_dataset(str(parquet))
    number = 0
    for split in ("train", "validation"):
        for theirs in due[split].cast_column("audio", datasets.Audio(decode=False)):
            row, number = rows[number], number + 1
            [part] = row.parts
            assert (row.id, row.split, row.voice) == (theirs["id"], split, "7")
            assert part.text == theirs["sentence"]
            got = found.fetch(part.audio, part.audio_bytes, part.offset)
            assert got == theirs["audio"]["bytes"]
    assert number == len(rows) == len(FORMATS)


def built(out: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe("demo/audio", ("validation=0", *overrides))
    assert build_corpus(recipe, out).corpus is not None
    assert verify(out) == []
    corpus = unitcorpus.open(out)
    samples = [s for split in corpus.info["splits"] for s in corpus.samples(split)]
    return {s.meta["id"].removeprefix("a/"): s for s in samples}


def test_all_give_the_units_of_the_same_files_in_a_folder(
    tars: Path, parquet: Path, tmp_path: Path
) -> None:
    for key, (ending, data) in SOUNDS.items():
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / f"files/{key}.{ending}").write_bytes(data)
    due = built(tmp_path / "c", f"source.path={tmp_path}/files")
    yaml = json.dumps({**HUGGINGFACE, "path": str(parquet)})
    in_tars = f"source={{kind: webdataset, path: '{tars}'}}"
    for out, given in (("d", in_tars), ("e", f"source={yaml}")):
        found = built(tmp_path / out, given)
        assert set(found) == set(due) == set(SOUNDS)
        for key, sample in found.items():
            assert np.array_equal(sample.units, due[key].units)
            assert np.array_equal(sample.durations, due[key].durations)
            assert (sample.meta["text"], sample.meta["voice"]) == (f"text of {key}", "7")


def test_tars_are_read_through_urls_with_braces(tars: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("train-0.tar", "dev-0.tar"):
        memory.pipe(f"/tars/{name}", (tars / name).read_bytes())
    found = source(kind="webdataset", path="memory://tars/{train,dev}-0.tar")
    rows = list(found.rows())
    assert {row.id for row in rows} == {f"a/{key}" for key in SOUNDS}
    part = rows[0].parts[0]
    assert found.fetch(part.audio, part.audio_bytes, part.offset) == SOUNDS["u0"][1]


def test_hostile_members_are_bad_rows_and_the_others_are_read(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "t.tar",
        ("../up.wav", b"x"),
        ("/root.wav", b"x"),
        ("a/../../b.wav", b"x"),
        ("two.wav", b"x"),
        ("two.flac", b"x"),
        ("textonly.txt", b"x"),
        ("json.wav", b"x"),
        ("json.json", b"[1]"),
        ("fine.wav", b"x"),
    )
    with tarfile.open(path, "a") as tar:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"link{number}.wav")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    rows = list(source(kind="webdataset", path=str(path)).rows())
    assert [row.id for row in rows if isinstance(row, PartedRow)] == ["fine"]
    expected = ["outside"] * 3 + ["no_audio"] * 2 + ["malformed_json"] + ["not_a_file"] * 3
    assert bad(rows) == expected


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_broken_tar_costs_what_follows_in_it_only(damage: str, tars: Path) -> None:
    path = tars / "train-0.tar"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-20_000], "text": b"words " * 500, "empty": b""}[damage])
    rows = list(source(kind="webdataset", path=str(tars)).rows())
    assert bad(rows) == ["unreadable_tar"]
    assert {"a/u3", "a/u4"} <= {row.id for row in rows if isinstance(row, PartedRow)}


def test_a_row_that_names_a_file_instead_of_holding_it_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sound(0, "wav"))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": str(secret)}, None, {"bytes": b"", "path": "a"}]
    pq.write_table(pa.table({"audio": pa.array(rows, kind)}), tmp_path / "hf/train.parquet")
    assert (
        bad(list(source(kind="huggingface_audio", path=f"{tmp_path}/hf").rows()))
        == ["no_audio"] * 3
    )


def test_a_column_that_is_not_there_is_one_line_that_names_the_key(parquet: Path) -> None:
    found = source(path=str(parquet), **{**HUGGINGFACE, "speaker_column": "cliemt"})
    with pytest.raises(UnitcorpusError, match=r"source.speaker_column\).*'client'"):
        list(found.rows())


def test_identities_change_with_the_source_and_hold_no_path(tars: Path, parquet: Path) -> None:
    for place, section in ((tars, {"kind": "webdataset"}), (parquet, HUGGINGFACE)):
        first = source(path=str(place), **section).identity()
        assert first == source(path=str(place), **section).identity()
        assert str(place) not in repr(first)
        changed = next(iter(sorted(place.iterdir())))
        changed.write_bytes(changed.read_bytes() + b"\0" * 512)
        assert source(path=str(place), **section).identity() != first
