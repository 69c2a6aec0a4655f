"""The training loop, one for pretraining and DPO: steps until the budget is spent.

    with Log(…) as log:
        number = train(Run(recipe, accelerator, model, task, clock, checkpoints, log, record))

The loss of a step is normalised by what all its micro-batches on all processes hold (target tokens,
or pairs), so that the update does not depend on how the step is cut. Whatever ends a run (budget,
end of the data, SIGTERM, SIGINT), the step is finished and a checkpoint saved; a loss that is not
finite ends it before any weight is touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from slam_model.budget import Budget, Clock
from slam_model.checkpoint import Checkpoint, Checkpoints
from slam_model.metrics import Flops, Log, peak_flops
from slam_model.optim import make_optimizer, set_learning_rate
from slam_model.packing import PADDING, Pack
from slam_model.process import Signals, across, autocast, random_state, set_random_state
from slam_model.recipe import TrainRecipe
from slam_model.schedule import learning_rate
from unitcorpus.errors import UnitcorpusError

COMPILED_STEPS = 2
"""Steps in which torch.compile works: the first, and the first of another shape."""


@dataclass(frozen=True)
class Share:
    """What one process does of a step: its packs, at least one. `count` is what the step's loss is
    a mean over (target tokens, or pairs), of all processes."""

    packs: Sequence[Pack]
    count: int


class Task(Protocol):
    """What is learnt: the data of each step, and their loss."""

    @property
    def ended(self) -> bool:
        """Whether the data are used up (data.epochs)."""
        ...

    def share(self) -> Share:
        """This process's share of the next step."""
        ...

    def loss(self, model: nn.Module, pack: Pack) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The sum of the loss over a pack, and sums of other figures over it."""
        ...

    def names(self, pack: Pack) -> list[str]:
        """What the rows of a pack are, for messages."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Validation figures over all processes; empty where there is no such split."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass
class Run:
    """What a training run is made of, and how far it is.

    `record` goes into every checkpoint: the recipe and the fingerprints of the data. The weights of
    `resumed` are those that `model` was made with; the rest of it is restored here.
    """

    recipe: TrainRecipe
    accelerator: Accelerator
    model: PreTrainedModel
    task: Task
    clock: Clock
    checkpoints: Checkpoints
    log: Log
    record: dict[str, Any]
    resumed: Checkpoint | None = None

    def __post_init__(self) -> None:
        self.model.to(self.accelerator.device).train()
        self.optimizer = make_optimizer(self.recipe.optim, self.model)
        self.budget = Budget(self.recipe.budget)
        self.flops = 0.0
        if self.resumed:
            self._restore(self.resumed)
        self.saved_at = self.budget.seconds
        self.counter = Flops(self.model)
        if self.recipe.model.compile:
            self.model.compile()
        several = self.accelerator.num_processes > 1
        self.wrapped = self.accelerator.prepare_model(self.model) if several else self.model

    @property
    def ended(self) -> bool:
        return self.budget.spent or self.task.ended

    def save(self) -> None:
        """Saves this moment, by the main process."""
        random = gather_object([random_state()])
        if self.accelerator.is_main_process:
            state = {
                **self.record,
                "step": self.budget.steps,
                "tokens": self.budget.tokens,
                "seconds": self.clock.seconds,
                "flops": self.flops,
                "task": self.task.state(),
            }
            self.checkpoints.save(self.budget.steps, state, lambda to: self._write(to, random))
        self.accelerator.wait_for_everyone()
        self.saved_at = self.budget.seconds

    def _write(self, folder: Path, random: list[dict[str, Tensor]]) -> None:
        self.model.save_pretrained(folder / "model")
        with (folder / "optimizer.pt").open("wb") as stream:
            torch.save({"optimizer": self.optimizer.state_dict(), "random": random}, stream)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        saved = torch.load(checkpoint.optimizer, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(saved["optimizer"])
        if len(saved["random"]) == self.accelerator.num_processes:
            set_random_state(saved["random"][self.accelerator.process_index])
        self.budget = Budget(self.recipe.budget, state["step"], state["tokens"], state["seconds"])
        self.flops = state["flops"]
        self.task.restore(state["task"])


@dataclass(frozen=True)
class Step:
    """One update, over all processes: mean loss and other means, tokens, FLOPs, its seconds."""

    means: dict[str, float]
    norm: float
    tokens: int
    flops: float
    seconds: float


def train(run: Run) -> int:
    """Trains until the budget is spent, the data have ended, or a signal asks for the end.

    Returns 0, or the number of the signal. Raises UnitcorpusError for a loss that is not finite.
    """
    recipe, budget = run.recipe, run.budget
    since: list[Step] = []
    compiling = COMPILED_STEPS if recipe.model.compile else 0
    with Signals() as signals:
        while not run.ended:
            rate = learning_rate(recipe.schedule, recipe.optim.lr, budget.fraction, budget.steps)
            set_learning_rate(run.optimizer, rate)
            with run.clock.overhead() if compiling > 0 else nullcontext():
                step = update(run)
            compiling -= 1

            main = run.accelerator.is_main_process
            shared = {"seconds": run.clock.seconds if main else 0.0, "signal": signals.received}
            shared = across(run.accelerator, shared)
            budget.use(step.tokens, shared["seconds"])
            run.flops += step.flops
            since.append(step)

            last, stop = run.ended, shared["signal"] > 0
            figures = {}
            if last or is_due(recipe.evaluation.steps, budget.steps):
                figures = evaluate(run)
            due = budget.steps == 1 or is_due(recipe.log.steps, budget.steps)
            if report(run, rate, since, figures, written=due or last or stop or bool(figures)):
                since = []
            if last or stop or _checkpoint_is_due(run):
                with run.clock.overhead():
                    run.save()
            if stop:
                return signals.received or 15
    return 0


def update(run: Run) -> Step:
    """One optimizer step over this step's packs of all processes."""
    started = time.monotonic()
    accelerator, model, share = run.accelerator, run.wrapped, run.task.share()
    scale = accelerator.num_processes / share.count  # DDP averages over the processes
    run.optimizer.zero_grad(set_to_none=True)
    parts: list[dict[str, Tensor]] = []
    for i, pack in enumerate(share.packs):
        waits = i + 1 < len(share.packs) and accelerator.num_processes > 1
        with accelerator.no_sync(model) if waits else nullcontext():
            with autocast(run.recipe, accelerator.device):
                loss, others = run.task.loss(model, pack.to(accelerator.device))
            (loss * scale).backward()
        parts.append({"loss": loss.detach(), **others})
    norm = nn.utils.clip_grad_norm_(model.parameters(), run.recipe.optim.clip or math.inf)
    lengths = np.concatenate([_lengths(pack) for pack in share.packs])
    sums = {name: sum(float(part[name]) for part in parts) for name in parts[0]}
    more = {"tokens": float(lengths.sum()), "flops": run.counter.of(lengths)}
    total = across(accelerator, {**sums, **more})
    if not (math.isfinite(total["loss"]) and math.isfinite(norm)):
        suspects = [
            p for p, part in zip(share.packs, parts, strict=True) if not part["loss"].isfinite()
        ]
        raise _not_finite(run, total["loss"] / share.count, float(norm), suspects or share.packs)
    run.optimizer.step()
    tokens, flops = int(total.pop("tokens")), total.pop("flops")
    means = {name: value / share.count for name, value in total.items()}
    return Step(means, float(norm), tokens, flops, time.monotonic() - started)


def evaluate(run: Run) -> dict[str, float]:
    """The validation figures of this moment."""
    run.model.eval()
    with run.clock.overhead(), torch.no_grad(), autocast(run.recipe, run.accelerator.device):
        figures = run.task.evaluate(run.model)
    run.model.train()
    for name, value in figures.items():
        if not math.isfinite(value):
            raise UnitcorpusError(
                f"step {run.budget.steps}: {name} is {value:g}.{_kept(run)} Lower optim.lr"
            )
    return figures


def report(
    run: Run, rate: float, since: Sequence[Step], figures: Mapping[str, float], written: bool
) -> bool:
    """Shows the last step's figures, and the speed over the steps `since` the line before; as a
    line of metrics.jsonl and to the trackers where it is to be `written`."""
    budget, seconds = run.budget, sum(step.seconds for step in since)
    line: dict[str, float | int] = {
        "step": budget.steps,
        "tokens": budget.tokens,
        "elapsed": budget.seconds,
        **since[-1].means,
        "lr": rate,
        "grad_norm": since[-1].norm,
        "tokens_per_s": sum(step.tokens for step in since) / seconds,
        "flops": run.flops,
    }
    peak = peak_flops(run.accelerator.device)
    if peak:
        pace = sum(step.flops for step in since) / seconds
        line["mfu"] = pace / (peak * run.accelerator.num_processes)
    if budget.seconds_left is not None:
        line["left"] = budget.seconds_left
    line |= figures
    run.log.show(line, budget.fraction)
    if written:
        run.log.write(line)
        run.accelerator.log(line, step=budget.steps)
    return written


def is_due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _checkpoint_is_due(run: Run) -> bool:
    """By steps, or by the training time that all processes share."""
    wanted, budget = run.recipe.checkpoint, run.budget
    late = wanted.minutes and budget.seconds - run.saved_at >= 60 * wanted.minutes
    return bool(late) or is_due(wanted.steps, budget.steps)


def _lengths(pack: Pack) -> NDArray[np.int64]:
    """Tokens of each document of a pack, without what only fills it."""
    lengths = pack.cu_seqlens.diff()[pack.rows != PADDING]
    found: NDArray[np.int64] = lengths.numpy().astype(np.int64)
    return found


def _not_finite(run: Run, loss: float, norm: float, suspects: Sequence[Pack]) -> UnitcorpusError:
    """The error of a step whose loss or gradient is not a number, with the rows it was made of."""
    names = gather_object([name for pack in suspects for name in run.task.names(pack)])
    more = f"; and {len(names) - 8} more" if len(names) > 8 else ""
    return UnitcorpusError(
        f"step {run.budget.steps + 1}: the loss is {loss:g} and its gradient's norm {norm:g}, so "
        f"the step was not made. Its rows: {'; '.join(names[:8])}{more}.{_kept(run)} "
        "Look at these rows, or lower optim.lr"
    )


def _kept(run: Run) -> str:
    steps = run.checkpoints.steps()
    return f" The checkpoint of step {steps[-1]} is kept." if steps else ""
