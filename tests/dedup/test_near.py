"""Near-duplicates: the exact greedy answer where similarities are clear, close to it elsewhere."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import datasketch
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitcorpus.dedup import near
from unitcorpus.dedup.exact import normal_form
from unitcorpus.dedup.near import NearDuplicates, band_shape, batches, shingles
from unitcorpus.recipe.models import Near

VOCABULARY = [f"w{number}" for number in range(2000)]


def ngrams(text: str, n: int) -> list[str]:
    words = normal_form(text).split(" ")
    return [" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


def jaccard(one: str, other: str, n: int) -> float:
    a, b = set(ngrams(one, n)), set(ngrams(other, n))
    return len(a & b) / len(a | b)


def story(rng: random.Random, words: int = 150) -> list[str]:
    return rng.choices(VOCABULARY, k=words)


def perturbed(rng: random.Random, words: list[str], changes: int) -> str:
    """A story with words replaced, left out or added, but for its first."""
    words = list(words)
    for _ in range(changes):
        place = rng.randrange(1, len(words))
        words[place : place + 1] = rng.choice([[], [rng.choice(VOCABULARY)], [words[place], "so"]])
    return " ".join(words)


def families(seed: int, stories: int, variants: int) -> list[str]:
    """Shuffled variants of some stories, from equal to hardly similar. All words of a story begin
    with its number, so that other families share no n-gram with it."""
    rng = random.Random(seed)
    texts = []
    for number in range(stories):
        words = [f"{number}{word}" for word in story(rng)]
        texts += [
            perturbed(rng, words, rng.choice([0, 1, 2, 3, 4, 6, 10])) for _ in range(variants)
        ]
    rng.shuffle(texts)
    return texts


def twins(texts: list[str], section: Near, seed: int = 0) -> list[int]:
    duplicates = NearDuplicates(section, seed)
    duplicates.add(texts)
    return duplicates.finish().tolist()  # type: ignore[no-any-return]


def greedy(texts: list[str], section: Near) -> list[int]:
    """The definition, on exact similarities: compare with every earlier text that is kept."""
    found: list[int] = []
    for index, text in enumerate(texts):
        earlier = [i for i in range(index) if found[i] < 0]
        similar = (
            i for i in earlier if jaccard(texts[i], text, section.ngram) >= section.threshold
        )
        found.append(next(similar, -1))
    return found


# --- the answer -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    picks=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 30])), max_size=25),
)
def test_answer_is_the_greedy_one_where_similarities_are_clear(
    seed: int, picks: list[tuple[int, int]]
) -> None:
    """One changed word of 150 leaves 0.93 or more, two such texts 0.87; thirty less than 0.45."""
    rng = random.Random(seed)
    stories = [story(rng) for _ in range(4)]
    texts = [perturbed(rng, stories[which], changes) for which, changes in picks]
    section = Near(threshold=0.66, ngram=5, permutations=256)
    assert twins(texts, section, seed) == greedy(texts, section)


def test_text_similar_only_to_a_dropped_one_is_kept() -> None:
    """Windows over one sequence: neighbours have 0.67, the next but one 0.43."""
    words = story(random.Random(1), 200)
    texts = [" ".join(words[start : start + 100]) for start in (0, 20, 40, 60, 80)]
    section = Near(threshold=0.55, ngram=1, permutations=512)
    assert jaccard(texts[0], texts[1], 1) > 0.6 > 0.5 > jaccard(texts[0], texts[2], 1)
    assert twins(texts, section) == [-1, 0, -1, 2, -1]


def test_twin_is_the_earliest_of_several() -> None:
    """The last text lies between two that are kept, and is similar to both."""
    words = story(random.Random(2), 140)
    texts = [" ".join(words[start : start + 100]) for start in (0, 40, 20)]
    section = Near(threshold=0.55, ngram=1, permutations=512)
    assert twins(texts, section) == [-1, -1, 0]
    assert twins([texts[1], texts[0], texts[2]], section) == [-1, -1, 0]


def family_pairs(texts: list[str]) -> Iterator[tuple[int, int]]:
    """All i < j whose texts are variants of one story."""
    stories = [text.partition("w")[0] for text in texts]
    for j in range(len(texts)):
        yield from ((i, j) for i in range(j) if stories[i] == stories[j])


def test_recall_and_precision_on_perturbed_texts() -> None:
    """The estimate's standard error at 0.8 is 0.035, so 0.05 above the threshold nearly all are
    found (a pair at just 0.85 is with 0.93), and none that is dropped lies 0.1 below it."""
    texts = families(seed=3, stories=80, variants=20)
    similarity = {(i, j): jaccard(texts[i], texts[j], 5) for i, j in family_pairs(texts)}
    found = twins(texts, Near(threshold=0.8))
    due = {j for (i, j), value in similarity.items() if found[i] < 0 and value >= 0.85}
    missed = [j for j in due if found[j] < 0]
    assert len(due) > 400
    assert len(missed) <= 0.01 * len(due)
    assert all(similarity[twin, j] >= 0.7 for j, twin in enumerate(found) if twin >= 0)


def test_estimates_are_as_good_as_those_of_datasketch() -> None:
    """Mean absolute error against exact Jaccard, over pairs of all similarities."""
    texts = families(seed=4, stories=30, variants=10)
    pairs = list(family_pairs(texts))
    exact = np.array([jaccard(texts[i], texts[j], 5) for i, j in pairs])
    signatures = NearDuplicates(Near(permutations=128), 0).signatures(texts)
    ours = np.array([(signatures[i] == signatures[j]).mean() for i, j in pairs])
    sketches = [datasketch.MinHash(num_perm=128) for _ in texts]
    for sketch, text in zip(sketches, texts, strict=True):
        sketch.update_batch([gram.encode() for gram in ngrams(text, 5)])
    theirs = np.array([sketches[i].jaccard(sketches[j]) for i, j in pairs])
    assert abs(ours - exact).mean() < 1.1 * abs(theirs - exact).mean()
    assert abs((ours - exact).mean()) < 0.01


@pytest.mark.parametrize("n", [1, 3, 8])
def test_short_texts_are_duplicates_only_as_a_whole(n: int) -> None:
    texts = ["one two", "One, two!", "one three", "two one", "one", "one two"]
    expected = {1: [-1, 0, -1, 0, -1, 0]}.get(n, [-1, 0, -1, -1, -1, 0])
    assert twins(texts, Near(ngram=n, threshold=0.8)) == expected


def test_texts_without_words_are_compared_as_written() -> None:
    assert twins(["!!!", "???", "...", "!!!", "", " ", "\0", "\0\0"], Near()) == [
        *(-1, -1, -1, 0, -1, 4, -1, -1)
    ]


def test_nothing_gives_nothing() -> None:
    assert twins([], Near()) == []


# --- what it does not depend on ---------------------------------------------------------------


def test_calls_and_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = families(seed=5, stories=10, variants=10)
    expected = twins(texts, Near())
    assert max(expected) > -1
    monkeypatch.setattr(near, "BATCH", 3000)
    duplicates = NearDuplicates(Near(), 0)
    cuts = [0, 0, 1, 7, 60, 60, len(texts)]
    for begin, end in pairwise(cuts):
        duplicates.add(texts[begin:end])
    assert duplicates.finish().tolist() == expected


SCRIPT = """
import sys
from unitcorpus.dedup.near import NearDuplicates
from unitcorpus.recipe.models import Near
duplicates = NearDuplicates(Near(threshold=0.75), 7)
duplicates.add(sys.stdin.read().split("\\n"))
print(duplicates.finish().tolist())
"""


def test_threads_and_hash_seed_make_no_difference() -> None:
    texts = families(seed=6, stories=150, variants=10)
    answers = set()
    for threads, hash_seed in (("1", "1"), ("4", "2")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        answers.add(
            subprocess.run(
                [sys.executable, "-c", SCRIPT],
                input="\n".join(texts),
                env=environment,
                text=True,
                capture_output=True,
                check=True,
            ).stdout
        )
    assert answers == {f"{twins(texts, Near(threshold=0.75), 7)}\n"}


def test_seed_matters_only_near_the_threshold() -> None:
    texts = families(seed=7, stories=10, variants=20)
    one, other = (twins(texts, Near(), seed) for seed in (0, 1))
    assert one != other
    assert np.mean(np.array(one) == np.array(other)) > 0.7


# --- parts ------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "ab", "é", "日本"]), max_size=12), max_size=8),
    st.integers(1, 6),
)
def test_shingles_hash_the_ngrams_one_to_one(forms: list[list[str]], n: int) -> None:
    texts = [" ".join(words) for words in forms] + ["end"]
    hashes, offsets = shingles(texts, n)
    expected = [ngrams(text, n) for text in texts]
    assert np.diff(offsets.astype(np.int64)).tolist() == list(map(len, expected))
    flat = [gram for grams in expected for gram in grams]
    pairs = set(zip(flat, hashes.tolist(), strict=True))
    assert len(pairs) == len(set(flat)) == len(set(hashes.tolist()))


def test_hashes_of_many_ngrams_do_not_collide() -> None:
    text = " ".join(random.Random(8).choices("ab", k=200_000))
    hashes, _ = shingles([text], 24)
    assert len(set(hashes.tolist())) == len(set(ngrams(text, 24)))


@given(threshold=st.floats(0.01, 0.99), permutations=st.integers(16, 512))
def test_bands_fit_and_find_pairs_at_the_threshold(threshold: float, permutations: int) -> None:
    bands, rows = band_shape(Near(threshold=threshold, permutations=permutations))
    assert 1 <= bands * rows <= permutations
    missed = (1 - threshold**rows) ** bands
    assert rows == 1 or missed <= near.MISSED


@given(st.lists(st.text(max_size=30), max_size=30), st.integers(1, 60))
def test_batches_hold_all_texts_in_order(texts: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "BATCH", size)
        parts = list(batches(texts))
    assert [text for part in parts for text in part] == texts
    assert all(sum(map(len, part[:-1])) < size for part in parts)
