"""The built-in stories: distinct, correct English, the same for a seed everywhere."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pytest
import yaml

from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.sources.base import Row
from unitcorpus.sources.stories import VERSION, StoryRows, story

FEMALE, MALE = {"she", "her", "hers", "herself"}, {"he", "him", "his", "himself"}


@pytest.fixture(scope="module")
def stories() -> list[str]:
    return [story(3, i) for i in range(20_000)]


@pytest.fixture(scope="module")
def words() -> Any:
    return yaml.safe_load(files("unitcorpus.sources").joinpath("stories.yaml").read_text("utf-8"))


def rows(seed: int = 0, **section: Any) -> list[Row]:
    found = list(StoryRows(StoriesSource(**section), seed).rows())
    return [row for row in found if isinstance(row, Row)]


def test_a_story_depends_on_seed_and_number_alone() -> None:
    assert rows(count=20)[:7] == rows(count=7)
    assert [row.text for row in rows(count=7)] == [story(0, i) for i in range(7)]
    assert not {row.text for row in rows(0, count=50)} & {row.text for row in rows(1, count=50)}


def test_the_stories_of_a_version_never_change() -> None:
    """A plan names the version only: a change of the grammar must raise VERSION (and this)."""
    digest = sha256("\n".join(story(0, i) for i in range(500)).encode()).hexdigest()
    assert (VERSION, digest[:16]) == (1, "8bc3c5b0b020ab59")


def test_ids_and_places_are_distinct_and_the_limit_counts() -> None:
    found = rows(count=100, limit=12)
    assert [row.id for row in found] == [f"story-{i:07d}" for i in range(12)]
    assert found[11].where == "story 11"
    assert len(rows(count=5, limit=12)) == 5


def test_a_hundred_thousand_stories_are_distinct() -> None:
    assert len({story(0, i) for i in range(100_000)}) == 100_000


def test_hardly_any_stories_are_near_duplicates(stories: list[str]) -> None:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.8, num_perm=64)
    flagged = 0
    for i, text in enumerate(stories[:1500]):
        tokens = re.findall(r"[a-z']+", text.lower())
        sketch = MinHash(num_perm=64)
        sketch.update_batch([" ".join(tokens[j : j + 5]).encode() for j in range(len(tokens) - 4)])
        flagged += len(index.query(sketch))
        index.insert(i, sketch)
    assert flagged == 0


def test_the_lengths_suit_20_to_60_seconds_of_speech(stories: list[str]) -> None:
    lengths = sorted(len(text.split()) for text in stories)
    assert lengths[0] >= 60
    assert lengths[-1] <= 250
    assert lengths[len(lengths) // 50] >= 80
    assert lengths[-len(lengths) // 50] <= 200


def test_every_slot_is_filled_and_the_text_is_plain(stories: list[str]) -> None:
    for text in stories:
        assert text.isascii()
        assert not re.search(r"[\[\]{}|_\n]|  ", text), text
        assert text.count('"') % 2 == 0, text


def test_articles_agree_with_the_next_word(stories: list[str]) -> None:
    for text in stories:
        assert not re.search(r"\b[Aa] (?:[aeiou]|honest)", text), text
        assert not re.search(r"\b[Aa]n (?!honest)[^aeiou]", text), text


def test_punctuation_and_capitals_are_those_of_sentences(stories: list[str]) -> None:
    for text in stories:
        assert re.match(r'["A-Z]', text), text
        assert re.search(r'[.!?]"?$', text), text
        assert not re.search(r'[.,!?]"?[.,!?]| [.,!?]', text), text
        assert not re.search(r"(?<!Boom)[.!?] [a-z]", text), text
        assert not re.search(r"\b(\w+) \1\b", text), text


def test_hero_and_friend_have_different_names(stories: list[str]) -> None:
    together = [
        names for text in stories for names in re.findall(r"([A-Z]\w+) and ([A-Z]\w+)", text)
    ]
    assert len(together) > 5000
    assert all(one != other for one, other in together)


def test_pronouns_agree_with_the_people_of_the_story(stories: list[str], words: Any) -> None:
    people = {
        pronoun: [*names.split(), *(n for role in words["people"].values() for n in role[pronoun])]
        for pronoun, names in words["names"].items()
    }
    found = {
        pronoun: re.compile(rf"\b(?:{'|'.join(names)})\b") for pronoun, names in people.items()
    }
    seen = 0
    for text in stories:
        female, male = found["she"].search(text), found["he"].search(text)
        if bool(female) != bool(male):
            seen += 1
            wrong = MALE if female else FEMALE
            assert not wrong & set(re.findall(r"[a-z]+", text.lower())), text
    assert seen > 1000


def test_all_plots_and_words_are_told(stories: list[str], words: Any) -> None:
    everything = " ".join(stories).lower()
    for name, values in words["words"].items():
        for value in values:
            assert value.lower() in everything, (name, value)
    counts = [sum(mark in text for text in stories) for mark in ("race from", "birthday!", "raft")]
    assert min(counts) > 100


def test_the_identity_tells_seed_and_count_apart() -> None:
    def identity(seed: int, **section: Any) -> dict[str, Any]:
        return StoryRows(StoriesSource(**section), seed).identity()

    assert identity(0, count=5) == identity(0, count=5)
    assert identity(0, count=5)["grammar"] == VERSION
    different = [identity(0, count=5), identity(1, count=5), identity(0, count=6)]
    different.append(identity(0, count=5, limit=3))
    assert len({str(one) for one in different}) == 4
