"""Recipes: every shipped one loads, and every mistake is one line that names the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import Recipe, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description
    assert recipe.licence


def test_only_the_built_in_texts_are_licensed_by_us() -> None:
    for name in ("demo/stinystories", "demo/spokenswag", "demo/contrasts"):
        assert load_recipe(name).licence == "apache-2.0"
        assert load_recipe(name, ["source.path=mine.jsonl"]).licence == ""
        own = load_recipe(name, ["source.path=mine.jsonl", "licence=cc-by-4.0"])
        assert own.licence == "cc-by-4.0"


def test_a_recipe_is_frozen() -> None:
    recipe = load_recipe("demo/stinystories")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


def test_overrides_reach_every_level() -> None:
    changed = load_recipe(
        "demo/stinystories",
        ["shards.samples=7", "speech.voices=[en-us]", "dedup.near.threshold=0.7", "seed=3"],
    )
    assert changed.shards.samples == 7
    assert changed.speech is not None
    assert changed.speech.voices == ("en-us",)
    assert changed.dedup.near is not None
    assert changed.dedup.near.threshold == 0.7
    assert changed.seed == 3


@pytest.mark.parametrize(
    ("path", "kind"), [("null", "stories"), ("a.jsonl", "text"), ("s3://x/a.parquet", "text")]
)
def test_the_source_kind_follows_the_path(path: str, kind: str) -> None:
    assert load_recipe("demo/stinystories", [f"source.path={path}"]).source.kind == kind


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("shards.sample=5", ["unknown key 'shards.sample'", "did you mean 'samples'?"]),
        ("sead=5", ["unknown key 'sead'", "did you mean 'seed'?"]),
        ("speech.pich=5", ["unknown key 'speech.pich'", "did you mean 'pitch'?"]),
        ("units.hopp=5", ["unknown key 'units.hopp'", "'hop'"]),
        ("source.cuont=5", ["unknown key 'source.cuont'", "'count'"]),
        ("speech.rate=fast", ["'speech.rate'", "integer", "'fast'"]),
        ("shards.samples=0", ["'shards.samples'", "greater than or equal to 1", "got 0"]),
        ("speech.engine=expeak", ["'speech.engine'", "expeak", "did you mean 'espeak'?"]),
        ("source.kind=units", ["'source.path' is missing"]),
        ("speech=null", ["say in `speech`"]),
        ("shards", ["--set wants key=value"]),
        ("=3", ["--set wants key=value"]),
        ("name.a=3", ["'name' is a value"]),
        ("units.sample_rate=-5", ["'units.sample_rate'", "greater than or equal to"]),
        ("compute.threads=99999999999", ["'compute.threads'", "less than or equal to"]),
        ("dedup.near={permutations: 100000000000}", ["permutations"]),
        ("source.path=", ["there is no value"]),
        ("shards={samples: [[[", ["not valid YAML"]),
        ("dedup.near.treshold=0.5", ["dedup.near.treshold", "'threshold'"]),
    ],
)
def test_a_wrong_override_is_one_line_that_helps(override: str, words: list[str]) -> None:
    with pytest.raises(UnitcorpusError) as error:
        load_recipe("demo/stinystories", [override])
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "path", ["my #1 s.jsonl", "a: b.txt", "2001-99-99.txt", "1:30", "~/x.csv", "no", "[odd"]
)
def test_a_path_is_taken_as_it_stands(path: str) -> None:
    if path.startswith("["):
        with pytest.raises(UnitcorpusError):
            load_recipe("demo/stinystories", [f"source.path={path}"])
    else:
        assert load_recipe("demo/stinystories", [f"source.path={path}"]).source.path == path


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UnitcorpusError, match=r"did you mean 'stinystories'\?"):
        load_recipe("tinystories")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "line"),
        ("", "no keys"),
        ("- 1", "no keys"),
        ("name: x", "missing"),
        ("\x00", "recipe"),
        ("seed: 2001-99-99", "recipe"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UnitcorpusError, match=words) as error:
        load_recipe(str(path))
    assert "\n" not in str(error.value)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("name: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(UnitcorpusError):
        load_recipe(str(path))


def test_the_public_form_holds_no_local_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret-folder" / "stories.jsonl"
    recipe = load_recipe(
        "demo/stinystories", [f"source.path={secret}", f"units.codebook={tmp_path}/book.npy"]
    )
    text = yaml.safe_dump(recipe.public())
    assert "secret-folder" not in text
    assert str(tmp_path) not in text
    assert "stories.jsonl" in text


def test_a_recipe_file_may_be_given_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    recipe = load_recipe("demo/stinystories")
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(str(path)) == recipe
    assert isinstance(recipe, Recipe)
