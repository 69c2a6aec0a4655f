"""Text to pieces of phonemes: as kokoro and espeak-ng have them, and nothing lost."""

from __future__ import annotations

import random
import re
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import KOKORO_VOCABULARY
from unitcorpus.errors import UnitcorpusError
from unitcorpus.speech.phonemes import LIMIT, SPACY_MODEL, Phonemizer, choose, split

INSTALLED = spacy.util.is_package(SPACY_MODEL)
TEXTS = (
    "Once upon a time there was a fox.",
    'She said: "I read the read book!" (twice) — and slept…',
    "The the the a a an, St John’s Wood.",
    "élan vital, naïve café",
    "Привет, мир! 😀",
)
ODD = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(list(".,;:!?—()\"' \n\t-01aé\x00"))
)


@pytest.fixture(scope="module")
def american() -> Phonemizer:
    return Phonemizer("a", "espeak", KOKORO_VOCABULARY)


@pytest.fixture(scope="module")
def plain_spacy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an en_core_web_sm whose tagger knows punctuation and numbers."""
    root = tmp_path_factory.mktemp("site")
    info = root / f"{SPACY_MODEL}-3.8.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {SPACY_MODEL}\nVersion: 3.8.0\n")
    (root / f"{SPACY_MODEL}.py").write_text(
        "import spacy\n"
        "@spacy.Language.component('plain_tags')\n"
        "def plain_tags(doc):\n"
        "    marks = {'.': '.', '!': '.', '?': '.', ',': ',', ':': ':', ';': ':', '—': ':'}\n"
        "    for token in doc:\n"
        "        token.tag_ = marks.get(token.text, 'CD' if token.like_num else 'NN')\n"
        "    return doc\n"
        "def load(**options):\n"
        "    nlp = spacy.blank('en')\n"
        "    nlp.add_pipe('plain_tags')\n"
        "    return nlp\n"
    )
    return root


@pytest.fixture
def spacy_model(plain_spacy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """en_core_web_sm where it is installed, else the plain one: misaki and kokoro run as are."""
    if not INSTALLED:
        monkeypatch.syspath_prepend(plain_spacy_model)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(st.text(st.sampled_from(list("abc.,—! \n"))), st.integers(1, 30))
def test_splitting_keeps_every_letter_and_the_limit(text: str, limit: int) -> None:
    """With a language in which each letter is its own phoneme."""
    pieces = split(text, lambda part: part, limit)
    assert "".join(piece.text for piece in pieces) == text
    assert without_spaces("".join(p.phonemes for p in pieces)) == without_spaces(text)
    assert all(len(piece.phonemes) <= limit for piece in pieces)


def test_pieces_end_at_sentences_then_clauses_then_words() -> None:
    def ends(text: str, limit: int) -> list[str]:
        return [piece.text for piece in split(text, lambda part: part, limit)]

    text = "One two. Three four, five six seven."
    assert ends(text, 40) == [text]
    assert ends(text, 30) == ["One two. ", "Three four, five six seven."]
    assert ends(text, 20) == ["One two. Three four, ", "five six seven."]
    assert ends("Mr. Fox, Dr. Owl", 10) == ["Mr. Fox, ", "Dr. Owl"]
    assert ends("one two three", 8) == ["one two ", "three"]


@settings(max_examples=60, deadline=None)
@given(ODD, st.integers(1, 200))
def test_pieces_of_any_text_fit_the_model_and_hold_all_of_it(
    american: Phonemizer, text: str, times: int
) -> None:
    text *= times
    pieces = american(text)
    for piece in pieces:
        assert 1 <= len(piece.phonemes) <= LIMIT
        assert set(piece.phonemes) <= KOKORO_VOCABULARY.keys()
    whole = set(without_spaces("".join(piece.text for piece in pieces)))
    lost = set(without_spaces(text)) - whole
    assert not pieces or not any(character.isalnum() for character in lost)


def test_the_words_of_a_long_text_come_back_in_order(american: Phonemizer) -> None:
    rng = random.Random(0)
    words = [rng.choice(("fox", "a", "don't", "Mr.", "well,", "so!", "3.50")) for _ in range(2000)]
    pieces = american(" ".join(words))
    assert len(pieces) > 10
    assert " ".join(piece.text.strip() for piece in pieces).split() == words


def test_phonemes_do_not_depend_on_what_came_before(american: Phonemizer) -> None:
    first = [american(text) for text in TEXTS]
    for seed in range(3):
        order = random.Random(seed).sample(range(len(TEXTS)), len(TEXTS))
        for i in order:
            assert american(TEXTS[i]) == first[i]


@pytest.mark.parametrize("british", [False, True])
def test_english_words_are_as_misaki_has_them(british: bool) -> None:
    from misaki.en import MToken
    from misaki.espeak import EspeakFallback

    fallback = EspeakFallback(british=british)
    phonemizer = Phonemizer("b" if british else "a", "espeak", KOKORO_VOCABULARY)
    for text in TEXTS[:4]:
        token = MToken(text=text, tag="", whitespace="")
        expected = "".join(c for c in fallback(token)[0] if c in KOKORO_VOCABULARY)
        assert [piece.phonemes for piece in phonemizer(text)] == [expected]


@pytest.mark.parametrize(
    ("language", "text"),
    [("e", "¿Qué tal? Hola, señor."), ("f", "Bonjour, le football!"), ("i", "Ciao, bella (mia).")],
)
def test_other_languages_are_as_kokoros_pipeline_has_them(language: str, text: str) -> None:
    from kokoro import KPipeline

    pipeline = KPipeline(language, repo_id="hexgrad/Kokoro-82M", model=False)
    theirs = ["".join(c for c in r.phonemes if c in KOKORO_VOCABULARY) for r in pipeline(text)]
    ours = Phonemizer(language, "espeak", KOKORO_VOCABULARY)(text)
    assert [piece.phonemes for piece in ours] == theirs


def test_marks_within_a_number_or_after_a_title_are_no_pauses(american: Phonemizer) -> None:
    [piece] = american("Mr. Fox has 3.50 at 10:30, says Dr. Owl.")
    assert without_spaces(re.sub(r"[^.,:]", "", piece.phonemes)) == ",."


def test_line_breaks_separate_pieces(american: Phonemizer) -> None:
    assert [p.text for p in american("\nOne.\n\nTwo, three.\n")] == ["One.", "Two, three."]


def test_every_letter_of_an_endless_word_is_spoken(american: Phonemizer) -> None:
    [one] = american("x")
    spoken = "".join(piece.phonemes for piece in american("x" * 300))
    assert spoken.count("ks") == 300 * one.phonemes.count("ks") == 300


def test_a_control_character_ends_no_text(american: Phonemizer) -> None:
    [piece] = american("fox\x00owl\ud800")
    assert piece.phonemes == american("fox owl")[0].phonemes


@pytest.mark.parametrize("text", ["", "  \n ", "...!!!", "— ( )", "\u200b"])
def test_a_text_of_marks_has_no_pieces(american: Phonemizer, text: str) -> None:
    assert american(text) == []


@pytest.mark.usefixtures("spacy_model")
@pytest.mark.parametrize("language", ["a", "b"])
def test_misakis_pieces_are_those_of_kokoros_pipeline(language: str) -> None:
    from kokoro import KPipeline

    pipeline = KPipeline(language, repo_id="hexgrad/Kokoro-82M", model=False)
    phonemizer = Phonemizer(language, "misaki", KOKORO_VOCABULARY)
    long = "The quick brown fox, who is 3, jumps over the lazy dog; it runs. " * 20
    for text in (*TEXTS[:2], long, "One.\nTwo."):
        theirs = [(r.graphemes, r.phonemes) for r in pipeline(text)]
        assert [(piece.text, piece.phonemes) for piece in phonemizer(text)] == theirs


@pytest.mark.usefixtures("spacy_model")
def test_misakis_pieces_say_what_kokoros_pipeline_cuts_off() -> None:
    from kokoro import KPipeline

    text = f"[cats](/{'kˈæt ' * 150}/) run."  # a word with its phonemes, by misaki's markup
    phonemizer = Phonemizer("a", "misaki", KOKORO_VOCABULARY)
    theirs, _ = KPipeline("a", repo_id="hexgrad/Kokoro-82M", model=False)(text)
    pieces = phonemizer(text)
    assert pieces[0].phonemes == theirs.phonemes
    assert len(theirs.phonemes) == LIMIT
    assert without_spaces("".join(piece.phonemes for piece in pieces)).count("kˈæt") == 150


@pytest.mark.usefixtures("spacy_model")
@pytest.mark.parametrize("joint", ["-", "/", "—"])
def test_misaki_speaks_a_word_of_endless_parts_in_good_time(joint: str) -> None:
    phonemizer = Phonemizer("a", "misaki", KOKORO_VOCABULARY)
    started = time.monotonic()
    pieces = phonemizer(joint.join(["cat"] * 500))
    assert "".join(piece.phonemes for piece in pieces).count("æt") == 500
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("spacy_model")
def test_auto_is_misaki_for_english_where_spacys_model_is_installed() -> None:
    assert choose("auto", {"a", "e"}) == "misaki"
    assert choose("auto", {"e", "f"}) == "espeak"
    assert choose("misaki", {"e"}) == "espeak"
    assert choose("espeak", {"a"}) == "espeak"


@pytest.mark.skipif(INSTALLED, reason=f"{SPACY_MODEL} is installed")
def test_without_spacys_model_auto_is_espeak_and_misaki_an_error() -> None:
    assert choose("auto", {"a"}) == "espeak"
    with pytest.raises(UnitcorpusError, match=f"python -m spacy download {SPACY_MODEL}"):
        choose("misaki", {"b"})


@pytest.mark.skipif(find_spec("pyopenjtalk") is not None, reason="Japanese is installed")
def test_a_language_whose_package_is_missing_names_it() -> None:
    with pytest.raises(UnitcorpusError, match=r"'j' needs .*pip install 'misaki\[ja\]'"):
        choose("auto", {"j"})
