"""What concerns the process rather than the model: signals, its siblings, its random state."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor

from slam_model.recipe import TrainRecipe


class Signals:
    """Inside the block SIGTERM and SIGINT only set `received`; the loop ends after its step."""

    ASKED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in self.ASKED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or number


def across(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """The sums of `values` (the same keys everywhere) over all processes, exact to float64."""
    if accelerator.num_processes == 1:
        return dict(values)
    vector = torch.tensor(list(values.values()), dtype=torch.float64, device=accelerator.device)
    summed: Tensor = accelerator.reduce(vector, "sum")
    return dict(zip(values, summed.tolist(), strict=True))


def autocast(recipe: TrainRecipe, device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 arithmetic over float32 weights, where the recipe says so."""
    wanted = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def random_state() -> dict[str, Tensor]:
    """The state of this process's generators (dropout draws from them)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
