"""Escaped text against a CommonMark parser: what it shows is what was meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from unitcorpus.hub.markdown import block, code, escape

PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")
NASTY = st.text(
    alphabet=st.sampled_from(list("\\`*_{}[]<>()#+-.!|~&;:=$\"'/ 1a\n\té")), max_size=30
)


def shown(markdown: str) -> tuple[list[str], str]:
    """(the kinds of block, the text that is seen) of a piece of Markdown."""
    tokens = PARSER.parse(markdown)
    inline: list[Token] = [t for token in tokens for t in (token.children or [])]
    kinds = [token.type for token in tokens if token.type.endswith("_open")]
    assert {t.type for t in inline} <= {"text", "code_inline", "text_special", "softbreak"}
    return kinds, "".join(t.content for t in inline)


def one_line(text: str) -> str:
    return " ".join(text.split())


@given(NASTY)
def test_a_text_is_one_paragraph_that_shows_the_text(text: str) -> None:
    kinds, seen = shown(escape(text) + "\n")
    assert seen == one_line(text)
    assert kinds == (["paragraph_open"] if one_line(text) else [])


@given(NASTY, NASTY)
def test_a_table_keeps_its_cells(one: str, other: str) -> None:
    table = f"| a | b |\n|---|---|\n| {escape(one)} | {code(other) if other.strip() else 'x'} |\n"
    kinds, seen = shown(table)
    assert kinds.count("td_open") == 2
    assert seen == "ab" + one_line(one) + (one_line(other) or "x")


@given(NASTY)
def test_a_fence_holds_any_text(text: str) -> None:
    tokens = PARSER.parse(block(text) + "\n")
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content.rstrip() == text.rstrip()
