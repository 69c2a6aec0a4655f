"""Likelihood test sets of texts: every row a pair or a reason, and pairs that no order changes."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.contrasts import BlimpSource, ContrastsSource, StoryClozeSource
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.contrasts import BlimpRows, ContrastRows, StoryClozeRows

HEADER = [
    "InputStoryid",
    *(f"InputSentence{i}" for i in range(1, 5)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
]


def story(i: int, ending: str = "", answer: int = 1) -> list[str]:
    """Row i of a Story Cloze file; `ending` is its right one."""
    right, wrong = ending or f"It ended well {i}.", f"It ended badly {i}."
    endings = [right, wrong] if answer == 1 else [wrong, right]
    told = [f"Sentence {n} of story {i}." for n in range(1, 5)]
    return [f"id-{i}", *told, *endings, str(answer)]


def write_csv(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def cloze(path: Path, seed: int = 0, **options: Any) -> list[PartedRow | BadRow]:
    return list(StoryClozeRows(StoryClozeSource(path=str(path), **options), seed).rows())


def pairs(rows: list[PartedRow | BadRow]) -> dict[str, tuple[str, ...]]:
    assert not [row for row in rows if isinstance(row, BadRow)]
    return {row.id: tuple(p.text for p in row.parts) for row in rows if isinstance(row, PartedRow)}


@pytest.mark.parametrize("answer", [1, 2])
def test_a_story_is_told_with_both_its_endings(tmp_path: Path, answer: int) -> None:
    path = write_csv(tmp_path / "test.csv", [story(7, answer=answer)])
    told = " ".join(f"Sentence {n} of story 7." for n in range(1, 5))
    assert pairs(cloze(path)) == {"id-7": (f"{told} It ended well 7.", f"{told} It ended badly 7.")}
    [row] = cloze(path)
    assert isinstance(row, PartedRow)
    assert (row.split, row.where) == ("test", "line 2")


def test_the_columns_of_the_hubs_copies_are_read_as_well(tmp_path: Path) -> None:
    header = ["story_id", *(f"input_sentence_{i}" for i in range(1, 5))]
    header += ["sentence_quiz1", "sentence_quiz2", "answer_right_ending"]
    rows = [story(i, answer=1 + i % 2) for i in range(5)]
    original, copy = write_csv(tmp_path / "a.csv", rows), tmp_path / "b.jsonl"
    records = [{**dict(zip(header, r, strict=True)), header[-1]: int(r[-1])} for r in rows]
    copy.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert pairs(cloze(copy)) == pairs(cloze(original))


@settings(max_examples=40, deadline=None)
@given(
    endings=st.lists(st.sampled_from("ABC"), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
    limit=st.integers(1, 12),
    seed=st.integers(0, 3),
)
def test_a_foreign_ending_is_another_storys_whatever_the_order_and_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    endings: list[str],
    order: random.Random,
    limit: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("cloze")
    rows = [story(i, f"They {ending}.") for i, ending in enumerate(endings)]
    shuffled = order.sample(rows, len(rows))
    given_order = cloze(write_csv(folder / "a.csv", rows), seed, wrong="other_story")
    if len(set(endings)) == 1:
        reasons = {row.reason for row in given_order if isinstance(row, BadRow)}
        assert reasons == {"no_other_ending"}
        return
    drawn = pairs(given_order)
    again = write_csv(folder / "b.csv", shuffled)
    assert pairs(cloze(again, seed, wrong="other_story")) == drawn
    some = pairs(cloze(again, seed, wrong="other_story", limit=limit))
    assert some == {row[0]: drawn[row[0]] for row in shuffled[:limit]}
    for i, ending in enumerate(endings):
        told, (right, wrong) = " ".join(rows[i][1:5]), drawn[f"id-{i}"]
        assert right == f"{told} They {ending}."
        assert wrong in {f"{told} They {other}." for other in set(endings) - {ending}}


def test_foreign_endings_are_drawn_from_the_whole_set_and_by_the_seed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [story(i) for i in range(300)])
    first, second = (pairs(cloze(path, seed, wrong="other_story")) for seed in (0, 1))
    assert len({wrong.split(".")[-2] for _, wrong in first.values()}) > 150  # of 300 drawings
    assert sum(first[name] != second[name] for name in first) > 250


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({7: "3"}, "bad_label", "AnswerRightEnding"),
        ({7: ""}, "bad_label", "not 1 or 2"),
        ({3: "  "}, "empty_text", "InputSentence3"),
        ({6: ""}, "empty_text", "RandomFifthSentenceQuiz2"),
    ],
)
def test_a_bad_story_is_a_line_that_names_its_column(
    tmp_path: Path, change: dict[int, str], reason: str, said: str
) -> None:
    bad = [change.get(i, value) for i, value in enumerate(story(1))]
    good, row = cloze(write_csv(tmp_path / "a.csv", [story(0), bad]))
    assert isinstance(good, PartedRow)
    assert isinstance(row, BadRow)
    assert (row.where, row.reason) == ("line 3", reason)
    assert said in row.detail


def test_a_story_with_a_cell_too_few_is_a_line(tmp_path: Path) -> None:
    _, row = cloze(write_csv(tmp_path / "a.csv", [story(0), story(1)[:-1]]))
    assert isinstance(row, BadRow)
    assert (row.where, row.reason) == ("line 3", "malformed_csv")


def test_a_file_without_the_answers_is_told_by_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "blind.csv", [story(0)[:-1]], HEADER[:-1])
    with pytest.raises(UnitcorpusError, match=r"blind\.csv has no column 'AnswerRightEnding'"):
        cloze(path)


@pytest.mark.parametrize("source", [StoryClozeSource, BlimpSource])
def test_without_a_path_the_error_says_where_the_data_is(source: Any) -> None:
    rows = {StoryClozeSource: StoryClozeRows, BlimpSource: BlimpRows}[source]
    with pytest.raises(UnitcorpusError, match=r"--set source\.path=F\w+, .*https://") as told:
        rows(source(), 0)
    assert "\n" not in str(told.value)


def test_a_file_of_another_ending_is_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.tsv", [story(0)])
    with pytest.raises(UnitcorpusError, match=r"test\.tsv by its ending.*source\.format"):
        cloze(path)
    assert len(pairs(cloze(path, format="csv"))) == 1


def paradigm(uid: str, count: int) -> str:
    rows = [
        {
            "sentence_good": f"{uid} good {i}.",
            "sentence_bad": f"{uid} bad {i}.",
            "linguistics_term": "agreement",
            "UID": uid,
            "pairID": str(i),
        }
        for i in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def blimp(path: Path, **options: Any) -> BlimpRows:
    return BlimpRows(BlimpSource(path=str(path), **options), 0)


def test_blimp_gives_a_pair_a_line_grouped_by_paradigm(tmp_path: Path) -> None:
    for uid in ("wh_island", "passive_1"):
        (tmp_path / f"{uid}.jsonl").write_text(paradigm(uid, 3))
    rows = [row for row in blimp(tmp_path).rows() if isinstance(row, PartedRow)]
    assert [row.id for row in rows] == [
        *(f"passive_1-{i}" for i in range(3)),
        *(f"wh_island-{i}" for i in range(3)),
    ]
    assert {row.group for row in rows} == {"wh_island", "passive_1"}
    assert [p.text for p in rows[4].parts] == ["wh_island good 1.", "wh_island bad 1."]
    assert rows[4].where == "wh_island.jsonl line 2"
    alone = list(blimp(tmp_path / "wh_island.jsonl").rows())
    assert alone == rows[3:]


def test_blimps_identity_is_its_files(tmp_path: Path) -> None:
    file = tmp_path / "passive_1.jsonl"
    file.write_text(paradigm("passive_1", 2))
    first = blimp(tmp_path).identity()
    assert str(tmp_path) not in json.dumps(first)
    file.write_text(paradigm("passive_1", 2).replace("good", "fine"))
    assert blimp(tmp_path).identity() != first


def test_bad_lines_of_blimp_name_their_file(tmp_path: Path) -> None:
    lines = paradigm("a", 1) + '{"sentence_good": \n' + '{"sentence_good": "x", "UID": "a"}\n'
    (tmp_path / "a.jsonl").write_text(lines)
    _, broken, short = blimp(tmp_path).rows()
    assert isinstance(broken, BadRow)
    assert (broken.where, broken.reason) == ("a.jsonl line 2", "malformed_json")
    assert isinstance(short, BadRow)
    assert (short.where, short.detail) == (
        "a.jsonl line 3",
        "column sentence_bad is missing, not a text",
    )


def test_a_folder_or_a_file_that_is_not_blimp_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match=r"no \.jsonl file"):
        blimp(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"sentence_god": "x"}\n')
    with pytest.raises(UnitcorpusError, match=r"a\.jsonl has no column 'sentence_good'.*mean"):
        list(blimp(tmp_path).rows())


def contrasts(seed: int = 0, **options: Any) -> list[PartedRow | BadRow]:
    return list(ContrastRows(ContrastsSource(**options), seed).rows())


def test_any_table_with_two_columns_is_a_set(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"good": "One.", "bad": "Two.", "id": 5, "kind": "x"}, {"good": "Three.", "bad": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns: dict[str, Any] = {
        "right_column": "good",
        "wrong_column": "bad",
        "group_column": "kind",
    }
    good, bad = contrasts(path=str(path), **columns)
    assert isinstance(good, PartedRow)
    assert ([p.text for p in good.parts], good.id, good.group) == (["One.", "Two."], "5", "x")
    assert isinstance(bad, BadRow)
    assert bad.reason == "not_text"
    with pytest.raises(UnitcorpusError, match=r"pairs\.jsonl has no column 'wrong'"):
        contrasts(path=str(path), right_column="good")


@pytest.mark.parametrize("seed", [0, 1])
def test_built_in_pairs_differ_in_their_end_or_their_order(seed: int) -> None:
    rows = [row for row in contrasts(seed, count=60) if isinstance(row, PartedRow)]
    assert len({row.id for row in rows}) == 60
    assert {row.group for row in rows} == {"ending", "order"}
    for row in rows:
        right, wrong = (part.text for part in row.parts)
        assert right != wrong
        same_words = sorted(right.split()) == sorted(wrong.split())
        assert same_words == (row.group == "order")
