"""Sources of plain speech corpora: each layout's files, texts, speakers; nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import Source
from unitcorpus.sources import open_source
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.librilight import groups


def read(kind: str, path: Path, **options: Any) -> tuple[dict[str, PartedRow], list[BadRow]]:
    section: Any = TypeAdapter(Source).validate_python({"kind": kind, "path": str(path), **options})
    rows = list(open_source(section, 0).rows())
    good = [row for row in rows if isinstance(row, PartedRow)]
    assert len({row.id for row in good}) == len(good)
    return {row.id: row for row in good}, [row for row in rows if isinstance(row, BadRow)]


def write(path: Path, content: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def table(path: Path, *rows: dict[str, Any]) -> Path:
    write(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_librispeech_has_texts_speakers_and_splits(tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    for subset, ident in (("train-clean-100", "19-198-0000"), ("dev-other", "84-1-0003")):
        chapter = root / subset / "/".join(ident.split("-")[:2])
        write(chapter / f"{ident}.flac")
        write(chapter / f"{'-'.join(ident.split('-')[:2])}.trans.txt", f"{ident} SO SAID\n")
    good, bad = read("librispeech", root)
    assert not bad
    assert [(r.id, r.text, r.voice, r.split) for r in good.values()] == [
        ("84-1-0003", "SO SAID", "84", "validation"),
        ("19-198-0000", "SO SAID", "19", "train"),
    ]
    assert good["84-1-0003"].parts[0].audio == "dev-other/84/1/84-1-0003.flac"
    subset_alone, _ = read("librispeech", root / "dev-other")
    assert subset_alone["84-1-0003"].split == "validation"


def test_librispeech_lists_files_without_texts_and_texts_without_files(tmp_path: Path) -> None:
    write(tmp_path / "dev-clean/1/2/1-2-0000.flac")
    write(tmp_path / "dev-clean/1/2/1-2.trans.txt", "1-2-0001 NO FILE\n")
    good, bad = read("librispeech", tmp_path)
    assert not good
    assert [row.reason for row in bad] == ["no_transcript", "missing_file"]


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 50)), max_size=30), st.floats(0.5, 60))
def test_groups_of_speech_hold_all_of_it_in_order(
    pauses_and_lengths: list[tuple[float, float]], seconds: float
) -> None:
    speech, now = [], 0.0
    for pause, length in pauses_and_lengths:
        speech.append((now + pause, now + pause + length))
        now += pause + length
    found = list(groups(speech, seconds))
    inside = [[s for s in speech if a <= s[0] and s[1] <= b] for a, b in found]
    assert [s for group in inside for s in group] == speech
    for group in inside:
        assert len(group) == 1 or sum(b - a for a, b in group) <= seconds * 1.0001


def test_librilight_is_cut_by_the_speech_that_its_json_lists(tmp_path: Path) -> None:
    chapter = tmp_path / "small/960/a_book/ch_01"
    write(chapter.with_suffix(".flac"))
    about = {"speaker": "960", "voice_activity": [[0.5, 20], [21, 29], [30, 50]]}
    write(chapter.with_suffix(".json"), json.dumps(about))
    write(chapter.with_name("ch_02.flac"))
    good, bad = read("librilight", tmp_path)
    assert [(r.parts[0].start, r.parts[0].end) for r in good.values()] == [(0.5, 29), (30, 50)]
    assert {row.voice for row in good.values()} == {"960"}
    assert [(row.where, row.reason) for row in bad] == [
        ("small/960/a_book/ch_02.flac", "no_metadata")
    ]
    whole, _ = read("librilight", tmp_path, cut_seconds=None)
    assert [row.parts[0].start for row in whole.values()] == [None]


def test_tedlium_is_cut_by_its_stm_files(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / f"legacy/{split}/sph/Al_{split}.sph")
        lines = [
            ";; a comment",
            f"Al_{split} 1 Al_{split} 0 12.41 <o,f0,male> ignore_time_segment_in_scoring",
            f"Al_{split} 1 Al_{split} 12.41 26.33 <o,f0,male> thank you {{NOISE}} so <unk>",
            "Al_x 1 Al_x here there",
        ]
        write(tmp_path / f"legacy/{split}/stm/Al_{split}.stm", "\n".join(lines))
    write(tmp_path / "data/stm/Al_train.stm", "Al 1 Al 0 1 <o> twice\n")
    good, bad = read("tedlium", tmp_path)
    row = good["Al_dev-0003"]
    assert (row.text, row.voice, row.split) == (
        "thank you {NOISE} so <unk>",
        "Al_dev",
        "validation",
    )
    assert (row.parts[0].start, row.parts[0].end) == (12.41, 26.33)
    assert len(good) == 2
    assert [row.reason for row in bad] == ["malformed_stm"] * 2


def test_voxpopuli_reads_its_tables_or_its_segments(tmp_path: Path) -> None:
    write(tmp_path / "u/en/2019/20190101-0900-PLENARY_en_7.ogg")
    assert set(read("voxpopuli", tmp_path / "u/en")[0]) == {"20190101-0900-PLENARY_en_7"}
    ident = "20120101-0900-PLENARY-3-en_2-a"
    write(tmp_path / f"t/en/2012/{ident}.ogg")
    header = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\n"
    write(tmp_path / "t/en/asr_dev.tsv", f'{header}{ident}\tSo.\tso "quoted\t12\tdev\tf\nx\ty\tz\n')
    good, bad = read("voxpopuli", tmp_path / "t/en")
    row = good[ident]
    assert (row.text, row.voice, row.split) == ('so "quoted', "12", "validation")
    assert [row.reason for row in bad] == ["missing_file"]


def test_peoples_speech_reads_the_utterances_of_its_manifests(tmp_path: Path) -> None:
    write(tmp_path / "train/clean/a/b_1.flac")
    data = {"duration_ms": [10, 20], "label": ["one", "two"], "name": ["a/b_1.flac", "a/gone.flac"]}
    table(tmp_path / "train/clean.json", {"identifier": "a", "training_data": data}, {"no": 1})
    good, bad = read("peoples_speech", tmp_path)
    assert [(r.text, r.split, r.parts[0].audio) for r in good.values()] == [
        ("one", "train", "train/clean/a/b_1.flac")
    ]
    assert [row.reason for row in bad] == ["missing_file", "malformed_manifest"]


SWC = """<article><d><section><sectiontitle><t>Bird<n pronunciation="bird" start="100" end="1500"/>
</t></sectiontitle><sectioncontent><p><s>
<t>In<n pronunciation="in" start="2000" end="2300"/></t>
<t>1999<n pronunciation="nineteen" start="2300" end="3000"/>
<n pronunciation="ninety nine" start="3000" end="3600"/></t>
<t>.</t><t>short<n pronunciation="short" start="4000" end="4300"/></t></s>
<s><t>Later<n pronunciation="later" start="9000" end="11500"/></t></s></p></sectioncontent>
</section></d></article>"""


def test_swc_is_cut_into_aligned_runs_of_its_sentences(tmp_path: Path) -> None:
    write(tmp_path / "Bird/aligned.swc", SWC)
    write(
        tmp_path / "Bird/info.json", json.dumps({"audio_files": [{"offset": 0}, {"offset": 8.5}]})
    )
    write(tmp_path / "Bird/audiometa.txt", "user_name = Jo \n")
    write(tmp_path / "Bird/audio1.ogg")
    write(tmp_path / "Bird/audio2.ogg")
    write(tmp_path / "Broken/aligned.swc", "<article>")
    good, bad = read("swc", tmp_path)
    found = [(r.text, r.parts[0].audio, r.parts[0].start, r.parts[0].end) for r in good.values()]
    assert found == [
        ("bird", "Bird/audio1.ogg", 0.1, 1.5),
        ("in nineteen ninety nine", "Bird/audio1.ogg", 2.0, 3.6),
        ("later", "Bird/audio2.ogg", 0.5, 3.0),
    ]
    assert {row.voice for row in good.values()} == {"Jo"}
    assert [row.reason for row in bad] == ["malformed_article"]


def test_a_folder_gives_every_recording_by_its_path(tmp_path: Path) -> None:
    for name in ("b/x.FLAC", "a.wav", "b/y.opus", "notes.txt", ".hidden.wav"):
        write(tmp_path / name)
    assert list(read("audio", tmp_path)[0]) == ["a", "b/x", "b/y"]


def test_a_table_may_know_texts_speakers_splits_and_times(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    row = {"path": "a.wav", "text": "Hm.", "speaker": 7, "split": "dev", "start": "0.5", "end": 2}
    rows = [
        {**row, "id": "one"},
        {**row, "id": "two", "end": 0.1},
        {**row, "id": "three", "end": None},
        {**row, "id": "four", "path": "../a.wav"},
        {**row, "id": "five", "split": "nightly"},
    ]
    good, bad = read("audio", table(tmp_path / "list.jsonl", *rows))
    one = good.pop("one")
    assert (one.text, one.voice, one.split) == ("Hm.", "7", "validation")
    assert (one.parts[0].start, one.parts[0].end) == (0.5, 2.0)
    assert not good
    assert [r.reason for r in bad] == ["bad_span", "bad_span", "outside", "unknown_split"]


def test_the_identity_changes_with_files_and_with_what_is_known_of_them(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")

    def identity(text: str) -> object:
        path = table(tmp_path / "list.jsonl", {"path": "a.wav", "text": text, "id": "a"})
        section: Any = TypeAdapter(Source).validate_python({"kind": "audio", "path": str(path)})
        return open_source(section, 0).identity()

    first = identity("one")
    assert first == identity("one")
    assert first != identity("two")
    write(tmp_path / "a.wav", "longer")
    assert first != identity("one")
    assert str(tmp_path) not in repr(first)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("librispeech", "openslr.org/12"),
        ("librilight", "libri-light"),
        ("swc", "swc"),
        ("tedlium", "openslr.org/51"),
        ("peoples_speech", "peoples_speech"),
        ("voxpopuli", "voxpopuli"),
        ("audio", "recordings"),
    ],
)
def test_a_missing_path_is_one_line_that_says_where_the_data_is(kind: str, says: str) -> None:
    section: Any = TypeAdapter(Source).validate_python({"kind": kind})
    with pytest.raises(UnitcorpusError, match=says) as caught:
        open_source(section, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["librispeech", "librilight", "swc", "tedlium", "peoples_speech"])
def test_a_folder_that_is_another_corpus_is_said_to_be_none(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="has"):
        read(kind, tmp_path)
