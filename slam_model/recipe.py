"""The recipe of a training run: frozen, typed, every key known.

    load_train_recipe("slam", ["budget.hours=1", "optim.lr=5e-4"])

Everything that decides a result is in the recipe and is recorded with it; where it runs (device,
processes, output folder) is an option of the command. A recipe with a `dpo` section is a preference
run, one without is pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unitcorpus.recipe.loading import load_section
from unitcorpus.recipe.section import Section


class Model(Section):
    """The network: a Hub name, a folder, or an inline configuration for training from scratch."""

    base: str | dict[str, Any]
    revision: str | None = None
    twist: bool = Field(True, description="start from the base's weights; false: random weights")
    rope_theta: float | None = Field(None, gt=0, description="null: as the base has it")
    attention: Literal["auto", "sdpa", "flex", "varlen"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False


class Data(Section):
    """Lengths in tokens; a step is the same whatever the number of processes."""

    context: int = Field(1024, ge=2, le=1_000_000)
    tokens_per_step: int = Field(79_000, ge=2, description="of all processes; unused in DPO")
    micro_tokens: int = Field(8192, ge=2, description="of one forward pass of one process")
    epochs: float | None = Field(None, gt=0, description="ends the run; null: the budget alone")
    repeats: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        {}, description="how often a corpus is seen in an epoch, by its name; else once"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="in its place: each corpus's share of the tokens, by its name; any scale"
    )
    train: str = Field("train", description="the split that is trained on")
    validation: str = Field("validation", description="the split of the validation figures")

    @model_validator(mode="after")
    def _one_measure(self) -> Data:
        if self.repeats and self.weights:
            raise ValueError("give repeats or weights, not both")
        return self


class Optim(Section):
    """Weight decay acts on matrices only. AdaLomo's learning rate is relative to the weights."""

    name: Literal["adamw", "ademamix", "adalomo"] = "adamw"
    lr: float = Field(..., gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    slow_beta: float = Field(0.9999, gt=0, lt=1, description="AdEMAMix's third")
    alpha: float = Field(5.0, ge=0, description="AdEMAMix's weight of the slow average")
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float | None = Field(0.5, gt=0, description="of the gradient's norm")


class Schedule(Section):
    """The learning rate over the budget; warm-up as a share of it, or in steps."""

    shape: Literal["cosine", "inverse_sqrt", "linear", "constant"] = "cosine"
    warmup: float = Field(0.01, ge=0, lt=1, description="share of the budget")
    warmup_steps: int | None = Field(None, ge=0, description="in place of the share")
    minimum: float = Field(0.0, ge=0, description="the learning rate at the end (cosine, linear)")


class Budget(Section):
    """What the run may use; the first limit to be reached ends it. null: no such limit."""

    hours: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    tokens: int | None = Field(None, gt=0)
    count_overhead: bool = Field(
        True, description="hours include evaluation, checkpoints, compiling, reference passes"
    )

    @model_validator(mode="after")
    def _ends(self) -> Budget:
        if self.hours is None and self.steps is None and self.tokens is None:
            raise ValueError("set at least one of hours, steps and tokens, or the run never ends")
        return self


class Dpo(Section):
    """Preference optimisation; lengths are checked against data.context."""

    beta: float = Field(0.1, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    variant: Literal["dpo", "ipo"] = "dpo"
    pairs_per_step: int = Field(64, ge=1)
    max_scores: dict[str, float] = Field(
        {"text_slam_chosen": 0.3}, description="a pair is used where each score is below its bound"
    )

    @model_validator(mode="after")
    def _fits(self) -> Dpo:
        if self.variant == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing has no effect in the variant ipo: set it to 0")
        return self


class Evaluation(Section):
    """Validation figures while training."""

    steps: int | None = Field(1000, ge=1, description="null: only at the end")
    tokens: int | None = Field(1_000_000, ge=1, description="of the split, from its start")


class Checkpoint(Section):
    """When the run is saved; both may be set."""

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(30, gt=0, description="of training time")
    keep: int = Field(2, ge=1)


class Log(Section):
    steps: int = Field(10, ge=1, description="a line of metrics.jsonl every so many steps")
    trackers: tuple[str, ...] = Field((), description="those of accelerate: tensorboard, wandb, …")


class TrainRecipe(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    model: Model
    precision: Literal["auto", "bf16", "bf16_pure", "float32"] = Field(
        "auto", description="bf16 keeps float32 weights; auto: bf16 on a GPU, float32 elsewhere"
    )
    data: Data = Data()
    optim: Optim
    schedule: Schedule = Schedule()
    budget: Budget
    dpo: Dpo | None = None
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    @model_validator(mode="before")
    @classmethod
    def _is_for_training(cls, data: Any) -> Any:
        if isinstance(data, dict) and "model" not in data and {"source", "units"} & set(data):
            raise ValueError("this is the recipe of a corpus; build it with: unitcorpus build")
        return data

    @model_validator(mode="after")
    def _fits(self) -> TrainRecipe:
        if self.data.micro_tokens < self.data.context:
            raise ValueError(
                f"data.micro_tokens ({self.data.micro_tokens}) must hold one document of "
                f"data.context ({self.data.context}) tokens"
            )
        if self.dpo and self.data.micro_tokens < 2 * self.data.context:
            raise ValueError(
                f"data.micro_tokens ({self.data.micro_tokens}) must hold both sides of a pair, of "
                f"data.context ({self.data.context}) tokens each"
            )
        if self.dpo and (self.data.repeats or self.data.weights):
            raise ValueError("data.repeats and data.weights are of pretraining: DPO sees all pairs")
        if self.schedule.minimum > self.optim.lr:
            raise ValueError(
                f"schedule.minimum ({self.schedule.minimum}) is above optim.lr ({self.optim.lr})"
            )
        return self


def load_train_recipe(name: str, overrides: Sequence[str] = ()) -> TrainRecipe:
    """A training recipe by its shipped name or the path of a YAML file; errors are one line."""
    return load_section(TrainRecipe, name, overrides)


NO_EFFECT = ("name", "description", "evaluation", "checkpoint", "log")
"""Keys that may change between runs of one output folder: no result depends on them."""


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What of the recipe `old` differs in `new` so that training cannot go on, as `key: a → b`.

    The limits of the budget may grow (null is the largest), and NO_EFFECT may differ.
    """
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        place, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if before == after or place in NO_EFFECT:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{place}.")
        elif not _grows(place, before, after):
            found.append(f"{place}: {_shown(before)} → {_shown(after)}")
    return found


def _grows(place: str, before: Any, after: Any) -> bool:
    if place not in ("budget.hours", "budget.steps", "budget.tokens"):
        return False
    return after is None or (before is not None and after > before)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
