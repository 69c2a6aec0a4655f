"""Mixtures: weights become shares of the tokens that are learnt, and are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from runs import train, write_recipe, write_stories
from slam_model.mixture import find_sources
from slam_model.packing import PADDING, chunk_table
from slam_model.pretrain import Pretraining
from slam_model.recipe import TrainRecipe, load_train_recipe
from slam_model.tokens import Tokens, open_tokens
from tiny import stories, write_corpus
from unitcorpus.errors import UnitcorpusError

NAMES = ("large", "small", "middle")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Tokens]:
    root = tmp_path_factory.mktemp("corpora")
    sizes = dict(zip(NAMES, (90, 12, 40), strict=True))
    paths = [write_corpus(root / n, {"train": stories(k)}) for n, k in sizes.items()]
    return [open_tokens(path, cache=root / "cache") for path in paths]


def recipe_of(folder: Path, **data: Any) -> TrainRecipe:
    path = write_recipe(folder / "recipe.yaml")
    return load_train_recipe(str(path), [f"data.{key}={value}" for key, value in data.items()])


def learnt(recipe: TrainRecipe, corpora: list[Tokens], epochs: int) -> dict[str, int]:
    """Predicted tokens of each corpus in so many epochs."""
    task = Pretraining(recipe, corpora, [], Accelerator(cpu=True))
    chunks = [len(chunk_table(corpus.offsets, recipe.data.context)[0]) for corpus in corpora]
    found = np.zeros(len(corpora), int)
    for _ in range(10_000):
        if task.state()["epoch"] >= epochs:
            break
        for pack in task.share().packs:
            real = pack.rows.numpy() != PADDING
            of_corpus = np.searchsorted(np.cumsum(chunks), pack.rows.numpy()[real], "right")
            np.add.at(found, of_corpus, pack.cu_seqlens.diff().numpy()[real] - 1)
    return {corpus.name: int(n) for corpus, n in zip(corpora, found, strict=True)}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.05, 10), min_size=3, max_size=3))
def test_weights_are_shares_of_the_learnt_tokens(
    corpora: list[Tokens], tmp_path_factory: pytest.TempPathFactory, weights: list[float]
) -> None:
    by_name = dict(zip(NAMES, weights, strict=True))
    recipe = recipe_of(tmp_path_factory.mktemp("r"), weights=f"{{{_flow(by_name)}}}")
    found = learnt(recipe, corpora, epochs=6)
    total = sum(found.values())
    for name, weight in by_name.items():
        assert found[name] / total == pytest.approx(weight / sum(weights), abs=0.03)


def test_an_epoch_by_weights_is_as_long_as_one_without(
    corpora: list[Tokens], tmp_path: Path
) -> None:
    plain = learnt(recipe_of(tmp_path), corpora, 4)
    weighted = learnt(recipe_of(tmp_path, weights="{large: 1, small: 1, middle: 1}"), corpora, 4)
    assert sum(weighted.values()) == pytest.approx(sum(plain.values()), rel=0.03)
    for corpus in corpora:  # the last step goes on into the next epoch
        whole = 4 * (len(corpus.tokens) - len(corpus))
        assert whole <= plain[corpus.name] < whole + 512


def _flow(values: dict[str, float]) -> str:
    return ", ".join(f"{name}: {value!r}" for name, value in values.items())


# --- the file ------------------------------------------------------------------------------------


def write_mixture(path: Path, *corpora: dict[str, Any], **more: Any) -> Path:
    path.write_text(yaml.safe_dump({"corpora": list(corpora), **more}), "utf-8")
    return path


def test_a_mixture_trains_as_its_recipe_would(tmp_path: Path) -> None:
    one = write_stories(tmp_path / "in" / "one")
    two = write_corpus(tmp_path / "in" / "two", {"train": stories(20, seed=3)})
    parts = ({"path": "one", "weight": 1}, {"path": "two", "weight": 3})
    mixture = write_mixture(tmp_path / "in" / "mix.yaml", *parts)
    recipe = write_recipe(tmp_path / "r.yaml", budget={"steps": 3})
    mixed = train(recipe, "--data", mixture, "--out", tmp_path / "mixed")
    assert mixed.code == 0, mixed.errors
    weights = ["--set", "data.weights={one: 1, two: 3}"]
    assert train(recipe, "--data", one, two, *weights, "--out", tmp_path / "set").code == 0
    recorded = [(tmp_path / run / "final" / "recipe.yaml").read_text() for run in ("mixed", "set")]
    assert recorded[0] == recorded[1]
    more = ["--set", "budget.steps=5", "--out", tmp_path / "mixed"]
    write_mixture(mixture, {"path": "one", "weight": 1}, {"path": "two", "weight": 2})
    changed = train(recipe, "--data", mixture, *more)
    assert (changed.code, "data.weights.two: 3.0 → 2.0" in changed.errors) == (2, True)


def test_epochs_are_repeats_and_a_corpus_without_is_seen_once(tmp_path: Path) -> None:
    path = write_mixture(tmp_path / "m.yml", {"path": "a", "epochs": 2.5}, {"path": "/b"})
    sources = find_sources([str(path)])
    assert sources.locations == [str(tmp_path / "a"), "/b"]
    mixed = sources.mixed(recipe_of(tmp_path), ["x", "y"])
    assert (mixed.data.repeats, mixed.data.weights) == ({"x": 2.5}, {})


def test_urls_stay_as_they_are_and_folders_are_no_mixture(tmp_path: Path) -> None:
    path = write_mixture(tmp_path / "m.yaml", {"path": "hf://datasets/a/b"})
    assert find_sources([str(path)]).locations == ["hf://datasets/a/b"]
    assert find_sources(["a", "b"]).mixture is None


A, B = {"path": "a"}, {"path": "b"}
BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "half weighted": ([{**A, "weight": 1}, B], "every corpus a weight, or none: b has none"),
    "both": ([{**A, "weight": 1}, {**B, "weight": 1, "epochs": 2}], "weights or epochs, not both"),
    "negative": ([{**A, "weight": -1}], "greater than 0"),
    "unknown key": ([{**A, "wieght": 1}], "did you mean 'weight'"),
    "nothing": ([], "at least 1 item"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_mistake_in_a_mixture_is_one_line(case: str, tmp_path: Path) -> None:
    parts, message = BAD[case]
    path = write_mixture(tmp_path / "m.yaml", *parts)
    with pytest.raises(UnitcorpusError, match=message) as caught:
        find_sources([str(path)])
    assert "\n" not in str(caught.value)


def test_what_a_mixture_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="there is no such mixture"):
        find_sources([str(tmp_path / "none.yaml")])
    with pytest.raises(UnitcorpusError, match="no mixture of corpora for --data"):
        find_sources([str(write_recipe(tmp_path / "r.yaml"))])
    path = write_mixture(tmp_path / "m.yaml", {**A, "weight": 1}, {**B, "weight": 1})
    with pytest.raises(UnitcorpusError, match="name all corpora in it"):
        find_sources([str(path), "c"])
    sources = find_sources([str(path)])
    with pytest.raises(UnitcorpusError, match="two corpora of the mixture are named 'same'"):
        sources.mixed(recipe_of(tmp_path), ["same", "same"])
    with pytest.raises(UnitcorpusError, match="take one of them out"):
        sources.mixed(recipe_of(tmp_path, repeats="{x: 2}"), ["x", "y"])


def test_weights_must_name_every_corpus_and_no_other(corpora: list[Tokens], tmp_path: Path) -> None:
    for weights, message in (
        ("{large: 1, small: 1}", "data.weights: middle has none"),
        ("{large: 1, small: 1, midle: 1}", r"no corpus 'midle' \(did you mean 'middle'"),
    ):
        with pytest.raises(UnitcorpusError, match=message):
            Pretraining(recipe_of(tmp_path, weights=weights), corpora, [], Accelerator(cpu=True))
    with pytest.raises(UnitcorpusError, match="repeats or weights, not both"):
        recipe_of(tmp_path, weights="{large: 1}", repeats="{large: 1}")
