"""Pairs of texts: a context, the continuation that belongs to it and one that does not.

SWAG and HellaSwag in their original layouts, and any table with three named columns. Where several
endings are wrong, one is taken by a hash of (seed, id): neither order nor other rows matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.sources import PairsSource, StoriesSource
from unitcorpus.seeds import seed_of
from unitcorpus.sources.base import BadRow, Part, PartedRow, Row
from unitcorpus.sources.columns import RowError, text_of
from unitcorpus.sources.stories import StoryRows
from unitcorpus.sources.tables import Record, Table

ENDINGS = tuple(f"ending{i}" for i in range(4))
UNSPEAKABLE = ("[", "]", "/", "http", "\\")
"""What the published HellaSwag selection leaves out: marks of how-to pages and links."""

_SENTENCE_END = re.compile(r"[.!?][\"')\]’”]*\s+")


@dataclass(frozen=True)
class Choice:
    """A context with its endings, of which `endings[label]` is right."""

    prompt: str
    opening: str
    endings: tuple[str, ...]
    label: int


class PairRows:
    """The pairs of a table, or built-in ones where the section has no path."""

    def __init__(self, section: PairsSource, seed: int) -> None:
        self._section, self._seed = section, seed
        self._table = Table(section) if section.path else None

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the file or commit, or the built-in pairs' number and seed."""
        if self._table is not None:
            return {"kind": "pairs", **self._table.identity()}
        return {**self._stories(1).identity(), "kind": "pairs", "count": self._section.count}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """One pair a row. Raises UnitcorpusError for a missing file or columns of no form."""
        if self._table is None:
            yield from islice(self._built_in(), self._section.limit)
            return
        form = ""
        for record in self._table.records():
            if isinstance(record, BadRow):
                yield record
                continue
            form = form or self._form(record)
            try:
                yield self._pair(record, form)
            except RowError as error:
                yield BadRow(record.where, *error.args)

    def _form(self, first: Record) -> str:
        """The form of the table's rows, by the columns of its first."""
        section, columns = self._section, set(first.values)
        if section.id_column is not None and section.id_column not in columns:
            raise UnitcorpusError(
                f"{section.path}, {first.where}, has no column '{section.id_column}' "
                f"(source.id_column){nearest(section.id_column, columns)}; its columns: "
                f"{', '.join(sorted(columns))}"
            )
        forms = {
            "columns": {section.prompt_column, section.chosen_column, section.rejected_column},
            "swag": {"sent1", "sent2", *ENDINGS, "label"},
            "hellaswag": {"ctx_a", "ctx_b", "endings", "label"},
            "joined": {"endings", "label", "startphrase" if "startphrase" in columns else "ctx"},
        }
        for form, wanted in forms.items():
            if section.form in ("auto", form) and wanted <= columns:
                return form
        where = f"{section.path}, {first.where},"
        known = ", ".join(sorted(columns)) or "none"
        if section.form != "auto":
            missing = sorted(forms[section.form] - columns)
            raise UnitcorpusError(
                f"{where} has no column '{missing[0]}', which source.form '{section.form}' wants; "
                f"its columns: {known}"
            )
        raise UnitcorpusError(
            f"{where} has the columns {known}: not those of SWAG or HellaSwag; name three with "
            "source.prompt_column, source.chosen_column and source.rejected_column"
        )

    def _pair(self, record: Record, form: str) -> PartedRow:
        values, section = record.values, self._section
        if form == "columns":
            names = (section.prompt_column, section.chosen_column, section.rejected_column)
            texts = tuple(text_of(values, name) for name in names)
            ident = self._ident(values, "id")
        else:
            choice = FORMS[form](values)
            ident = self._ident(values, *IDENTS[form])
            texts = self._texts(choice, ident)
        parts = tuple(Part(text) for text in texts)
        return PartedRow(parts, record.where, ident, record.split)

    def _ident(self, values: Mapping[str, Any], *names: str) -> str:
        """The row's id: of the column that the recipe names, else of the form's own columns."""
        wanted = (self._section.id_column,) if self._section.id_column else names
        found = [str(values[name]) for name in wanted if values.get(name) not in (None, "")]
        return "-".join(found) if len(found) == len(wanted) else ""

    def _texts(self, choice: Choice, ident: str) -> tuple[str, ...]:
        """(prompt, chosen, rejected), the wrong ending drawn by the row's id, or its texts."""
        wrong = [ending for i, ending in enumerate(choice.endings) if i != choice.label]
        name = ident or "\n".join((choice.prompt, choice.opening, *choice.endings))
        drawn = wrong[seed_of(self._seed, "ending", name) % len(wrong)]
        right = choice.endings[choice.label]
        return (choice.prompt, *(f"{choice.opening} {e}".strip() for e in (right, drawn)))

    def _stories(self, count: int) -> StoryRows:
        return StoryRows(StoriesSource(count=count), self._seed)

    def _built_in(self) -> Iterator[PartedRow]:
        """How a story begins, how it goes on, and how another one does."""
        count = self._section.count
        stories = [row for row in self._stories(count + 1).rows() if isinstance(row, Row)]
        told = [sentences(row.text) for row in stories]
        for i in range(count):
            ident = f"pair-{i:07d}"
            other = (i + 1 + seed_of(self._seed, "ending", ident) % count) % (count + 1)
            texts = (" ".join(told[i][:2]), told[i][2], told[other][-2])
            yield PartedRow(tuple(Part(text) for text in texts), f"pair {i}", ident)


def sentences(text: str) -> list[str]:
    """A text's sentences; what a speaker goes on to say in lower case belongs to his quote."""
    pieces, start = [], 0
    for mark in _SENTENCE_END.finditer(text):
        if mark.end() < len(text) and not text[mark.end()].islower():
            pieces.append(text[start : mark.end()].strip())
            start = mark.end()
    return [*pieces, text[start:].strip()]


def _swag(values: Mapping[str, Any]) -> Choice:
    gold = values.get("gold-source")
    if gold not in (None, "", "gold"):
        raise RowError("not_gold", f"gold-source is {gold}: the right ending was generated")
    endings = tuple(text_of(values, name) for name in ENDINGS)
    return _choice(text_of(values, "sent1"), text_of(values, "sent2"), endings, values)


def _hellaswag(values: Mapping[str, Any]) -> Choice:
    context = text_of(values, "ctx_a"), text_of(values, "ctx_b")
    _check_speakable(" ".join(context))
    return _choice(*context, _endings(values), values)


def _joined(values: Mapping[str, Any]) -> Choice:
    """The last fragment of the context opens the endings, as ctx_b and sent2 do."""
    context = text_of(values, "startphrase" if "startphrase" in values else "ctx").strip()
    _check_speakable(context)
    cuts = [mark.end() for mark in _SENTENCE_END.finditer(context + " ")]
    if not cuts:
        raise RowError("no_prompt", "the context is one fragment: nothing comes before it")
    return _choice(context[: cuts[-1]].strip(), context[cuts[-1] :], _endings(values), values)


def _check_speakable(context: str) -> None:
    for mark in UNSPEAKABLE:
        if mark in context:
            raise RowError("unspeakable", f"the context holds {mark!r}")


def _endings(values: Mapping[str, Any]) -> tuple[str, ...]:
    endings = values.get("endings")
    if not isinstance(endings, list) or not all(isinstance(e, str) for e in endings):
        raise RowError("bad_endings", "column endings is not a list of texts")
    if len(endings) != len(ENDINGS):
        raise RowError("bad_endings", f"column endings has {len(endings)}, expected are 4")
    return tuple(endings)


def _choice(
    prompt: str, opening: str, endings: tuple[str, ...], values: Mapping[str, Any]
) -> Choice:
    if empty := [i for i, ending in enumerate(endings) if not ending.strip()]:
        raise RowError("bad_endings", f"ending {empty[0]} is empty")
    label = values.get("label")
    known = [str(i) for i in range(len(endings))]
    if str(label) in (f"{i}.0" for i in known):  # a column of integers that once had a gap
        label = int(float(label))  # type: ignore[arg-type]
    if isinstance(label, bool) or str(label) not in known:
        raise RowError("bad_label", f"column label is {label!r}, not one of {', '.join(known)}")
    return Choice(prompt, opening, endings, int(label))  # type: ignore[arg-type]


FORMS: dict[str, Callable[[Mapping[str, Any]], Choice]] = {
    "swag": _swag,
    "hellaswag": _hellaswag,
    "joined": _joined,
}
IDENTS = {"swag": ("video-id", "fold-ind"), "hellaswag": ("ind",), "joined": ("ind",)}
"""The columns that name a row of each form."""
