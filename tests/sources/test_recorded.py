"""Recorded test sets: pairs as the originals pair them, and nothing from outside the folder."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.contrasts import RecordedSource
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.recorded import RecordedRows

SYNTACTIC = ["id", "filename", "voice", "type", "subtype", "transcription", "correct"]
LEXICAL = ["id", "filename", "voice", "frequency", "word", "phones", "length", "correct"]


def source(kind: Any, path: Path, **options: Any) -> RecordedRows:
    return RecordedRows(RecordedSource(kind=kind, path=str(path), **options), 0)


def read(kind: str, path: Path) -> tuple[list[PartedRow], list[BadRow]]:
    rows = list(source(kind, path).rows())
    good = [row for row in rows if isinstance(row, PartedRow)]
    return good, [row for row in rows if isinstance(row, BadRow)]


def names(row: PartedRow) -> tuple[str, str]:
    right, wrong = row.parts
    return right.audio, wrong.audio


def touch(path: Path, size: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def write_gold(root: Path, place: str, header: list[str], rows: list[list[Any]]) -> Path:
    """A gold.csv and the wavs that it lists."""
    gold = root / place / "gold.csv"
    for row in rows:
        touch(root / place / f"{row[1]}.wav")
    gold.parent.mkdir(parents=True, exist_ok=True)
    with gold.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return gold


def sblimp_rows(order: random.Random) -> list[list[Any]]:
    """Two voices of pairs whose ids start anew in each subtype, as in the original."""
    rows = []
    for voice in ("A", "B"):
        for subtype, ident in (("s1", 0), ("s1", 1), ("s2", 0), ("s2", 1)):
            for correct in (1, 0):
                name = f"{voice}{subtype}{ident}{correct}"
                rows.append([ident, name, voice, "agr", subtype, f"text of {name}", correct])
    return order.sample(rows, len(rows))


@settings(max_examples=20, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_sblimp_is_paired_as_its_evaluation_pairs_it(
    tmp_path_factory: pytest.TempPathFactory, order: random.Random
) -> None:
    root = tmp_path_factory.mktemp("zr")
    gold = write_gold(root, "syntactic/dev", SYNTACTIC, sblimp_rows(order))
    table = arrow_csv.read_csv(gold)
    keys = ["type", "subtype", "id", "voice"]
    right, wrong = (table.filter(pc.field("correct") == c) for c in (1, 0))
    due = right.join(wrong, keys, join_type="inner", right_suffix=" wrong").to_pylist()
    good, bad = read("sblimp", root)
    assert not bad
    assert len(due) == len(good) == 8
    assert {row.id: names(row) for row in good} == {
        "-".join(str(pair[key]) for key in keys): (
            f"syntactic/dev/{pair['filename']}.wav",
            f"syntactic/dev/{pair['filename wrong']}.wav",
        )
        for pair in due
    }
    for row in good:
        stem = Path(names(row)[0]).stem
        assert (row.parts[0].text, row.voice, row.group) == (f"text of {stem}", stem[0], "agr")


def test_swuggy_knows_words_of_the_vocabulary_and_speaks_by_phones_else(tmp_path: Path) -> None:
    rows = [
        [1, "a", "V", 12, "brick", "B R IH K", 4, 1],
        [1, "b", "V", "", "", "B L IH K", 4, 0],
        [2, "c", "V", 0, "squall", "S K W AO L", 5, 1],
        [2, "d", "V", "", "", "S K W IH L", 5, 0],
    ]
    write_gold(tmp_path, "lexical/dev", LEXICAL, rows)
    (first, second), bad = read("swuggy", tmp_path)
    assert not bad
    assert (first.group, second.group) == ("in vocabulary", "out of vocabulary")
    assert [part.text for part in first.parts] == ["brick", "B L IH K"]
    assert (first.id, first.voice, first.split) == ("1-V", "V", "test")


def test_a_set_is_found_in_the_download_and_alone(tmp_path: Path) -> None:
    write_gold(tmp_path, "syntactic/dev", SYNTACTIC, sblimp_rows(random.Random(0)))
    whole, _ = read("sblimp", tmp_path)
    alone, _ = read("sblimp", tmp_path / "syntactic/dev")
    assert [row.id for row in whole] == [row.id for row in alone]
    assert names(alone[0])[0] == names(whole[0])[0].removeprefix("syntactic/dev/")
    with pytest.raises(UnitcorpusError, match=r"neither lexical/dev/gold\.csv nor gold\.csv"):
        source("swuggy", tmp_path)


@pytest.mark.parametrize("column", ["filename", "voice", "subtype", "transcription", "correct"])
def test_a_gold_csv_without_a_column_is_told_by_file_and_column(
    tmp_path: Path, column: str
) -> None:
    header = [name if name != column else "else" for name in SYNTACTIC]
    write_gold(tmp_path, "syntactic/dev", header, sblimp_rows(random.Random(0)))
    said = rf"syntactic/dev/gold\.csv has no column '{column}'"
    with pytest.raises(UnitcorpusError, match=said):
        read("sblimp", tmp_path)


def gold_of_two(root: Path, **change: Any) -> Path:
    """Two pairs, of which the second row, right of pair 0, is changed."""
    rows = [[i, f"f{i}{c}", "V", "agr", "s", "text", c] for i in (0, 1) for c in (0, 1)]
    rows[1] = [change.get(name, value) for name, value in zip(SYNTACTIC, rows[1], strict=True)]
    return write_gold(root, "syntactic/dev", SYNTACTIC, rows)


def test_a_wav_that_is_listed_but_absent_is_a_line_with_row_and_file(tmp_path: Path) -> None:
    gold_of_two(tmp_path)
    (tmp_path / "syntactic/dev/f01.wav").unlink()
    (kept,), (bad,) = read("sblimp", tmp_path)
    assert kept.id == "agr-s-1-V"
    assert bad.reason == "missing_file"
    assert "syntactic/dev/gold.csv line 2 and line 3" in bad.where
    assert "syntactic/dev/f01.wav" in bad.detail


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"correct": 2}, "bad_label", "column correct is '2'"),
        ({"correct": 0}, "no_pair", "correct is 0, 0"),
        ({"voice": "W"}, "no_pair", "voice W: correct is 1"),
    ],
)
def test_a_row_without_its_partner_is_a_line(
    tmp_path: Path, change: dict[str, Any], reason: str, said: str
) -> None:
    gold_of_two(tmp_path, **change)
    kept, bad = read("sblimp", tmp_path)
    assert [row.id for row in kept] == ["agr-s-1-V"]
    [row] = [row for row in bad if row.reason == reason and said in row.detail]
    assert "line 3" in row.where


@pytest.mark.parametrize("name", ["../outside", "/{root}/outside", "a/../../outside", "link"])
def test_a_gold_csv_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    outside, root = tmp_path / "outside.wav", tmp_path / "set"
    touch(outside)
    rows = [[0, "f", "V", "agr", "s", "text", 0], [0, "f", "V", "agr", "s", "text", 1]]
    write_gold(root, "syntactic/dev", SYNTACTIC, rows)
    (root / "syntactic/dev/link.wav").symlink_to(outside)
    gold = root / "syntactic/dev/gold.csv"
    escaped = name.format(root=tmp_path.as_posix().strip("/"))
    gold.write_text(gold.read_text().replace("0,f,", f"0,{escaped},", 1))
    good, (bad,) = read("sblimp", root)
    assert not good
    assert bad.reason == "outside"


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "."])
def test_names_that_no_file_can_have_are_missing_files(tmp_path: Path, name: str) -> None:
    gold = gold_of_two(tmp_path)
    gold.write_text(gold.read_text().replace("f01", name))
    _, (bad,) = read("sblimp", tmp_path)
    assert bad.reason == "missing_file"


@settings(max_examples=40, deadline=None)
@given(
    files=st.sets(
        st.tuples(
            st.sampled_from(["rir_consistency", "bg_alignment", "."]),
            st.integers(0, 12),
            st.integers(0, 2),
        ),
        min_size=1,
    )
)
def test_every_salmon_file_is_in_one_pair_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, files: set[tuple[str, int, int]]
) -> None:
    root = tmp_path_factory.mktemp("salmon")
    for task, i, option in files:
        touch(root / task / f"sample_{i}_{option}.wav")
    good, bad = read("salmon", root)
    paired = {(t, i) for t, i, _ in files if {(t, i, 0), (t, i, 1)} <= files}
    groups = {(row.group or ".", Path(names(row)[0]).stem) for row in good}
    assert groups == {(t, f"sample_{i}_0") for t, i in paired}
    for row in good:
        right, wrong = names(row)
        assert wrong == right.removesuffix("_0.wav") + "_1.wav"
    lonely = {(Path(t) / f"sample_{i}_{o}.wav").as_posix() for t, i, o in files}
    lonely -= {name for row in good for name in names(row)}
    assert {name for row in bad for name in row.where.split(", ")} == lonely
    assert len({row.id for row in good}) == len(good)


def test_spoken_storycloze_is_paired_by_story_with_numbers_that_run_or_repeat(
    tmp_path: Path,
) -> None:
    for name in (
        "sSC/0_a-1_correct",
        "sSC/1_a-1_incorrect",
        "sSC/2_b_correct",
        "sSC/2_b_incorrect",
        "tSC/0_a-1_correct",
        "tSC/1_a-1_incorrect",
        "sSC/12_correct",
        "sSC/12_incorrect",
    ):
        touch(tmp_path / f"{name}.wav", 2)
    good, bad = read("spoken_storycloze", tmp_path)
    assert not bad
    assert {row.id: names(row) for row in good} == {
        "sSC-a-1": ("sSC/0_a-1_correct.wav", "sSC/1_a-1_incorrect.wav"),
        "sSC-b": ("sSC/2_b_correct.wav", "sSC/2_b_incorrect.wav"),
        "sSC-12": ("sSC/12_correct.wav", "sSC/12_incorrect.wav"),
        "tSC-a-1": ("tSC/0_a-1_correct.wav", "tSC/1_a-1_incorrect.wav"),
    }
    assert {row.group for row in good} == {"sSC", "tSC"}
    assert {part.audio_bytes for row in good for part in row.parts} == {2}
    alone, _ = read("spoken_storycloze", tmp_path / "tSC")
    assert [(row.id, row.group) for row in alone] == [("a-1", "")]


def test_a_wav_without_partner_or_twice_or_of_another_name_is_a_line(tmp_path: Path) -> None:
    for name in ("0_a_correct.wav", "0_b_correct.wav", "1_b_correct.wav", "2_b_incorrect.wav"):
        touch(tmp_path / name)
    touch(tmp_path / "intro.wav")
    touch(tmp_path / "._0_a_correct.wav")  # what macOS leaves in archives
    touch(tmp_path / "readme.txt")
    good, bad = read("spoken_storycloze", tmp_path)
    assert not good
    assert {(row.where, row.reason) for row in bad} == {
        ("0_a_correct.wav", "no_pair"),
        ("0_b_correct.wav, 1_b_correct.wav, 2_b_incorrect.wav", "no_pair"),
        ("intro.wav", "unknown_name"),
    }


def test_links_out_of_the_folder_are_refused_and_links_inside_followed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root / "0_a_correct.wav")
    touch(root / "0_a_incorrect.wav")
    touch(tmp_path / "else/0_c_correct.wav")
    (root / "1_b_correct.wav").symlink_to(root / "0_a_correct.wav")
    (root / "1_b_incorrect.wav").symlink_to(tmp_path / "else/0_c_correct.wav")
    (root / "away").symlink_to(tmp_path / "else")
    good, bad = read("spoken_storycloze", root)
    assert [row.id for row in good] == ["a"]
    assert {row.reason for row in bad} == {"outside", "linked_folder"}
    linked = tmp_path / "linked"
    linked.symlink_to(root)  # the folder itself may be one
    assert [row.id for row in read("spoken_storycloze", linked)[0]] == ["a"]


def test_a_name_that_is_no_text_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "0_\udcff_correct.wav").write_bytes(b"x")
    _, (bad,) = read("spoken_storycloze", tmp_path)
    assert bad.reason == "unknown_name"
    assert bad.where.isascii()


def test_the_identity_changes_with_what_is_used_and_holds_no_path(tmp_path: Path) -> None:
    gold = gold_of_two(tmp_path)
    first = source("sblimp", tmp_path).identity()
    assert str(tmp_path) not in json.dumps(first)
    touch(tmp_path / "syntactic/dev/unlisted.wav")
    assert source("sblimp", tmp_path).identity() == first
    touch(tmp_path / "syntactic/dev/f01.wav", 9)
    longer = source("sblimp", tmp_path).identity()
    assert longer["files"] != first["files"]
    gold.write_text(gold.read_text().replace("text", "TEXT"))
    retold = source("sblimp", tmp_path).identity()
    assert (retold["files"], retold["gold"] != first["gold"]) == (longer["files"], True)
    assert source("sblimp", tmp_path, limit=1).identity() != retold


@pytest.mark.parametrize("kind", ["sblimp", "swuggy", "salmon", "spoken_storycloze"])
def test_without_a_folder_the_error_says_what_to_give(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(UnitcorpusError, match=r"--set source\.path=FOLDER, .*https://"):
        RecordedRows(RecordedSource(kind=kind), 0)
    with pytest.raises(UnitcorpusError, match="no such folder"):
        source(kind, tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["salmon", "spoken_storycloze"])
def test_a_folder_without_recordings_is_told(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(UnitcorpusError, match=r"holds no \.wav or \.flac file"):
        list(source(kind, tmp_path).rows())
