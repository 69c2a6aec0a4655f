"""Likelihood test sets of texts: a right utterance and a wrong one that differs from it.

The Story Cloze Test, BLiMP, and any table with two named columns. Invariant: a wrong ending that is
taken from another story is drawn by a hash of (seed, story) over the whole set, so that neither
the order of the rows nor a limit changes a pair.

Checked in the originals: BLiMP's README and its files at github.com/alexwarstadt/blimp (fields,
one file a paradigm). The Story Cloze Test is given out on request; its columns are as published
code reads them, and so are those that the Hub's copies have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.contrasts import BlimpSource, ContrastsSource, StoryClozeSource
from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.seeds import seed_of
from unitcorpus.sources.base import BadRow, Part, PartedRow, Row
from unitcorpus.sources.columns import RowError, identifier, text_of
from unitcorpus.sources.files import json_rows, stored
from unitcorpus.sources.pairs import sentences
from unitcorpus.sources.stories import StoryRows
from unitcorpus.sources.tables import Record, Table

T = TypeVar("T")
SPLIT = "test"


class ContrastRows:
    """The pairs of a table, or built-in ones where the section has no path."""

    def __init__(self, section: ContrastsSource, seed: int) -> None:
        self._section, self._seed = section, seed
        self._table = Table(section) if section.path else None

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the file or commit, or the built-in pairs' number and seed."""
        if self._table is not None:
            return {"kind": "contrasts", **self._table.identity()}
        return {**self._stories(1).identity(), "kind": "contrasts", "count": self._section.count}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """One pair a row. Raises UnitcorpusError for a missing file or column."""
        if self._table is None:
            yield from islice(self._built_in(), self._section.limit)
            return
        section = self._section
        optional = (section.id_column, section.group_column)
        wanted = [section.right_column, section.wrong_column, *filter(None, optional)]
        yield from _read(self._table.records(), self._pair, wanted, section.path)

    def _pair(self, record: Record) -> PartedRow:
        section, values = self._section, record.values
        names = (section.right_column, section.wrong_column)
        parts = tuple(Part(text_of(values, name)) for name in names)
        ident = identifier(values.get(section.id_column or "id"))
        group = identifier(values.get(section.group_column or "group"))
        return PartedRow(parts, record.where, ident, record.split or SPLIT, group=group)

    def _stories(self, count: int) -> StoryRows:
        return StoryRows(StoriesSource(count=count), self._seed)

    def _built_in(self) -> Iterator[PartedRow]:
        """A story's first five sentences, against them with another story's end or in disorder."""
        count = self._section.count
        stories = [row for row in self._stories(count + 1).rows() if isinstance(row, Row)]
        told = [sentences(row.text) for row in stories]
        for i in range(count):
            ident = f"contrast-{i:07d}"
            first = told[i][:5]
            other = (i + 1 + seed_of(self._seed, "ending", ident) % count) % (count + 1)
            group, wrong = "ending", [*first[:-1], told[other][-1]]
            if i % 2:
                group, wrong = "order", [first[0], first[3], first[2], first[1], *first[4:]]
            parts = tuple(Part(" ".join(told)) for told in (first, wrong))
            yield PartedRow(parts, f"contrast {i}", ident, SPLIT, group=group)


@dataclass(frozen=True, slots=True)
class Cloze:
    """A story without its end, the right one and the one given as wrong."""

    where: str
    split: str
    id: str
    context: str
    right: str
    wrong: str

    @property
    def name(self) -> str:
        """What tells it from the others of the set."""
        return self.id or f"{self.context}\n{self.right}"


_ORIGINAL = (
    "InputStoryid",
    *(f"InputSentence{i}" for i in range(1, 5)),
    *(f"RandomFifthSentenceQuiz{i}" for i in (1, 2)),
    "AnswerRightEnding",
)
_ON_THE_HUB = (
    "story_id",
    *(f"input_sentence_{i}" for i in range(1, 5)),
    *(f"sentence_quiz{i}" for i in (1, 2)),
    "answer_right_ending",
)


class StoryClozeRows:
    """The stories of a Story Cloze file, with the wrong ending that the section asks for."""

    def __init__(self, section: StoryClozeSource, seed: int) -> None:
        # Read whole, whatever the limit: the endings are drawn from all of it.
        located = {"path": section.located(), "limit": None}
        self._section, self._seed = section, seed
        self._table = Table(section.model_copy(update=located))
        self._columns = _ORIGINAL

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the file or commit, and how many."""
        return {**self._table.identity(), "kind": "storycloze", "limit": self._section.limit}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """One pair a story. Raises UnitcorpusError for a missing file or column."""
        stories = list(self._stories())
        endings = sorted({(s.name, s.right) for s in stories if isinstance(s, Cloze)})
        for story in islice(stories, self._section.limit):
            try:
                yield story if isinstance(story, BadRow) else self._pair(story, endings)
            except RowError as error:
                yield BadRow(story.where, *error.args)

    def _stories(self) -> Iterator[Cloze | BadRow]:
        records = list(self._table.records())
        first = next((r.values for r in records if isinstance(r, Record)), {})
        self._columns = _ON_THE_HUB if _ON_THE_HUB[-1] in first else _ORIGINAL
        return _read(records, self._story, self._columns, self._section.path)

    def _story(self, record: Record) -> Cloze:
        ident, *context, one, two, answer = self._columns
        told = " ".join(_plain(record.values, name) for name in context)
        endings = [_plain(record.values, name) for name in (one, two)]
        label = str(record.values.get(answer)).strip()
        if label not in ("1", "2"):
            raise RowError("bad_label", f"column {answer} is {label!r}, not 1 or 2")
        right, wrong = endings if label == "1" else endings[::-1]
        name = identifier(record.values.get(ident)).strip()
        return Cloze(record.where, record.split or SPLIT, name, told, right, wrong)

    def _pair(self, story: Cloze, endings: list[tuple[str, str]]) -> PartedRow:
        other = self._section.wrong == "other_story"
        wrong = self._drawn(story, endings) if other else story.wrong
        parts = tuple(Part(f"{story.context} {ending}") for ending in (story.right, wrong))
        return PartedRow(parts, story.where, story.id, story.split)

    def _drawn(self, story: Cloze, endings: list[tuple[str, str]]) -> str:
        """The right ending of another story, which is not in the same words."""
        start = seed_of(self._seed, "ending", story.name) % len(endings)
        for name, ending in (*endings[start:], *endings[:start]):
            if name != story.name and ending != story.right:
                return ending
        raise RowError("no_other_ending", "no other story of the set ends in other words")


class BlimpRows:
    """Minimal pairs of sentences, grouped by paradigm (`UID`)."""

    def __init__(self, section: BlimpSource, seed: int) -> None:
        self._section = section
        path = Path(section.located()).expanduser()
        self._files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not self._files:
            raise UnitcorpusError(
                f"{section.path} holds no .jsonl file: source.path has to be BLiMP's folder data"
            )

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the names and sha256 of the files, and the limit."""
        files = {path.name: stored(str(path))["sha256"] for path in self._files}
        return {"kind": "blimp", "files": files, "limit": self._section.limit}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """One pair a line, file by file. Raises UnitcorpusError for a file without its columns."""
        yield from islice(self._rows(), self._section.limit)

    def _rows(self) -> Iterator[PartedRow | BadRow]:
        wanted = ("sentence_good", "sentence_bad", "UID", "pairID")
        for path in self._files:
            yield from _read(_lines(path), self._pair, wanted, path.name)

    def _pair(self, record: Record) -> PartedRow:
        parts = tuple(Part(text_of(record.values, f"sentence_{n}")) for n in ("good", "bad"))
        group = text_of(record.values, "UID")
        ident = f"{group}-{identifier(record.values.get('pairID'))}"
        return PartedRow(parts, record.where, ident, SPLIT, group=group)


def _lines(path: Path) -> Iterator[Record | BadRow]:
    """The rows of one file among several, with its name in their place."""
    for item in json_rows(str(path)):
        if isinstance(item, BadRow):
            yield BadRow(f"{path.name} {item.where}", item.reason, item.detail)
        else:
            yield Record(f"{path.name} {item[0]}", item[1])


def _read(
    records: Iterable[Record | BadRow],
    read: Callable[[Record], T],
    wanted: Collection[str],
    name: str | None,
) -> Iterator[T | BadRow]:
    """What `read` makes of each record. Raises UnitcorpusError where the first lacks a column."""
    checked = False
    for record in records:
        if isinstance(record, BadRow):
            yield record
            continue
        if not checked:
            _require(record.values, wanted, name)
            checked = True
        try:
            yield read(record)
        except RowError as error:
            yield BadRow(record.where, *error.args)


def _require(values: Mapping[str, Any], wanted: Collection[str], name: str | None) -> None:
    for column in wanted:
        if column not in values:
            raise UnitcorpusError(
                f"{name} has no column '{column}'{nearest(column, values)}; its columns: "
                f"{', '.join(values) or 'none'}"
            )


def _plain(values: Mapping[str, Any], name: str) -> str:
    """A sentence with single blanks, so that the same words are the same text."""
    if text := " ".join(text_of(values, name).split()):
        return text
    raise RowError("empty_text", f"column {name} is empty")
