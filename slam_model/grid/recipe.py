"""A grid: a training recipe, axes of overrides, seeds, test sets, and what the paper reports.

    grid = load_grid("paper/figure4")

Every choice of an axis says what it changes: `set` of pretraining's recipe, `dpo_set` of the
preference run's, `recipe` and `data` in place of the grid's, `add` corpora to its data. A profile
(`paper/small`) makes any grid another size: other corpora, other bases, hours as steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from unitcorpus.errors import nearest
from unitcorpus.recipe.loading import load_section
from unitcorpus.recipe.section import Section

Stage = Literal["pretrained", "dpo"]


class Choice(Section):
    """One value of an axis. `dpo` false: no preference run follows."""

    recipe: str | None = None
    data: tuple[str, ...] | None = None
    add: tuple[str, ...] = ()
    set: dict[str, Any] = Field({})
    dpo: bool = True
    dpo_set: dict[str, Any] = Field({})
    processes: int | None = Field(None, ge=1)


class Preference(Section):
    """The preference run that follows pretraining."""

    recipe: str = "slam_dpo"
    data: tuple[str, ...] = ("spokenswag",)
    set: dict[str, Any] = Field({})


class Score(Section):
    """A column: a figure of slam_model.eval on a corpus or set. GenPPL and Auto-BLEU-2 need the
    models that speak and transcribe."""

    data: str
    metric: Literal["accuracy", "perplexity", "GenPPL", "Auto-BLEU-2"] = "accuracy"

    @property
    def scale(self) -> float:
        """Accuracies are shares in the files of eval, and percent in tables."""
        return 100.0 if self.metric == "accuracy" else 1.0

    @property
    def generated(self) -> bool:
        return self.metric in ("GenPPL", "Auto-BLEU-2")

    @property
    def better(self) -> str:
        return "↑" if self.metric == "accuracy" else "↓"


class Published(Section):
    """What the paper reports (`where`) of the cells with these choices, after a stage."""

    where: str
    of: dict[str, str]
    stage: Stage = "pretrained"
    scores: dict[str, float]
    tokens: float | None = Field(None, gt=0, description="that the published run was trained on")


class Picture(Section):
    """`curves`: perplexity while training; `scatter`: a score at the end; both over FLOPs.
    `shares`: every score over the preference run's share of the budget."""

    kind: Literal["curves", "scatter", "shares"]
    score: str = "tSC"


class Grid(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    title: str
    note: str = Field("", description="where this differs from the paper, and what is not known")
    recipe: str
    set: dict[str, Any] = Field({})
    data: tuple[str, ...] = Field(..., min_length=1)
    preference: Preference | None = None
    processes: int = Field(1, ge=1, description="of a pretraining run, by accelerate launch")
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    axes: dict[str, dict[str, Choice]] = Field(..., min_length=1)
    scores: dict[str, Score] = Field(..., min_length=1)
    published: tuple[Published, ...] = ()
    picture: Picture

    @model_validator(mode="after")
    def _names(self) -> Grid:
        for one in self.published:
            for axis, choice in one.of.items():
                _known(axis, self.axes, f"{one.where}: axis")
                _known(choice, self.axes[axis], f"{one.where}: {axis}")
            for score in one.scores:
                _known(score, self.scores, f"{one.where}: score")
        if self.picture.kind == "scatter":
            _known(self.picture.score, self.scores, "picture: score")
        if self.picture.kind == "shares" and self.preference is None:
            raise ValueError("picture: shares are those of a preference run, and there is none")
        return self


class Profile(Section):
    """What makes a grid another size. `bases` and `corpora` give folders below --data for what the
    grid names; `set` and `dpo_set` act before the grid's own; budgets in hours become steps, and
    those in tokens and steps shrink by `token_share` and `step_share`."""

    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    bases: dict[str, str] = Field({})
    corpora: dict[str, str]
    steps_per_hour: float | None = Field(None, gt=0)
    dpo_steps_per_hour: float | None = Field(None, gt=0)
    token_share: float = Field(1.0, gt=0)
    step_share: float = Field(1.0, gt=0)
    set: dict[str, Any] = Field({})
    dpo_set: dict[str, Any] = Field({})
    processes: int | None = Field(None, ge=1)
    seeds: tuple[int, ...] | None = None


def load_grid(name: str) -> Grid:
    """A grid by its shipped name (`paper/table2`) or the path of a YAML file. Raises
    UnitcorpusError."""
    return load_section(Grid, name, ())


def load_profile(name: str, overrides: Sequence[str] = ()) -> Profile:
    """A profile by its shipped name (`paper/small`) or the path of a YAML file."""
    return load_section(Profile, name, overrides)


def _known(name: str, known: dict[str, Any], what: str) -> None:
    if name not in known:
        raise ValueError(f"{what} '{name}' is not one of this grid's{nearest(name, known)}")
