"""What `unitcorpus plan` prints of a mixture: a line a corpus, sums, and how far the data go."""

from __future__ import annotations

from dataclasses import dataclass

from unitcorpus.build.meter import duration
from unitcorpus.build.mixture import HEARD, SPOKEN, Holding, Survey
from unitcorpus.recipe.mixture import Mixture

HOURS, SPEED = 23.5, 16_550.0
"""The published day: 1.4 billion tokens on one A5000."""


@dataclass(frozen=True)
class Training:
    """What is trained: so many tokens, or so many hours at a speed in tokens a second."""

    tokens: float | None = None
    hours: float | None = None
    speed: float | None = None

    @property
    def budget(self) -> float:
        """In tokens."""
        if self.tokens is not None:
            return self.tokens
        return (self.hours or HOURS) * 3600 * (self.speed or SPEED)

    @property
    def said(self) -> str:
        if self.tokens is not None:
            return ""
        return f" ({self.hours or HOURS:g} hours at {self.speed or SPEED:,.0f} tokens a second)"


def describe(mixture: Mixture, found: Survey, training: Training) -> str:
    """All of it, within 90 columns."""
    epochs = training.budget / found.epoch
    return "\n".join(
        [
            f"mixture   {mixture.name or 'without a name'}",
            f"units     {found.units}",
            *_table(found, epochs),
            *_sums(found),
            f"budget    {training.budget:,.0f} tokens{training.said}: {epochs:.3g} epochs,",
            f"          {found.unique_in(training.budget):,} unique tokens",
        ]
    )


def _table(found: Survey, epochs: float) -> list[str]:
    """How often a sample is seen is told of an epoch and of the budget."""
    wide = max(len("corpus"), *(len(one.name) for one in found.holdings))
    lines = [
        "",
        f"{'':<{wide}}{'':>9}{'':>16}{'':>8}{'seen in':>9}{'in the':>8}",
        f"{'corpus':<{wide}}{'hours':>9}{'tokens':>16}{'share':>8}{'an epoch':>9}{'budget':>8}"
        f"{'on disk':>10}  to build",
    ]
    for one in found.holdings:
        share = f"{100 * one.seen / found.epoch:.1f} %"
        seen, budget = f"{one.times:.3g} ×", f"{one.times * epochs:.3g} ×"
        lines.append(
            f"{one.name:<{wide}}{_hours(one.hours):>9}{_tokens(one):>16}{share:>8}{seen:>9}"
            f"{budget:>8}{_size(one.bytes):>10}  {_work(one)}"
        )
    return [*lines, ""]


def _sums(found: Survey) -> list[str]:
    hours = sum(one.hours for one in found.holdings)
    size = _size(sum(one.bytes for one in found.holdings))
    gpu = sum(one.gpu_hours for one in found.holdings)
    work = sum(one.work_hours for one in found.holdings)
    held = sum(one.tokens for one in found.holdings)
    due = [f"{_few(gpu)} GPU-hours"] if gpu else []
    due += [f"{_here(work)} on one worker here"] if work else []
    lines = [
        f"together  {_hours(hours)} hours, {held:,} tokens, {size}",
        f"an epoch  {found.epoch:,} tokens, {found.unique_in(found.epoch):,} of them unique",
        f"to build  {', '.join(due) or 'nothing: all are there'}",
    ]
    if gpu:
        lines.append(
            f"          (speech at {SPOKEN:g} × real time, reported of an RTX 3090; units at "
            f"{HEARD:g} ×, computed)"
        )
    return lines


def _tokens(one: Holding) -> str:
    return f"{'' if one.known == 'built' else '~'}{one.tokens:,}"


def _work(one: Holding) -> str:
    if one.known == "built":
        return "built"
    return f"{_few(one.gpu_hours)} GPU-h" if one.gpu_hours else f"{_here(one.work_hours)} here"


def _few(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def _here(hours: float) -> str:
    return duration(hours * 3600)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"
