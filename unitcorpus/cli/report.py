"""`unitcorpus report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unitcorpus.errors import UnitcorpusError


def report(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A corpus: folder or URL.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: DIR/report.html.")
    ] = None,
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Leave out the audio of samples.")
    ] = False,
) -> None:
    """Show a corpus: one HTML page with statistics, plots, and samples to listen to.

    Example: unitcorpus report corpora/demo
    """
    from unitcorpus.cli.options import Counter
    from unitcorpus.report.page import write_report
    from unitcorpus.shards.store import folder_of, is_url

    if out is None and is_url(directory):
        raise UnitcorpusError("say with --out where the page is to be written")
    page = out or folder_of(directory) / "report.html"
    with Counter() as counter:
        written = write_report(directory, page, audio=not no_audio, tick=counter.tick)
    heard = f" and {written.clips:,} clips" if written.clips else ""
    print(f"{page}: {written.samples:,} samples{heard}, {written.size / 1e6:.1f} MB")
    if written.note and not written.clips:
        print(written.note)
