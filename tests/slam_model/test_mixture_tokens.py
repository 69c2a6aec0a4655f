"""What `unitcorpus plan` says of a mixture is what the trainer's loader gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit_corpora import build_units, random_units

from slam_model.loader import Loader
from slam_model.mixture import find_sources
from slam_model.packing import PADDING, chunk_table
from slam_model.tokens import Tokens, open_tokens
from unitcorpus.build.mixture import survey
from unitcorpus.recipe.mixture import load_mixture

SIZES = {"large": 60, "small": 9, "middle": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("mix")
    rng = np.random.default_rng(0)
    for name, count in SIZES.items():
        rows = [{"units": random_units(rng, int(n))} for n in rng.integers(2, 300, count)]
        build_units(root / name, rows, name=name)
    return root


def learnt(corpora: list[Tokens], repeats: list[float], epochs: int) -> dict[str, int]:
    """Predicted tokens of each corpus in so many epochs; documents are longer than the context."""
    loader = Loader(
        corpora, context=64, tokens_per_step=512, micro_tokens=128, seed=3, repeats=repeats,
        epochs=epochs,
    )  # fmt: skip
    ends = np.cumsum([len(chunk_table(corpus.offsets, 64)[0]) for corpus in corpora])
    found = np.zeros(len(corpora), int)
    for pack in (pack for step in loader for pack in step.packs):
        rows = pack.rows.numpy()
        lengths = pack.cu_seqlens.diff().numpy()[rows != PADDING]
        np.add.at(found, np.searchsorted(ends, rows[rows != PADDING], "right"), lengths - 1)
    return dict(zip(SIZES, found.tolist(), strict=True))


@pytest.mark.parametrize(
    ("keys", "epochs", "tolerance"),
    [
        (("", "", ""), 1, 0.0),
        (("epochs: 1", "epochs: 4", "epochs: 2"), 1, 0.0),
        (("epochs: 0.5", "epochs: 2", ""), 2, 0.0),
        (("weight: 1", "weight: 1", "weight: 2"), 4, 0.02),
    ],
)
def test_an_epoch_holds_the_tokens_that_plan_printed(
    folder: Path, keys: tuple[str, ...], epochs: int, tolerance: float
) -> None:
    path = folder / "mix.yaml"
    lines = [f"  - {{path: {name}, {key}}}\n" for name, key in zip(SIZES, keys, strict=True)]
    path.write_text("corpora:\n" + "".join(lines).replace(", }", "}"))
    planned = survey(load_mixture(str(path))).holdings
    corpora = [open_tokens(where) for where in find_sources([str(path)]).locations]
    repeats = load_mixture(str(path)).repeats([len(one.tokens) - len(one) for one in corpora])
    assert repeats == [one.times for one in planned]
    found = learnt(corpora, repeats, epochs)
    for one in planned:
        due = epochs * one.times * one.tokens
        assert found[one.name] == pytest.approx(due, rel=tolerance, abs=1e-6)
