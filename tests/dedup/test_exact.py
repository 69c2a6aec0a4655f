"""The normal form drops exactly what makes no word; the hash is that form's."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitcorpus.dedup.exact import normal_form, text_hash

any_text = st.text(st.characters(exclude_categories=()), max_size=200)
words = st.lists(st.text("abcdefghijklmnopqrstuvwxyzäöé0123456789", min_size=1), max_size=20)
between = st.text(" \t\n.,;:!?-–—_'\"“”‘’…()\u00a0\u200b", min_size=1, max_size=4)


@given(any_text)
def test_normal_form_holds_words_parted_by_single_spaces(text: str) -> None:
    form = normal_form(text)
    assert form == form.strip()
    assert "  " not in form
    assert all(c == " " or c.isalnum() or unicodedata.category(c)[0] == "M" for c in form)


@given(any_text)
def test_normal_form_is_the_published_steps_where_there_are_no_marks(text: str) -> None:
    """Against the same steps written with `re`, which takes marks for punctuation."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not any(unicodedata.category(char).startswith("M") for char in folded):
        assert normal_form(text) == re.sub(r"[\W_]+", " ", folded).strip()


@given(any_text)
def test_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    assert normal_form(normal_form(text)) == normal_form(text)


@given(any_text)
def test_ways_of_encoding_the_same_characters_have_one_form(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normal_form(unicodedata.normalize(form, text)) == normal_form(text)


@given(words, st.data())
def test_case_and_punctuation_make_no_difference(parts: list[str], data: st.DataObject) -> None:
    written = "".join(
        data.draw(st.sampled_from([p, p.upper(), p.title()])) + data.draw(between) for p in parts
    )
    assert normal_form(data.draw(between) + written) == " ".join(parts)


def test_vowel_signs_tell_words_apart() -> None:
    assert normal_form("कि की कु") == "कि की कु"
    assert text_hash("दिन") != text_hash("दीन")


@given(any_text, any_text)
def test_hashes_are_equal_exactly_where_the_forms_are(one: str, other: str) -> None:
    if normal_form(one) and normal_form(other):
        same = normal_form(one) == normal_form(other)
        assert (text_hash(one) == text_hash(other)) == same


def test_hash_is_16_bytes_of_blake2b_of_the_form() -> None:
    assert text_hash("Hello,  WORLD!") == blake2b(b"hello world", digest_size=16).digest()


def test_texts_without_words_differ_as_written() -> None:
    texts = ["!!!", "???", "! ! !", "", " ", "\ud800", "😀"]
    assert len({text_hash(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ﬁne ①", "FINE 1"), ("STRASSE", "straße"), ("naïve", "nai\u0308ve"), ("don’t", "don't")],
)
def test_unicode_variants_are_the_same_text(one: str, other: str) -> None:
    assert text_hash(one) == text_hash(other)
