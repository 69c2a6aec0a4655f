"""`unitcorpus plan MIXTURE`: what the corpora say, what their recipes expect, what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from unit_corpora import build_units, random_units

import unitcorpus
from unitcorpus.build.mixture import survey
from unitcorpus.cli.mixture import Training, describe
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.mixture import Ingredient, Mixture, load_mixture


def mixture(*corpora: Path | Ingredient) -> Mixture:
    parts = [one if isinstance(one, Ingredient) else Ingredient(path=str(one)) for one in corpora]
    return Mixture(corpora=parts)


def units(root: Path, count: int, seed: int, **options: object) -> Path:
    rng = np.random.default_rng(seed)
    rows = [{"units": random_units(rng, int(rng.integers(3, 40)))} for _ in range(count)]
    return build_units(root, rows, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root: Path = tmp_path_factory.mktemp("mix")
    return units(root / "one", 30, 1, validation=0.2), units(root / "two", 50, 2, name="two")


def test_tokens_of_built_corpora_are_counted(corpora: tuple[Path, Path]) -> None:
    found = survey(mixture(*corpora))
    for one, path in zip(found.holdings, corpora, strict=True):
        samples = list(unitcorpus.open(path).samples("train"))
        assert one.known == "built"
        assert one.tokens == sum(len(sample.units) + 1 for sample in samples)
    assert found.epoch == sum(one.tokens for one in found.holdings)


def test_no_token_is_seen_again_before_all_were_seen(corpora: tuple[Path, Path]) -> None:
    one, two = (Ingredient(path=str(p), epochs=e) for p, e in zip(corpora, (1, 3), strict=True))
    found = survey(mixture(one, two))
    first, second = (holding.tokens for holding in found.holdings)
    assert found.epoch == first + 3 * second
    assert found.unique_in(found.epoch / 3) == pytest.approx(first / 3 + second, abs=1)
    assert found.unique_in(found.epoch) == found.unique_in(1e12) == first + second


def test_a_corpus_that_is_not_built_is_what_its_recipe_expects() -> None:
    found = survey(load_mixture("mixtures/libri_synthetic"))
    assert [one.tokens for one in found.holdings] == [3_500_000_000, 67_000_000, 2_200_000_000]
    assert {one.known for one in found.holdings} == {"expected"}
    libri, _, stories = found.holdings
    assert stories.gpu_hours / stories.hours > libri.gpu_hours / libri.hours


def test_rows_are_measured_where_a_recipe_expects_nothing(small_corpus: Path) -> None:
    new = Ingredient(path="nowhere", recipe="demo/stinystories")
    built, measured = survey(mixture(Ingredient(path=str(small_corpus)), new), rows=2).holdings
    assert measured.known == "measured"
    per_hour = [one.tokens / one.hours for one in (built, measured)]
    assert per_hour[1] == pytest.approx(per_hour[0], rel=0.2)
    assert measured.work_hours > 0


def test_what_cannot_be_mixed_is_refused_with_both_named(
    corpora: tuple[Path, Path], small_corpus: Path, tmp_path: Path
) -> None:
    one, two = corpora
    with pytest.raises(UnitcorpusError) as caught:
        survey(mixture(one, small_corpus))
    assert str(one) in str(caught.value)
    assert str(small_corpus) in str(caught.value)
    with pytest.raises(UnitcorpusError, match="hubert slprl"):
        survey(mixture(one, Ingredient(path="nowhere", recipe="librispeech")))
    shutil.copytree(two, tmp_path / "copy")
    with pytest.raises(UnitcorpusError, match="hold the same corpus"):
        survey(mixture(two, tmp_path / "copy"))
    with pytest.raises(UnitcorpusError, match="no finished corpus, and no recipe is called 'gone'"):
        survey(mixture(one, Ingredient(path=str(tmp_path / "gone"))))
    with pytest.raises(UnitcorpusError, match="makes pairs, not utterances"):
        survey(mixture(Ingredient(path="gone", recipe="demo/spokenswag")))
    with pytest.raises(UnitcorpusError, match=r"is not built yet, and source\.path is missing"):
        survey(mixture(Ingredient(path="gone", recipe="demo/audio")))


def test_a_corpus_without_a_training_split_is_refused(tmp_path: Path) -> None:
    path = units(tmp_path / "held", 3, 1, validation=0.9999999)
    if "train" in unitcorpus.open(path).splits:
        pytest.skip("a row fell into train")
    with pytest.raises(UnitcorpusError, match="has no split 'train', only validation"):
        survey(mixture(path))


@pytest.mark.parametrize(
    ("training", "budget"),
    [
        (Training(), "1,400,130,000 tokens (23.5 hours at 16,550 tokens a second)"),
        (Training(tokens=5e6), "5,000,000 tokens: "),
        (Training(hours=1, speed=1000), "3,600,000 tokens (1 hours at 1,000 tokens a second)"),
    ],
)
def test_what_is_printed_fits_a_terminal_and_says_the_budget(
    training: Training, budget: str
) -> None:
    mixed = load_mixture("mixtures/diverse_synthetic")
    text = describe(mixed, survey(mixed), training)
    assert max(map(len, text.splitlines())) <= 90
    assert budget in text
    assert "GPU-hours" in text


def test_the_command_prints_it_and_refuses_what_is_for_recipes(corpora: tuple[Path, Path]) -> None:
    def plan(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unitcorpus", "plan", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    path = corpora[0].with_name("mix.yaml")
    path.write_text("".join(["corpora:\n", *(f"  - path: {one.name}\n" for one in corpora)]))
    shown = plan(str(path), "--tokens", "1e4")
    assert shown.returncode == 0, shown.stderr
    assert "nothing: all are there" in shown.stdout
    for words in (("--set", "a=1"), ("--tokens", "5", "--hours", "1")):
        refused = plan(str(path), *words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "are for mixtures" in plan("demo/stinystories", "--hours", "2").stderr
