"""`unitcorpus push`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unitcorpus.cli.options import a_folder


def push(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A finished corpus.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="The data set on the Hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make it public. Default: private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="A branch to push to; made if it is not there.")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request, or go on with it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")
    ] = False,
) -> None:
    """Send a corpus to the Hugging Face Hub, or go on sending it.

    Example: unitcorpus push corpora/demo user/demo --dry-run
    """
    from unitcorpus.hub.push import DamagedCorpusError, Options, megabytes
    from unitcorpus.hub.push import push as send

    options = Options(public, revision, create_pr, dry_run)
    try:
        pushed = send(
            a_folder(directory, "push"), repo, options, lambda line: print(line, flush=True)
        )
    except DamagedCorpusError as error:
        for problem in error.problems:
            print(problem)
        print(f"unitcorpus: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if not dry_run:
        print(
            f"{pushed.url}: all {pushed.files:,} files are there, {pushed.sent:,} "
            f"({megabytes(pushed.sent_bytes)}) sent by this run"
        )
