"""`unitcorpus dedup`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from unitcorpus.build.meter import duration
from unitcorpus.cli.options import a_folder

EVERY = 30.0
"""Seconds between lines where the output is not a terminal."""


def dedup(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A finished corpus.")],
    out: Annotated[
        str | None, typer.Option(help="Write the corpus without what is found to this folder.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Jaccard similarity of a near-duplicate.")
    ] = 0.8,
    ngram: Annotated[int, typer.Option(min=1, max=1000, help="Units of an n-gram.")] = 5,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A test set (corpus, pairs, contrasts); repeatable."),
    ] = None,
    shared_units: Annotated[
        int, typer.Option(min=1, help="Units in a row that training may not share with it.")
    ] = 50,
    shared_words: Annotated[
        int, typer.Option(min=1, help="Words in a row that training may not share with it.")
    ] = 13,
    report: Annotated[
        Path | None, typer.Option(help="The report. Default: dedup.json in the folder written.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Find near-duplicates over units, and training samples that are in a test set.

    Example: unitcorpus dedup corpora/demo --against corpora/pairs --out corpora/clean
    """
    from unitcorpus.build.clean import REPORT, Wanted, dedup_corpus
    from unitcorpus.recipe.models import Near

    root = a_folder(directory, "dedup")
    target = a_folder(out, "dedup --out") if out else None
    wanted = Wanted(
        root,
        Near(threshold=threshold, ngram=ngram),
        tuple(against or ()),
        shared_units,
        shared_words,
    )
    with Steps() as steps:
        found = dedup_corpus(wanted, target, report, workers, steps.tick)
    _tell(found, target, report or (target or root) / REPORT)


def _tell(found: dict[str, Any], out: Path | None, report: Path) -> None:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found["removed"].items())
    clusters = found["clusters"]
    largest = max(map(int, clusters["sizes"]), default=0)
    print(f"samples     {found['samples']:,}, of which {found['kept']:,} stay")
    print(f"found       {reasons or 'nothing'}")
    print(f"clusters    {clusters['count']:,}, the largest of {largest:,} samples")
    for test in found["contamination"]:
        units = "" if test["units_compared"] else " (other units: only texts were compared)"
        print(f"{test['test']}: {test['samples']:,} training samples share with it{units}")
    if out is not None:
        print(f"cleaned     {out}")
    print(f"report      {report}")


class Steps:
    """Progress with what is left of each step: a changing line on a terminal, or one every 30 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._step = ""
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def tick(self, step: str, done: int, of: int) -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._began = step, now
        if now - self._shown < (0.2 if self._terminal else EVERY):
            return
        left = duration((of - done) * (now - self._began) / done) if done else "-"
        line = f"{step}  {done:,}/{of:,}  ETA {left}"
        print(
            f"\r\x1b[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
        self._shown = now
