"""Mixtures as files: what they may say, where paths are read from, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import list_recipes, load_recipe
from unitcorpus.recipe.mixture import Ingredient, Mixture, is_mixture, load_mixture, mixture_of

ABLATION = {
    "libri": set[str](),
    "libri_synthetic": {"stinystories"},
    "diverse": {"swc", "tedlium", "peoples_speech", "voxpopuli"},
    "diverse_synthetic": {"stinystories", "swc", "tedlium", "peoples_speech", "voxpopuli"},
}


def written(folder: Path, text: str) -> str:
    (folder / "mix.yaml").write_text(text)
    return str(folder / "mix.yaml")


def test_the_four_mixtures_of_the_ablation_are_shipped() -> None:
    shipped = [name for name in list_recipes(Mixture) if name.startswith("mixtures/")]
    assert shipped == sorted(f"mixtures/{name}" for name in ABLATION)
    assert list_recipes(Mixture) == shipped
    for name, more in ABLATION.items():
        corpora = load_mixture(f"mixtures/{name}").corpora
        assert {one.name for one in corpora} == {"librilight", "librispeech"} | more
        for one in corpora:
            assert load_recipe(one.name).expected is not None


def test_what_a_recipe_expects_leaves_no_trace_in_a_corpus() -> None:
    assert "expected" not in load_recipe("librispeech").public()


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 10**10)), min_size=1, max_size=8))
def test_weights_are_shares_of_an_epoch_as_long_as_all_corpora(
    given_: list[tuple[float, int]],
) -> None:
    weights, tokens = [w for w, _ in given_], [n for _, n in given_]
    mixture = Mixture(corpora=[Ingredient(path=f"c{i}", weight=w) for i, w in enumerate(weights)])
    seen = [times * n for times, n in zip(mixture.repeats(tokens), tokens, strict=True)]
    assert sum(seen) == pytest.approx(sum(tokens))
    for share, weight in zip(seen, weights, strict=True):
        assert share / sum(seen) == pytest.approx(weight / sum(weights))


def test_without_weights_a_corpus_is_seen_once_or_as_often_as_it_says() -> None:
    mixture = Mixture(corpora=[Ingredient(path="a"), Ingredient(path="b", epochs=2.5)])
    assert mixture.repeats([7, 9]) == [1.0, 2.5]


def test_paths_are_read_from_the_files_folder(tmp_path: Path) -> None:
    text = 'corpora:\n  - path: a\n  - path: /b\n  - path: "hf://datasets/u/c"\n'
    found = load_mixture(written(tmp_path, text)).corpora
    assert [one.path for one in found] == [str(tmp_path / "a"), "/b", "hf://datasets/u/c"]
    assert load_mixture("mixtures/libri").corpora[0].path == "corpora/librilight"


def test_a_mixture_is_told_from_recipes_and_folders(tmp_path: Path) -> None:
    path = written(tmp_path, "corpora:\n  - path: a\n")
    assert is_mixture(path)
    assert is_mixture("mixtures/diverse")
    assert not is_mixture("demo/stinystories")
    assert mixture_of(["corpora/a", "b"]) is None
    for name in (path, "mixtures/libri"):
        assert mixture_of([name]) == load_mixture(name)
        with pytest.raises(UnitcorpusError, match="name all corpora in it"):
            mixture_of([name, "other"])


BAD = {
    "- {pth: a}": "'corpora.0.path' is missing",
    "- {path: a, wieght: 1}": "'corpora.0.wieght' (did you mean 'weight'?)",
    "- {path: a, weight: 0}": "'corpora.0.weight': input should be greater than 0",
    "- {path: a, epochs: -1}": "'corpora.0.epochs': input should be greater than 0",
    "- {path: a, weight: .inf}": "'corpora.0.weight'",
    "- {path: a, weight: 1, epochs: 1}": "weights or epochs, not both",
    "- {path: a, weight: 1}\n  - {path: b}": "give every corpus a weight, or none: b has none",
    "- {path: a}\n  - {path: ./a/}": "a stands there twice",
    "- {path: hf://d}\n  - {path: hf://d/}": "hf://d stands there twice",
    "- {path: mix.yaml}": "mix.yaml is no corpus: a mixture holds no mixtures",
    "- {path: ''}": "'corpora.0.path'",
    "- a": "'corpora.0'",
    "[]": "'corpora': list should have at least 1 item",
    "a": "'corpora': input should be a valid list",
    "": "'corpora': input should be a valid list",
    "- {path: a}\nnane: x": "unknown key 'nane' (did you mean 'name'?)",
    "- {path: a}\ncorpora:\n  - {path: b}": "line 3: the key 'corpora' stands there twice",
}


@pytest.mark.parametrize("rest", BAD)
def test_a_mistake_is_told_in_one_line(rest: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"corpora:\n  {rest}\n")
    with pytest.raises(UnitcorpusError) as caught:
        mixture_of([path])
    assert BAD[rest] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mixture_is_no_recipe_and_says_what_it_is_for(tmp_path: Path) -> None:
    for name in ("mixtures/libri", written(tmp_path, "corpora:\n  - path: a\n")):
        with pytest.raises(UnitcorpusError, match="this is a mixture; look at it with: unitcorpus"):
            load_recipe(name)


def test_a_key_that_stands_twice_in_a_recipe_is_refused(tmp_path: Path) -> None:
    """YAML would keep the last, silently."""
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nsource: {kind: stories}\nspeech: {}\nunits: {hop: 1, hop: 2}\n")
    with pytest.raises(UnitcorpusError, match="line 4: the key 'hop' stands there twice"):
        load_recipe(str(path))
