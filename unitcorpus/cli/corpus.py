"""`unitcorpus verify` and `unitcorpus export`: what one does with a finished corpus."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from unitcorpus.cli.options import Device, a_folder, read_device
from unitcorpus.errors import UnitcorpusError, nearest, redacted


def verify(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A corpus: folder or URL.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Build damaged shards again, to the same bytes.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Check every digest, count and invariant of a finished corpus, here or at a URL.

    Example: unitcorpus verify corpora/demo --repair
    """
    from unitcorpus.shards.reader import open_corpus
    from unitcorpus.shards.verify import verify as find_problems

    if repair:
        _repair(directory, device)
    problems = find_problems(directory)
    if problems:
        for problem in problems:
            print(problem)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        print(f"unitcorpus: {redacted(directory)} has {count}", file=sys.stderr)
        raise typer.Exit(1)
    corpus = open_corpus(directory)
    print(f"{redacted(directory)}: whole ({len(corpus.index):,} shards, {len(corpus):,} samples)")


def _repair(directory: str, device: str) -> None:
    from unitcorpus.build.repair import repair

    names = repair(a_folder(directory, "verify --repair"), read_device(device))
    print(f"built again: {', '.join(names) or 'no shard'}")


def status(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A build: folder or URL.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Progress of a running, stopped or finished build.

    Example: unitcorpus status corpora/demo --watch
    """
    from unitcorpus.build.status import describe_status
    from unitcorpus.build.status import status as look

    while True:
        found = look(directory)
        if watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(json.dumps(found) if as_json else describe_status(directory, found), flush=True)
        if not watch or found["state"] in ("finished", "stopped"):
            return
        time.sleep(2)


def export(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A corpus: folder or URL.")],
    format: Annotated[
        str, typer.Option(help="jsonl (lists of units) or tokens (strings).")
    ] = "jsonl",
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    out: Annotated[str | None, typer.Option(help="File to write. Default: the terminal.")] = None,
) -> None:
    """Write a corpus as other toolkits read it, one JSON object a line.

    Example: unitcorpus export corpora/demo --format jsonl --out demo.jsonl
    """
    from unitcorpus.shards.export import EXPORTS
    from unitcorpus.shards.export import export as write
    from unitcorpus.shards.reader import open_corpus
    from unitcorpus.shards.writer import AtomicFile

    if format not in EXPORTS:
        known = ", ".join(EXPORTS)
        raise UnitcorpusError(
            f"there is no format '{format}'{nearest(format, EXPORTS)}; known: {known}"
        )
    corpus = open_corpus(directory)
    if out is None:
        write(corpus, format, split, sys.stdout.buffer)
        return
    with AtomicFile(a_folder(out, "export --out")) as file:
        count = write(corpus, format, split, file)  # type: ignore[arg-type]
    print(f"{count:,} samples in {out}")
