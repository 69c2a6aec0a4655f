"""`unitcorpus doctor`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any

import typer

from unitcorpus.cli.options import Device, Settings, read_device, read_recipe

WIDTH = 11


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="Also try its models. A name or a YAML file."),
    ] = None,
    settings: Settings = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What this machine would use, and whether batching changes a unit on it.

    Exit code 1 where something that a build needs is missing.

    Example: unitcorpus doctor demo/stinystories
    """
    from unitcorpus.build.doctor import examine
    from unitcorpus.build.machine import Finding

    resolved = read_recipe(recipe, settings, None) if recipe else None
    findings: list[Finding] = []
    for finding in examine(resolved, read_device(device)):
        findings.append(finding)
        if not as_json:
            print(_aligned(finding), flush=True)
    missing = [finding.text for finding in findings if finding.missing]
    if as_json:
        print(json.dumps(_summary(findings), indent=2, ensure_ascii=False))
    elif resolved is not None and not missing:
        print(_aligned(Finding("ready", f"a build of {recipe} finds here what it needs")))
    if missing:
        count = f"{len(missing)} thing{'s' if len(missing) > 1 else ''}"
        verb = "are" if len(missing) > 1 else "is"
        print(f"unitcorpus: {count} that a build needs {verb} missing here", file=sys.stderr)
        raise typer.Exit(1)


def _aligned(finding: Any) -> str:
    """In two columns, within the terminal's width."""
    text = f"MISSING  {finding.text}" if finding.missing else finding.text
    return fill(
        text,
        max(60, get_terminal_size((100, 24)).columns),
        initial_indent=f"{finding.what:<{WIDTH}}",
        subsequent_indent=" " * WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(findings: list[Any]) -> dict[str, Any]:
    """What a program reads."""
    measured = next((f.agreement for f in findings if f.agreement is not None), None)
    rows = [{"what": f.what.strip(), "found": f.text, "missing": f.missing} for f in findings]
    agreement = None if measured is None else asdict(measured) | {"identical": measured.identical}
    return {"ok": not any(f.missing for f in findings), "findings": rows, "agreement": agreement}
