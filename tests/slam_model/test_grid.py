"""Grids: how axes become cells, and that the paper's are what the paper says."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from grids import grid, write_grid
from slam_model.base import find_base
from slam_model.grid.__main__ import _remember, main
from slam_model.grid.cells import PRETRAINED, expand
from slam_model.grid.jobs import Place, jobs
from slam_model.grid.recipe import Grid, load_grid, load_profile
from slam_model.model import TOKEN_IDS
from slam_model.recipe import load_train_recipe
from test_model import COUNTS
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.loading import list_recipes

PAPER = [name for name in list_recipes(Grid) if name.startswith("paper/")]

TABLES = {
    # arXiv 2502.15814: sBLIMP, sStoryCloze, tStoryCloze, GenPPL, Auto-BLEU
    ("table2", "TWIST-350M", "pretrained"): (51.52, 53.65, 68.80, 259.2, 3.26),
    ("table2", "TWIST-350M + sTinyStories", "pretrained"): (51.21, 54.17, 72.40, 159.0, 4.18),
    ("table2", "Slam", "pretrained"): (56.45, 55.59, 78.01, 88.3, 3.47),
    ("table2", "Slam", "dpo"): (58.86, 58.04, 82.04, 62.8, 3.88),
    ("table3", "Slam (scaled)", "pretrained"): (58.53, 58.15, 80.71, 67.3, 3.25),
    ("table3", "Slam (scaled)", "dpo"): (61.11, 61.30, 84.18, 46.6, 3.75),
}
"""Tables 2 and 3 of the paper, typed from it a second time."""
COLUMNS = ("sBLIMP", "sSC", "tSC", "GenPPL", "Auto-BLEU")


def test_the_paper_has_three_tables_and_five_figures() -> None:
    assert [f"paper/{k}{n}" for k, most in (("figure", 5), ("table", 3))
                     for n in range(1, most + 1)] == PAPER  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_every_cell_has_valid_recipes_and_a_base_of_the_published_size(name: str) -> None:
    for cell in expand(load_grid(name)):
        base = cell.recipes["pretrained"].model.base
        assert isinstance(base, str)
        config = find_base(base, None, from_scratch=True).config
        rotary = getattr(config, "rope_parameters", None) is not None
        assert rotary or cell.recipes["pretrained"].model.rope_theta is None
        config.update({"vocab_size": 502, **TOKEN_IDS})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert sum(p.numel() for p in model.parameters()) == COUNTS[base]
        if "dpo" in cell.recipes:
            assert cell.recipes["dpo"].model.base == PRETRAINED
            assert cell.recipes["dpo"].dpo is not None


@pytest.mark.parametrize("name", PAPER)
def test_the_small_profile_fits_every_grid(name: str) -> None:
    full, profile = load_grid(name), load_profile("paper/small")
    for cell in expand(full, profile):
        for recipe in cell.recipes.values():
            assert recipe.budget.hours is None
            assert (recipe.budget.steps or 0) <= 100
            assert (recipe.budget.tokens or 0) < 1e6
        assert cell.processes == 1


def test_a_day_is_a_day_in_every_cell_of_one_gpu() -> None:
    for name in ("table1", "table2", "figure2", "figure3", "figure4", "figure5"):
        for cell in expand(load_grid(f"paper/{name}")):
            assert cell.hours in (23.5, 24.0), cell.name


@pytest.mark.parametrize(("table", "row", "stage"), TABLES)
def test_the_papers_numbers_are_the_papers(table: str, row: str, stage: str) -> None:
    found = [
        one.scores
        for one in load_grid(f"paper/{table}").published
        if one.of["model"] == row and one.stage == stage
    ]
    assert found == [dict(zip(COLUMNS, TABLES[table, row, stage], strict=True))]


def test_table_1_is_of_pretraining_and_its_default_row_is_slams() -> None:
    data, main_ = load_grid("paper/table1"), load_grid("paper/table2")
    both = {one.of["synthetic data"]: one.scores for one in data.published}
    assert both["none"] == {"sBLIMP": 56.60, "sSC": 53.50, "tSC": 71.14, "GenPPL": 145.4}
    slam = next(p for p in main_.published if p.of == {"model": "Slam"} and p.stage != "dpo")
    assert both["sTinyStories"].items() <= slam.scores.items()
    chosen = {cell.name: cell.data["pretrained"] for cell in expand(data)}
    diverse = ("swc", "tedlium", "peoples_speech", "voxpopuli")
    assert len(chosen) == 8
    for name, corpora in chosen.items():
        assert corpora[:2] == ("librilight", "librispeech")
        assert (corpora[2:6] == diverse) == ("_diverse_" in name)
        assert ("stinystories" in corpora) == ("stinystories" in name)


def test_slam_of_table_2_is_the_shipped_recipe() -> None:
    (cell,) = [c for c in expand(load_grid("paper/table2")) if c.name == "slam_seed0"]
    assert cell.recipes["pretrained"] == load_train_recipe("slam")
    assert cell.recipes["dpo"] == load_train_recipe("slam_dpo", [f"model.base={PRETRAINED}"])
    assert cell.share == pytest.approx(0.5 / 24)


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), seeds=st.integers(1, 3))
def test_every_choice_meets_every_other_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seeds: int
) -> None:
    axes = {
        f"axis{i}": {f"c{j}": {"set": {f"optim.{k}": (j + 1) / 8}} for j in range(n)}
        for i, (n, k) in enumerate(zip(sizes, ("lr", "weight_decay", "alpha"), strict=False))
    }
    root = tmp_path_factory.getbasetemp()
    cells = expand(Grid.model_validate(grid(root, axes=axes, seeds=list(range(seeds)))))
    found = {(tuple(cell.labels.values()), cell.seed) for cell in cells}
    assert found == set(product(product(*axes.values()), range(seeds)))
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        optim = cell.recipes["pretrained"].optim
        assert optim.lr == (int(cell.labels["axis0"][1:]) + 1) / 8
        assert all(recipe.seed == cell.seed for recipe in cell.recipes.values())


def test_a_choice_that_is_no_recipe_is_told_with_its_cell(tmp_path: Path) -> None:
    axes = {"width": {"wrong": {"set": {"optim.lrr": 1}}}}
    with pytest.raises(UnitcorpusError, match=r"test, wrong: .*unknown key 'optim.lrr'"):
        expand(Grid.model_validate(grid(tmp_path, axes=axes)))


def test_two_choices_of_one_name_are_refused(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"width": {"a b": {}, "A-B": {}}}
    with pytest.raises(UnitcorpusError, match="two cells are called a-b_seed0"):
        expand(Grid.model_validate(grid(tmp_path, axes=axes)))


def test_an_output_folder_takes_more_cells_and_no_other_ones(tmp_path: Path) -> None:
    made = Grid.model_validate(grid(tmp_path))
    _remember(expand(made), tmp_path / "out")
    _remember(expand(made, seeds=[0, 1]), tmp_path / "out")
    with pytest.raises(UnitcorpusError, match="narrow_seed1 is no longer there"):
        _remember(expand(made), tmp_path / "out")
    changed = expand(made, seeds=[0, 1], overrides=["optim.lr=0.5"])
    with pytest.raises(UnitcorpusError, match=r"narrow_seed0: .*optim.lr: 0.003 → 0.5"):
        _remember(changed, tmp_path / "out")


def test_missing_corpora_are_named_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    write_grid(tmp_path)
    (tmp_path / "data" / "pairs" / "corpus.json").unlink()
    with pytest.raises(UnitcorpusError, match="has no pairs: build them there"):
        main([str(file), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_the_cost_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["paper/table2", *where, "--dry-run", "--only", "slam_*"]) == 0
    said = capsys.readouterr().out
    assert "72 GPU-hours of training in 3 cells" in said
    assert "missing in" in said
    assert list(tmp_path.iterdir()) == []


def test_generation_is_asked_for_with_a_vocoder_only_and_punishes_repeats_after_dpo(
    tmp_path: Path,
) -> None:
    write_grid(tmp_path)
    made = Grid.model_validate(grid(tmp_path))
    cell = expand(made)[0]
    place = Place(tmp_path / "out", str(tmp_path / "data"))
    assert [job.name for job in jobs(made, cell, place)] == ["pretraining", "DPO", "scores"]
    spoken = Place(tmp_path / "out", str(tmp_path / "data"), vocoder="V", readers=("--asr", "W"))
    before, after = (j.command for j in jobs(made, cell, spoken) if j.name == "generation")
    assert before[-6:] == ["--vocoder", "V", "--limit", "1000", "--asr", "W"]
    assert after[-2:] == ["--repetition-penalty", "1.1"]
