"""Pairs of texts from the layouts of SWAG and HellaSwag, and from named columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import PairsSource
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.pairs import ENDINGS, PairRows, sentences

SWAG: dict[str, Any] = {
    "video-id": "v7",
    "fold-ind": "12",
    "startphrase": "They sit. He",
    "sent1": "They sit.",
    "sent2": "He",
    "gold-source": "gold",
    **{name: f"does {name}." for name in ENDINGS},
    "label": "2",
}
HELLASWAG: dict[str, Any] = {
    "ind": 4,
    "ctx_a": "A man sits on a roof.",
    "ctx_b": "he",
    "ctx": "A man sits on a roof. he",
    "endings": ["naps.", "sings.", "starts pulling up roofing.", "jumps."],
    "label": 2,
}
Rows = list[PartedRow | BadRow]


def jsonl(folder: Path, *rows: dict[str, Any], seed: int = 0, **section: Any) -> Rows:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(PairRows(PairsSource(path=str(path), **section), seed).rows())


def table(folder: Path, *rows: dict[str, Any], **section: Any) -> Rows:
    path = folder / "rows.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return list(PairRows(PairsSource(path=str(path), **section), 0).rows())


def texts(row: PartedRow | BadRow) -> tuple[str, ...]:
    assert isinstance(row, PartedRow), row
    return tuple(part.text for part in row.parts)


def test_swag_as_published(tmp_path: Path) -> None:
    [row] = table(tmp_path, SWAG)
    prompt, chosen, rejected = texts(row)
    assert (prompt, chosen) == ("They sit.", "He does ending2.")
    assert rejected in {f"He does ending{i}." for i in (0, 1, 3)}
    assert isinstance(row, PartedRow)
    assert (row.id, row.where) == ("v7-12", "line 2")


def test_a_file_a_parquet_table_and_a_folder_give_the_same_pairs(tmp_path: Path) -> None:
    """The last is how `datasets` reads the Hub's copy: label as an integer, split by name."""
    rows = [{**SWAG, "fold-ind": str(i), "label": i % 4} for i in range(9)]
    one = [texts(row) for row in table(tmp_path, *rows)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    source = PairRows(PairsSource(path=str(tmp_path / "rows.parquet")), 0)
    assert [texts(row) for row in source.rows()] == one
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "train-00000-of-00001.parquet")
    hub = PairRows(PairsSource(path=str(tmp_path / "hub"), form="swag", limit=5), 0)
    found = list(hub.rows())
    assert [texts(row) for row in found] == one[:5]
    assert {row.split for row in found if isinstance(row, PartedRow)} == {"train"}
    assert hub.identity()["sha256"]


def test_both_layouts_of_hellaswag_give_the_same_pair(tmp_path: Path) -> None:
    raw = jsonl(tmp_path, HELLASWAG)
    joined = jsonl(tmp_path, {k: v for k, v in HELLASWAG.items() if k not in ("ctx_a", "ctx_b")})
    assert texts(raw[0]) == texts(joined[0])
    assert texts(raw[0])[:2] == ("A man sits on a roof.", "he starts pulling up roofing.")


@pytest.mark.parametrize(
    ("context", "prompt", "opening"),
    [
        ("He waits. Then he", "He waits.", "Then he "),
        ('She says "Go!" He', 'She says "Go!"', "He "),
        ("He waits. He goes.", "He waits. He goes.", ""),
        ("Mr. Fox waits. He", "Mr. Fox waits.", "He "),
    ],
)
def test_the_last_fragment_of_a_joined_context_opens_the_endings(
    tmp_path: Path, context: str, prompt: str, opening: str
) -> None:
    row = {"ctx": context, "endings": ["a.", "b.", "c.", "d."], "label": 0}
    assert texts(jsonl(tmp_path, row)[0])[:2] == (prompt, f"{opening}a.")


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 3))
def test_the_wrong_ending_depends_on_seed_and_id_alone(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{**HELLASWAG, "ind": i} for i in range(12)]
    alone = {i: texts(jsonl(folder, rows[i], seed=seed)[0]) for i in order[:3]}
    shuffled = jsonl(folder, *(rows[i] for i in order), seed=seed)
    found = {row.id: texts(row) for row in shuffled if isinstance(row, PartedRow)}
    assert {str(i): t for i, t in alone.items()}.items() <= found.items()


def test_every_wrong_ending_is_drawn_and_never_the_right_one(tmp_path: Path) -> None:
    drawn = [texts(r)[2] for r in jsonl(tmp_path, *({**HELLASWAG, "ind": i} for i in range(300)))]
    counts = {text: drawn.count(text) for text in set(drawn)}
    assert set(counts) == {"he naps.", "he sings.", "he jumps."}
    assert min(counts.values()) > 70


def test_named_columns_take_any_table(tmp_path: Path) -> None:
    row = {"q": "Why?", "good": "So.", "bad": "No.", "key": "k1"}
    names: dict[str, Any] = {
        "prompt_column": "q",
        "chosen_column": "good",
        "rejected_column": "bad",
    }
    [found] = jsonl(tmp_path, row, id_column="key", **names)
    assert texts(found) == ("Why?", "So.", "No.")
    assert isinstance(found, PartedRow)
    assert found.id == "k1"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"label": 4}, "bad_label", "column label is 4, not one of 0, 1, 2, 3"),
        ({"label": -1}, "bad_label", "-1"),
        ({"label": None}, "bad_label", "None"),
        ({"label": True}, "bad_label", "True"),
        ({"endings": ["a", "b", "c"]}, "bad_endings", "column endings has 3, expected are 4"),
        ({"endings": ["a", " ", "c", "d"]}, "bad_endings", "ending 1 is empty"),
        ({"endings": "abcd"}, "bad_endings", "not a list of texts"),
        ({"ctx_a": None}, "not_text", "column ctx_a is NoneType"),
        ({"ctx_a": "[header] How to sit."}, "unspeakable", "holds '['"),
        ({"ctx_a": "See http:x."}, "unspeakable", "http"),
    ],
)
def test_a_bad_row_is_listed_with_its_column_and_costs_no_other(
    tmp_path: Path, change: dict[str, Any], reason: str, words: str
) -> None:
    good, bad = jsonl(tmp_path, HELLASWAG, {**HELLASWAG, **change})
    assert isinstance(good, PartedRow)
    assert isinstance(bad, BadRow)
    assert (bad.where, bad.reason) == ("line 2", reason)
    assert words in bad.detail


def test_generated_endings_of_swag_are_counted_not_used(tmp_path: Path) -> None:
    good, bad = table(tmp_path, SWAG, {**SWAG, "gold-source": "gen"})
    assert isinstance(good, PartedRow)
    assert isinstance(bad, BadRow)
    assert bad.reason == "not_gold"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "has the columns a: not those of SWAG or HellaSwag; name three with"),
        ({"form": "swag"}, "has no column 'ending0', which source.form 'swag' wants"),
        ({"form": "columns"}, "has no column 'chosen'"),
    ],
)
def test_columns_of_no_known_form_are_an_error_with_the_place(
    tmp_path: Path, section: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnitcorpusError) as caught:
        jsonl(tmp_path, {"a": 1}, **section)
    assert words in str(caught.value)
    assert "rows.jsonl, line 1," in str(caught.value)


def test_built_in_pairs_go_on_with_their_own_story_or_with_another(tmp_path: Path) -> None:
    rows = list(PairRows(PairsSource(count=40), 0).rows())
    found = [texts(row) for row in rows]
    assert len(set(found)) == 40
    assert all(all(text.strip() for text in three) for three in found)
    assert all(chosen != rejected for _, chosen, rejected in found)
    # a longer list begins with the same prompts
    longer = [texts(row)[:2] for row in PairRows(PairsSource(count=50), 0).rows()]
    assert longer[:40] == [three[:2] for three in found]


def test_sentences_keep_a_quote_with_what_its_speaker_does() -> None:
    text = 'He sat. "Come out!" he said every day. "No!" She ran.'
    assert sentences(text) == ["He sat.", '"Come out!" he said every day.', '"No!"', "She ran."]
    assert " ".join(sentences(text)) == text
