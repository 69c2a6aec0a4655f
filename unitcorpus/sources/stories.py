"""Built-in stories: any number of short children's stories in English from a seeded grammar.

Invariant: story i is a function of (seed, i) and of the grammar's version alone, on every machine.
The grammar is stories.yaml; it is expanded once into flat paths through the plots, so that telling
a story is a few dozen look-ups and one `format_map`. Whoever changes what a seed tells, there or
here, raises VERSION: a plan made before is then known to be of other stories.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import shake_128
from importlib.resources import files
from itertools import permutations, product
from string import Formatter
from typing import Any, TypeVar

from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.seeds import seed_of
from unitcorpus.sources.base import BadRow, Row

VERSION = 1

_PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}
_NUMBERS = struct.Struct("<48H")  # more than any story has choices
_MOST_DRAWS = 2048  # ways to draw different words of one list that are kept

T = TypeVar("T")
Slots = dict[str, str]
Table = tuple[Slots, ...]
Beat = tuple[tuple[str, ...], ...]  # lines, each in all its wordings


class StoryRows:
    """`count` stories, named story-0000000 and so on."""

    def __init__(self, section: StoriesSource, seed: int) -> None:
        self._section = section
        self._seed = seed

    def identity(self) -> dict[str, Any]:
        """What identifies the stories: the grammar's version, the seed and how many."""
        return {
            "kind": "stories",
            "grammar": VERSION,
            "count": self._section.count,
            "limit": self._section.limit,
            "seed": self._seed,
        }

    def rows(self) -> Iterator[Row | BadRow]:
        """The stories in order; none is bad."""
        count = min(self._section.count, self._section.limit or self._section.count)
        for i in range(count):
            yield Row(story(self._seed, i), f"story {i}", f"story-{i:07d}")


def story(seed: int, i: int) -> str:
    """Story number i: one paragraph of plain ASCII, about 80-200 words."""
    source = seed_of(seed, "story", str(i)).to_bytes(8, "big")
    return _grammar().tell(iter(_NUMBERS.unpack(shake_128(source).digest(_NUMBERS.size))))


@dataclass(frozen=True)
class _Plot:
    """Every way through a plot, and the tables of the slots that it has."""

    paths: tuple[tuple[Beat, ...], ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class _Grammar:
    plots: tuple[_Plot, ...]
    names: Mapping[str, list[str]]

    def tell(self, numbers: Iterator[int]) -> str:
        """The story that these numbers choose, each number one choice."""
        plot = _choice(self.plots, next(numbers))
        slots: Slots = {}
        for table in plot.tables:
            slots |= _choice(table, next(numbers))
        names, others = self.names[slots["he"]], self.names[slots["friend_he"]]
        name = next(numbers) % len(names)
        # another place in the list: should both draw from the same one, the names still differ
        other = name + 1 + next(numbers) % (len(others) - 1)
        slots["name"] = slots["Name"] = names[name]
        slots["friend"] = slots["Friend"] = _choice(others, other)
        path = _choice(plot.paths, next(numbers))
        told = [_wording(beat, next(numbers)) for beat in path]
        return " ".join(filter(None, told)).format_map(slots)


def _choice(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def _wording(beat: Beat, number: int) -> str:
    """A wording of a line: each line is as likely as the others, however many wordings it has."""
    number, line = divmod(number, len(beat))
    return _choice(beat[line], number)


@cache
def _grammar() -> _Grammar:
    """The grammar of stories.yaml."""
    import yaml

    data = yaml.safe_load(files(__package__).joinpath("stories.yaml").read_text("utf-8"))
    plots = [tuple(_paths(data["opening"] + plot)) for plot in data["plots"].values()]
    every = tuple(_tables(data, _slots(plots)))
    return _Grammar(
        plots=tuple(_Plot(paths, _needed(every, _slots([paths]))) for paths in plots),
        names={pronoun: names.split() for pronoun, names in data["names"].items()},
    )


def _needed(tables: tuple[Table, ...], used: set[str]) -> tuple[Table, ...]:
    """The tables with a slot that is used; the hero's and the friend's pronouns say their names."""
    used = used | {"he", "friend_he"}
    return tuple(table for table in tables if not used.isdisjoint(table[0]))


def _paths(plot: list[Any]) -> Iterator[tuple[Beat, ...]]:
    """Every way through a plot, each a tuple of beats."""
    ways = [[[_lines(beat)]] if isinstance(beat, str) else _branches(beat) for beat in plot]
    for way in product(*ways):
        yield tuple(beat for part in way for beat in part)


def _branches(branches: Mapping[str, list[str]]) -> list[list[Beat]]:
    return [[_lines(beat) for beat in beats] for beats in branches.values()]


def _lines(block: str) -> Beat:
    """The lines of a beat with every choice of [this|that] made; `-` is ""."""
    lines = []
    for line in block.splitlines():
        parts = re.split(r"\[(.*?)\]", "" if line == "-" else line)  # odd ones are choices
        choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
        lines.append(tuple("".join(way) for way in product(*choices)))
    return tuple(lines)


def _slots(plots: list[tuple[tuple[Beat, ...], ...]]) -> set[str]:
    beats = {beat for paths in plots for path in paths for beat in path}
    wordings = {wording for beat in beats for line in beat for wording in line}
    return {slot for wording in wordings for _, slot, _, _ in Formatter().parse(wording) if slot}


def _kinds(kinds: Mapping[str, list[str]], pronoun: str) -> list[str]:
    """As many children as animals."""
    return kinds[pronoun] * len(kinds["both"]) + kinds["both"]


def _tables(data: Mapping[str, Any], used: set[str]) -> Iterator[Table]:
    kinds = [(kind, pronoun) for pronoun in _PRONOUNS for kind in _kinds(data["kinds"], pronoun)]
    for role in ("", "friend_"):
        yield tuple(_used(_person(role, kind, pronoun), used) for kind, pronoun in kinds)
    for role, people in data["people"].items():
        yield tuple(
            _used({role: name} | _pronouns(f"{role}_", pronoun), used)
            for pronoun, names in people.items()
            for name in names
        )
    yield tuple(
        _used({"place": place, "in_place": there}, used) for place, there in data["places"].items()
    )
    for word, values in data["words"].items():
        yield _draws(word, values, used)


def _draws(word: str, values: list[str], used: set[str]) -> Table:
    """Ways to fill the slots of a list: `word`, or word1 ... wordn with different values."""
    numbers = [int(n) for slot in used for n in re.findall(rf"(?i)^(?:a_)?{word}(\d)$", slot)]
    if not numbers:
        return tuple(_used({word: value}, used) for value in values)
    ways = list(permutations(values, max(numbers)))
    return tuple(
        _used({f"{word}{i}": value for i, value in enumerate(way, start=1)}, used)
        for way in ways[:: -(-len(ways) // _MOST_DRAWS)]
    )


def _person(role: str, kind: str, pronoun: str) -> Slots:
    return {f"{role}kind": kind} | _pronouns(role, pronoun)


def _pronouns(role: str, pronoun: str) -> Slots:
    return {role + form: value for form, value in _PRONOUNS[pronoun].items()}


def _used(slots: Slots, used: set[str]) -> Slots:
    """The slots with their articles and capitals, as far as the grammar uses them."""
    slots = slots | {f"a_{slot}": _with_article(value) for slot, value in slots.items()}
    slots |= {_capital(slot): _capital(value) for slot, value in slots.items()}
    return {slot: value for slot, value in slots.items() if slot in used}


def _with_article(word: str) -> str:
    return f"{'an' if re.match('[aeiou]|honest', word) else 'a'} {word}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
