"""Every command line in README.md and docs/ parses: its command, its options and its recipe are
there."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import PAGES, ROOT, blocks, prose
from typer.main import get_command

from slam_model.recipe import load_train_recipe
from unitcorpus.cli import app
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.mixture import is_mixture, load_mixture

COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ +)*(unitcorpus|python -m slam_model\.\w+)(?= |$)")
ASSIGNMENT = re.compile(r"[A-Z_]+=")  # of a variable, before the command
TAKES_A_RECIPE = ("build", "pairs", "plan", "doctor", "fit")
ENDS = {"|", ">", ">>", "&&", "&", ";", "2>&1"}
RUN_ELSEWHERE = ("docs/extending.md",)  # its commands want what it adds: test_extending.py
NAMES = [name for page in PAGES if (name := page.relative_to(ROOT).as_posix()) not in RUN_ELSEWHERE]


def in_blocks(page: Path) -> list[str]:
    """The command lines in a page's fenced blocks; what goes on in the next line is joined."""
    found = []
    for block in blocks(page):
        if block.language not in ("", "sh", "console", "bash", "text"):
            continue
        lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
        plain = [line.strip().removeprefix("$ ") for line in lines]
        found += [line for line in plain if COMMAND.match(line)]
    return found


def in_prose(page: Path) -> list[str]:
    """The command lines in a page's text, which may be but the beginning of one."""
    codes = re.findall(r"`([^`]+)`", prose(page))
    return [line for line in (" ".join(code.split()) for code in codes) if COMMAND.match(line)]


def problem(line: str, whole: bool) -> str:
    """What is wrong with a command line, or an empty string; `whole`: it is meant to be run."""
    words = list(dropwhile(ASSIGNMENT.match, shlex.split(line, comments=True)))
    end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
    words = [word for word in words[:end] if word not in ("…", "--debug")]
    try:
        if words[0] == "unitcorpus":
            _corpus_command(words[1:], whole)
        else:
            _model_command(words[2], words[3:], whole)
    except (UnitcorpusError, LookupError, SystemExit) as error:
        return f"{line}: {error}"
    return ""


def _corpus_command(words: list[str], whole: bool) -> None:
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name.split("|")[0].rstrip("\\")]
    if not whole:
        known = {name for option in command.params for name in option.opts}
        _options_are(words, known | {"--help"})
        return
    try:
        given = command.make_context(command.name, list(words)).params
    except Exception as error:  # click's own, which typer keeps to itself
        raise LookupError(getattr(error, "message", str(error))) from None
    recipe = given.get("recipe") if command.name in TAKES_A_RECIPE else None
    if recipe and recipe.isupper():
        return
    if not recipe or recipe.endswith(".yaml"):
        return
    if command.name == "plan" and is_mixture(recipe):
        load_mixture(recipe)
    else:
        load_recipe(recipe, given["settings"] or [])


def _model_command(module: str, words: list[str], whole: bool) -> None:
    found = import_module(module)
    parser = (found if hasattr(found, "_parser") else import_module(f"{module}.__main__"))._parser()
    if not whole:
        _options_are(words, set(parser._option_string_actions))
        return
    options = parser.parse_args(words)
    if module.endswith(".train") and not options.recipe.endswith(".yaml"):
        load_train_recipe(options.recipe, options.set)


def _options_are(words: list[str], known: set[str]) -> None:
    if strange := [w for w in words if w.startswith("--") and w.split("=")[0] not in known]:
        raise LookupError(f"no option {strange[0]}")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_line_parses(name: str) -> None:
    page = ROOT / name
    found = [problem(line, whole=True) for line in in_blocks(page)]
    found += [problem(line, whole=False) for line in in_prose(page)]
    assert list(filter(None, found)) == []


def test_there_are_command_lines() -> None:
    """Else the test above would be empty."""
    assert len([line for page in PAGES for line in in_blocks(page) + in_prose(page)]) > 60


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("unitcorpus bild demo/stinystories", True),
        ("unitcorpus build demo/stinystorys", True),
        ("unitcorpus build demo/stinystories --worker 2", True),
        ("unitcorpus build demo/stinystories --set source.pth=a.jsonl", True),
        ("unitcorpus build", True),
        ("unitcorpus kmeans fix a.npy", True),
        ("unitcorpus build --worker", False),
        ("python -m slam_model.train slam --data corpora/a", True),
        ("python -m slam_model.train slam --data a --out b --set budget.hour=1", True),
        ("python -m slam_model.eval runs/a/final --dat corpora/a --jsn x", True),
        ("python -m slam_model.generate --vocodr", False),
    ],
)
def test_wrong_command_lines_are_seen(line: str, whole: bool) -> None:
    assert problem(line, whole) != ""
