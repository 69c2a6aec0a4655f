"""Text that goes into Markdown and stays text.

The card's template escapes every value by itself (jinja2's `finalize`); what is Markdown already is
marked as such with `Markdown`.
"""

from __future__ import annotations

import re
from typing import Any

SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~$])")
LEADING = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=:])")
"""What begins a list, a heading's underline or a table where a line begins."""


class Markdown(str):
    """A piece of Markdown, which is not escaped again."""

    __slots__ = ()


def escape(value: Any) -> str:
    """`value` as Markdown that shows it as one line of text; what is Markdown stays as it is."""
    if isinstance(value, Markdown):
        return value
    text = " ".join(str(value).split())
    text = SPECIAL.sub(r"\\\1", text)
    return LEADING.sub(lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", text)


def code(value: Any) -> Markdown:
    """`value` as a code span, also in a table."""
    text = " ".join(str(value).split())
    ticks = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    # GFM splits table rows before it looks for code, and takes \| back inside of it.
    return Markdown(f"{ticks}{space}{text}{space}{ticks}".replace("|", "\\|"))


def block(text: str, language: str = "") -> Markdown:
    """`text` as a fenced block of code."""
    fence = "`" * max(_longest_run(text) + 1, 3)
    return Markdown(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
