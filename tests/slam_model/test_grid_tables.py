"""Tables and figures of grids, against scores written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from grids import finished
from slam_model.grid.figures import draw
from slam_model.grid.results import collect
from slam_model.grid.tables import markdown, write_tables

PAPER = [
    {"where": "table 9", "of": {"width": "narrow"}, "stage": "dpo", "scores": {"acc": 61.5},
     "tokens": 30}
]  # fmt: skip


def test_a_row_is_the_mean_over_seeds_with_the_range_and_the_papers_number(tmp_path: Path) -> None:
    grid, cells, place = finished(tmp_path, {0: 0.5, 1: 0.25, 2: 0.75}, published=PAPER)
    rows = collect(grid, cells, place)
    assert [(r.labels["width"], r.stage, r.of) for r in rows] == [
        ("narrow", "pretrained", 3), ("narrow", "dpo", 3), ("wide", "pretrained", 0),
        ("wide", "dpo", 0),
    ]  # fmt: skip
    first, second = rows[:2]
    assert first.scores["acc"].values == (50.0, 25.0, 75.0)
    assert (first.scores["acc"].mean, first.scores["ppl"].mean) == (50.0, 7.0)
    assert second.scores["acc"].mean == pytest.approx(60.0)
    assert (first.paper("acc"), second.paper("acc")) == (None, 61.5)
    assert first.parameters == 15
    assert first.flops is not None
    assert second.flops is not None
    assert second.flops.mean == first.flops.mean + 4e6 + 1  # DPO's come on top
    text = markdown(grid, rows, None)
    assert "| 60.00 (35.00 to 85.00) | 61.5 |" in text
    assert "| 50.00 (25.00 to 75.00) |  |" in text
    assert "spoken: not run in every row (needs --vocoder and its readers)." in text
    assert "acc: not run in 2 of 4 rows (needs pairs)." in text


def test_the_three_files_say_the_same(tmp_path: Path) -> None:
    grid, cells, place = finished(tmp_path, {0: 0.5, 1: 0.25}, published=PAPER)
    rows = collect(grid, cells, place)
    write_tables(grid, rows, tmp_path / "out", None)
    lines = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    table = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert len(lines) == len(table) == 4
    for line, row in zip(lines, table, strict=True):
        assert (line["width"], line["stage"]) == (row["labels"]["width"], row["stage"])
        found = row["scores"]["acc"]
        assert line["acc"] == (str(found["mean"]) if found else "")
        assert line["acc high"] == (str(found["max"]) if found else "")
        assert line["acc paper"] == (str(row["paper"]["acc"]) if row["paper"]["acc"] else "")
        assert row["scores"]["spoken"] is None


@pytest.mark.parametrize("kind", ["curves", "scatter", "shares"])
def test_every_kind_of_figure_is_drawn_and_the_same_again(tmp_path: Path, kind: str) -> None:
    picture = {"kind": kind, "score": "acc"}
    grid, cells, place = finished(tmp_path, {0: 0.5, 1: 0.25}, published=PAPER, picture=picture)
    rows = collect(grid, cells, place)
    png, svg = draw(grid, rows, tmp_path, None)
    first = png.read_bytes(), svg.read_bytes()
    assert first[0].startswith(b"\x89PNG")
    draw(grid, rows, tmp_path, None)
    assert (png.read_bytes(), svg.read_bytes()) == first


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    grid, cells, place = finished(tmp_path, {0: 0.5})
    rows = [row for row in collect(grid, cells, place) if not row.of]
    assert draw(grid, rows, tmp_path, None) == []
