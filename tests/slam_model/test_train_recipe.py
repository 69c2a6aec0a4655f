"""Training recipes: every mistake is one line, and the shipped ones hold the paper's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from slam_model.recipe import TrainRecipe, changes, load_train_recipe
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe

SHIPPED = [
    "slam",
    "slam_dpo",
    "slam_scaled",
    "twist350m",
    "twist350m_stinystories",
    "demo/slam",
    "demo/slam_dpo",
]


def dump(*overrides: str) -> dict[str, object]:
    return load_train_recipe("slam", overrides).model_dump(mode="json")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_recipes_load(name: str) -> None:
    load_train_recipe(name)


def test_slam_has_the_numbers_of_table_4() -> None:
    recipe = load_train_recipe("slam")
    assert recipe.model.base == "Qwen/Qwen2.5-0.5B"
    assert recipe.model.twist
    assert recipe.model.rope_theta == 10_000
    assert (recipe.data.context, recipe.budget.hours) == (1024, 23.5)
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.clip) == ("adamw", 1e-3, 0.5)
    assert (recipe.schedule.shape, recipe.schedule.warmup) == ("cosine", 0.01)
    assert recipe.schedule.minimum == 5e-5


def test_slam_dpo_has_the_numbers_of_table_5() -> None:
    recipe = load_train_recipe("slam_dpo")
    assert recipe.dpo is not None
    assert (recipe.dpo.beta, recipe.dpo.pairs_per_step) == (0.1, 4 * 16)
    assert recipe.dpo.max_scores == {"text_slam_chosen": 0.3}
    assert (recipe.optim.lr, recipe.optim.clip, recipe.budget.hours) == (5e-5, 0.5, 0.5)
    assert recipe.schedule.shape == "inverse_sqrt"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.hours=0", r"'budget.hours': input should be greater than 0 \(got 0\)"),
        ("budget.steps=0", "'budget.steps': input should be greater than 0"),
        ("budget.hours=null", "'budget': set at least one of hours, steps and tokens"),
        ("optim.lrr=1", r"unknown key 'optim.lrr' \(did you mean 'lr'\?\)"),
        ("optim.name=adam", "'optim.name'"),
        ("data.context=9000", r"data.micro_tokens \(8192\) must hold one document"),
        ("schedule.minimum=1", r"schedule.minimum \(1.0\) is above optim.lr"),
        ("optim.lr=.nan", "'optim.lr'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(UnitcorpusError, match=message) as caught:
        load_train_recipe("slam", [override])
    assert "\n" not in str(caught.value)


def test_the_recipe_of_a_corpus_is_not_one_for_training() -> None:
    with pytest.raises(
        UnitcorpusError, match="recipe of a corpus; build it with: unitcorpus build"
    ):
        load_train_recipe("stinystories")


def test_a_training_recipe_is_not_one_of_a_corpus() -> None:
    with pytest.raises(UnitcorpusError, match="training recipe; run it with: python -m slam_model"):
        load_recipe("slam")


def test_label_smoothing_has_no_place_in_ipo() -> None:
    with pytest.raises(UnitcorpusError, match="label_smoothing has no effect in the variant ipo"):
        load_train_recipe("slam_dpo", ["dpo.variant=ipo", "dpo.label_smoothing=0.1"])


def test_a_budget_may_grow_and_nothing_else_may_change() -> None:
    assert changes(dump(), dump("budget.hours=30", "log.steps=1", "evaluation.steps=7")) == []
    assert changes(dump(), dump("budget.hours=null", "budget.steps=9")) == [
        "budget.steps: null → 9"
    ]
    assert changes(dump(), dump("budget.hours=20")) == ["budget.hours: 23.5 → 20.0"]
    assert changes(dump(), dump("optim.lr=2e-3", "seed=1")) == [
        "optim.lr: 0.001 → 0.002",
        "seed: 0 → 1",
    ]


def test_a_recipe_survives_its_own_record() -> None:
    recipe = load_train_recipe("demo/slam")
    assert TrainRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_slam24h_names_only_recipes_that_are_shipped() -> None:
    script = Path(__file__).parents[2] / "recipes" / "slam24h.sh"
    words = script.read_text("utf-8").split()
    named = {words[i + 1] for i, word in enumerate(words) if word == "slam_model.train"}
    assert named == {"slam", "slam_dpo"}
