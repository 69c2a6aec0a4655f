"""Likelihood test sets of recordings, in the layouts in which they are downloaded.

- sBLIMP and sWUGGY, ZeroSpeech 2021: `syntactic/dev` and `lexical/dev`, each a gold.csv with the
  wavs it lists beside it, by names without ending. A right and a wrong row belong together by id
  and voice, in sBLIMP by type and subtype too, as its evaluation tells pairs apart.
- SALMon: a folder for each task; `sample_I_0.wav` is right, `sample_I_1.wav` wrong.
- SpokenStoryCloze: `N_STORY_correct.wav` and `N_STORY_incorrect.wav`.

Checked: the folders of ZeroSpeech in its instructions (zerospeech.com/challenge_archive/2021), the
columns and pairing in its evaluation (github.com/zerospeech/zerospeech2021); SALMon in its loader
and in what writes the files (github.com/slp-rl/salmon). SpokenStoryCloze's names are as two
evaluations of others read them (nicolvisser/ZeroSyl, slp-rl/slamkit); its archives were not looked
into, nor were the others.

Invariant: every recording is in one pair or in one reject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.contrasts import RecordedSource
from unitcorpus.sources.base import BadRow, PartedRow
from unitcorpus.sources.columns import RowError
from unitcorpus.sources.files import stored
from unitcorpus.sources.folder import Folder, files_digest, shown
from unitcorpus.sources.tables import READERS, Record


@dataclass(frozen=True, slots=True)
class Pair:
    """The names and texts of a right and a wrong recording."""

    where: str
    id: str
    names: tuple[str, str]
    texts: tuple[str, str] = ("", "")
    voice: str = ""
    group: str = ""


class RecordedRows:
    """The pairs of one test set."""

    def __init__(self, section: RecordedSource, seed: int) -> None:
        self._section = section
        self._folder = Folder(section.located())
        self._gold = GOLD[section.kind].find(self._folder) if section.kind in GOLD else None

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: a digest over the names and sizes of the recordings and over
        what is wrong with others, and the sha256 of gold.csv."""
        said: dict[str, Any] = {"kind": self._section.kind, "files": files_digest(self.rows())}
        if self._gold is not None:
            said["gold"] = stored(str(self._folder.path / self._gold))["sha256"]
        return {**said, "limit": self._section.limit}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """Pairs in the order of gold.csv or of the file names."""
        return islice(self._rows(), self._section.limit)

    def _rows(self) -> Iterator[PartedRow | BadRow]:
        for pair in self._pairs():
            if isinstance(pair, BadRow):
                yield pair
                continue
            try:
                files = zip(pair.names, pair.texts, strict=True)
                parts = tuple(self._folder.part(name, text) for name, text in files)
            except RowError as error:
                yield BadRow(pair.where, *error.args)
            else:
                yield PartedRow(parts, pair.where, pair.id, "test", pair.voice, pair.group)

    def _pairs(self) -> Iterator[Pair | BadRow]:
        kind = self._section.kind
        if self._gold is not None:
            return GOLD[kind].pairs(self._folder, self._gold)
        return NAMED[kind].pairs(self._folder)


@dataclass(frozen=True)
class Gold:
    """A set that a gold.csv lists. `key` are the columns that a right and a wrong row share, `text`
    those of which the first that is filled says what is spoken."""

    place: str
    key: tuple[str, ...]
    text: tuple[str, ...]
    group: str

    def find(self, folder: Folder) -> str:
        """The gold.csv, relative to the folder: of the whole download, or of this set alone."""
        for name in (f"{self.place}/gold.csv", "gold.csv"):
            if (folder.path / name).is_file():
                return name
        raise UnitcorpusError(
            f"{folder.path} has neither {self.place}/gold.csv nor gold.csv: source.path has to be "
            f"the unpacked ZeroSpeech 2021 evaluation set, or its {self.place} (the sets without a "
            "gold.csv have no published answers)"
        )

    def pairs(self, folder: Folder, gold: str) -> Iterator[Pair | BadRow]:
        """The pairs, in the order in which gold.csv has their first rows."""
        groups: dict[tuple[str, ...], list[Record]] = {}
        checked = False
        for record in READERS["csv"](str(folder.path / gold)):
            if isinstance(record, BadRow):
                yield BadRow(f"{gold} {record.where}", record.reason, record.detail)
                continue
            if not checked:
                self._require(record, gold)
                checked = True
            if record.values["correct"] not in ("0", "1"):
                said = f"column correct is {record.values['correct']!r}, not 0 or 1"
                yield BadRow(f"{gold} {record.where}", "bad_label", said)
                continue
            groups.setdefault(tuple(record.values[c] for c in self.key), []).append(record)
        for key, rows in groups.items():
            yield self._pair(gold, key, rows)

    def _require(self, first: Record, gold: str) -> None:
        for column in ("filename", "correct", self.group, *self.key, *self.text):
            if column not in first.values:
                raise UnitcorpusError(
                    f"{gold} has no column '{column}'{nearest(column, first.values)}; its columns: "
                    f"{', '.join(first.values)}"
                )

    def _pair(self, gold: str, key: tuple[str, ...], rows: list[Record]) -> Pair | BadRow:
        where = f"{gold} {' and '.join(row.where for row in rows)}"
        named = ", ".join(f"{c} {v}" for c, v in zip(self.key, key, strict=True))
        if sorted(row.values["correct"] for row in rows) != ["0", "1"]:
            said = ", ".join(row.values["correct"] for row in rows)
            return BadRow(where, "no_pair", f"{named}: correct is {said}; one 1 and one 0 are due")
        right, wrong = sorted(rows, key=lambda row: row.values["correct"], reverse=True)
        group = right.values[self.group]
        return Pair(
            where,
            "-".join(key),
            (self._name(gold, right), self._name(gold, wrong)),
            (self._text(right), self._text(wrong)),
            key[-1],
            _band(group) if self.group == "frequency" else group,
        )

    def _name(self, gold: str, row: Record) -> str:
        name = str(row.values["filename"]).removesuffix(".wav") + ".wav"
        return (PurePosixPath(gold).parent / name).as_posix()

    def _text(self, row: Record) -> str:
        filled = (str(row.values[column]) for column in self.text if row.values[column])
        return next(filled, "")


def _band(frequency: str) -> str:
    """How often LibriSpeech has a word, as results are reported: not at all, or at all."""
    try:
        return "in vocabulary" if float(frequency) > 0 else "out of vocabulary"
    except ValueError:
        return ""


GOLD = {
    "sblimp": Gold(
        "syntactic/dev", ("type", "subtype", "id", "voice"), ("transcription",), group="type"
    ),
    "swuggy": Gold("lexical/dev", ("id", "voice"), ("word", "phones"), group="frequency"),
}


@dataclass(frozen=True)
class Named:
    """A set paired by file names: `form` finds a pair's key and the mark of the right or the wrong
    one in a name without its ending."""

    form: re.Pattern[str]
    marks: tuple[str, str]
    example: str

    def pairs(self, folder: Folder) -> Iterator[Pair | BadRow]:
        """The pairs of all folders, in the order of the names."""
        found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        for name in folder.names():
            if isinstance(name, BadRow):
                yield name
                continue
            path = PurePosixPath(name)
            match = self.form.fullmatch(path.stem)
            if match is None or not name.isprintable():
                yield BadRow(shown(name), "unknown_name", f"not named like {self.example}")
                continue
            place = "" if path.parent == PurePosixPath() else path.parent.as_posix()
            pair = found.setdefault((place, match["key"]), ([], []))
            pair[self.marks.index(match["mark"])].append(name)
        for (place, key), (right, wrong) in found.items():
            yield self._pair(place, key, right, wrong)

    def _pair(self, place: str, key: str, right: list[str], wrong: list[str]) -> Pair | BadRow:
        where = ", ".join([*right, *wrong])
        if (len(right), len(wrong)) != (1, 1):
            due = " and ".join(f"one _{mark}" for mark in self.marks)
            return BadRow(where, "no_pair", f"{due} make a pair")
        ident = "-".join([*place.split("/"), key]) if place else key
        return Pair(where, ident, (right[0], wrong[0]), group=place)


NAMED = {
    "salmon": Named(
        re.compile(r"sample_(?P<key>\d+)_(?P<mark>[01])"), ("0", "1"), "sample_12_0.wav"
    ),
    "spoken_storycloze": Named(
        re.compile(r"(?:\d+_)?(?P<key>.+)_(?P<mark>correct|incorrect)"),
        ("correct", "incorrect"),
        "12_STORY_correct.wav",
    ),
}
