"""Every relative link of README.md and docs/ leads to a file, every anchor to a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from doc_blocks import PAGES, ROOT, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, but for those on the web."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if not target.startswith(("https://", "http://", "mailto:")):
            yield target


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{n}" if n else slug for slug, count in found.items() for n in range(count + 1)}


def problem(page: Path, target: str) -> str:
    """What is wrong with a link of a page, or an empty string."""
    path, _, anchor = target.partition("#")
    if path.startswith("/"):
        return f"{target} hangs on where the tree lies"
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"{target} leads nowhere"
    if anchor and (file.suffix != ".md" or anchor not in anchors(file)):
        return f"{target} has no such heading"
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    assert list(filter(None, (problem(page, target) for target in links(page)))) == []


def test_every_page_is_in_the_index_and_the_index_in_the_readme() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert set((ROOT / "docs").glob("*.md")) - {index} <= listed
    assert "docs/README.md" in set(links(ROOT / "README.md"))


def test_broken_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n\n## Again\n## Again\n\n"
        "[a](#one-two-three) [b](#again-1) [c](page.md)\n"
        "[d](#none) [e](none.md) [f](/page.md) `[g](none.md)` [h](https://example.org)\n"
        '<img src="none.png">\n\n```\n[i](none.md)\n```\n'
    )
    assert [target for target in links(page) if problem(page, target)] == [
        "#none",
        "none.md",
        "/page.md",
        "none.png",
    ]
