"""The documents of the tree, and what stands in their fenced blocks.

    for block in blocks(page): block.language, block.name, block.text, block.section

A block's `name` is the file that the line above it names alone, as in `film.srt`: else "".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^\s*(```+)(\w*)\s*$")
_NAMED = re.compile(r"`([\w./-]+)`:\s*$")


@dataclass(frozen=True)
class Block:
    language: str
    name: str
    section: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, with the second-level heading that each stands under."""
    found: list[Block] = []
    section = name = fence = language = ""
    body: list[str] = []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        mark = _FENCE.match(line)
        if fence and mark and mark[1] == fence:
            found.append(Block(language, name, section, "\n".join(body) + "\n", number - len(body)))
            fence = name = ""
        elif fence:
            body.append(line)
        elif mark:
            fence, language, body = mark[1], mark[2], []
        elif line.strip():
            section = line[3:] if line.startswith("## ") else section
            named = _NAMED.search(line)
            name = named[1] if named else ""
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks, and as many lines."""
    lines, fence = [], ""
    for line in page.read_text("utf-8").splitlines():
        mark = _FENCE.match(line)
        if mark:
            fence = "" if fence == mark[1] else fence or mark[1]
        lines.append("" if fence or mark else line)
    return "\n".join(lines)
