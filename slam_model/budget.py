"""A budget in hours, steps or tokens, of which a resumed run never gets a fresh one.

    clock = Clock(seconds=checkpoint.seconds, count_overhead=limits.count_overhead)
    budget = Budget(limits, steps, tokens, clock.seconds)
    while not budget.spent: ...; budget.use(tokens, seconds)

`Budget.seconds` is set once a step from the main process's clock, so that all processes see the
same fraction and stop at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from slam_model import recipe


class Clock:
    """Training time in seconds, going on from the `seconds` of earlier runs.

    Time inside `overhead()` (evaluation, checkpoints, compiling) counts where the recipe says so.
    """

    def __init__(self, seconds: float = 0.0, count_overhead: bool = True) -> None:
        self._origin = time.monotonic() - seconds
        self._count_overhead = count_overhead

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._origin

    @contextmanager
    def overhead(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            if not self._count_overhead:
                self._origin += time.monotonic() - start


class Budget:
    """What a run may use (`limits`) and has used: optimizer steps, training tokens, seconds."""

    def __init__(
        self, limits: recipe.Budget, steps: int = 0, tokens: int = 0, seconds: float = 0.0
    ) -> None:
        self.limits = limits
        self.steps = steps
        self.tokens = tokens
        self.seconds = seconds

    def use(self, tokens: int, seconds: float) -> None:
        """One more step of `tokens`, after which `seconds` have been used in all."""
        self.steps += 1
        self.tokens += tokens
        self.seconds = seconds

    @property
    def fraction(self) -> float:
        """The share of the budget that is used, by the limit that is nearest to its end; ≤ 1."""
        limits = self.limits
        shares = [
            self.seconds / (limits.hours * 3600) if limits.hours else 0.0,
            self.steps / limits.steps if limits.steps else 0.0,
            self.tokens / limits.tokens if limits.tokens else 0.0,
        ]
        return min(1.0, max(shares))

    @property
    def spent(self) -> bool:
        return self.fraction >= 1.0

    @property
    def seconds_left(self) -> float | None:
        """Until the end of the budget at the pace so far; None before anything is used."""
        fraction = self.fraction
        return self.seconds * (1 / fraction - 1) if fraction and self.seconds else None
