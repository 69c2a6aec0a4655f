"""What `unitcorpus plan` prints of a mixture."""

from __future__ import annotations

from unitcorpus.build.meter import duration
from unitcorpus.build.mixture import HEARD, SPOKEN, Holding, Survey, survey
from unitcorpus.cli.options import Counter
from unitcorpus.recipe.mixture import Mixture

HOURS = 23.5
"""The published day, of 1.4 billion tokens on one A5000."""


def plan_mixture(
    mixture: Mixture, budget: tuple[float | None, float | None, float], rows: int, device: str
) -> str:
    """The table of a mixture. `budget`: tokens, hours, and tokens a second of training."""
    with Counter() as counter:
        found = survey(mixture, rows, device, counter.tick)
    return "\n".join([*_table(mixture, found), *_totals(found), *_budget(found, *budget)])


def _table(mixture: Mixture, found: Survey) -> list[str]:
    wide = max(len(one.name) for one in found.holdings) + 2
    lines = [
        f"mixture   {mixture.name}: {mixture.description or 'no description'}",
        f"units     {found.holdings[0].units}",
        f"{'corpus':<{wide}}{'hours':>9}{'tokens':>17}{'times':>8}{'share':>8}{'on disk':>10}"
        "  to build",
    ]
    for one in found.holdings:
        share = f"{100 * one.seen / found.epoch:.1f} %"
        lines.append(
            f"{one.name:<{wide}}{_hours(one.hours):>9}{_tokens(one):>17}{one.times:>8.4g}{share:>8}"
            f"{_size(one.bytes):>10}  {_work(one)}"
        )
    return lines


def _totals(found: Survey) -> list[str]:
    hours = sum(one.hours for one in found.holdings)
    size = _size(sum(one.bytes for one in found.holdings))
    gpu = sum(one.gpu_hours for one in found.holdings)
    work = sum(one.work_hours for one in found.holdings)
    held = sum(one.tokens for one in found.holdings)
    said = [f"{gpu:,.0f} GPU-hours"] * bool(gpu) + [f"{_here(work)} here"] * bool(work)
    lines = [
        f"together  {_hours(hours)} hours, {held:,} tokens, {size}",
        f"an epoch  {found.epoch:,} tokens, {found.unique_in(found.epoch):,} of them unique",
        f"to build  {', '.join(said) or 'nothing: all are there'}",
    ]
    if gpu:
        lines.append(
            f"          (GPU-hours at {SPOKEN:g} × real time for speech, reported of an RTX 3090, "
            f"and {HEARD:g} ×\n          for units, computed; `unitcorpus plan RECIPE` measures)"
        )
    return lines


def _budget(found: Survey, tokens: float | None, hours: float | None, speed: float) -> list[str]:
    """How far the data go."""
    said = ""
    if tokens is None:
        hours = hours or HOURS
        tokens = hours * 3600 * speed
        said = f" ({hours:g} hours at {speed:,.0f} tokens a second)"
    epochs = tokens / found.epoch
    unique = found.unique_in(tokens)
    each = ", ".join(f"{one.name} {one.epochs(epochs):.3g}" for one in found.holdings)
    return [
        f"budget    {tokens:,.0f} tokens{said}",
        f"          {epochs:.3g} epochs, {unique:,} unique tokens ({100 * unique / tokens:.0f} %)",
        f"          epochs of each: {each}",
    ]


def _tokens(one: Holding) -> str:
    return f"{'' if one.known == 'built' else '~'}{one.tokens:,}"


def _work(one: Holding) -> str:
    if one.known == "built":
        return "built"
    return f"{one.gpu_hours:,.0f} GPU-h" if one.gpu_hours else f"{_here(one.work_hours)} here"


def _here(hours: float) -> str:
    return duration(hours * 3600)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"
