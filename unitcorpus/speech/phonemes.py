"""Text to Kokoro's phonemes, in pieces that its model can take.

Two ways, by the recipe's `g2p`: misaki's English dictionaries behind kokoro's own pipeline, which
need spaCy's en_core_web_sm; or espeak-ng through misaki's table of Kokoro's symbols, which needs
nothing. Invariant: no piece has more than `LIMIT` phonemes, and the pieces of a text, in order,
say all of it: where the library would cut a text off, it is cut in two instead.
"""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from unitcorpus.errors import UnitcorpusError

LIMIT = 510  # what the model's 512 positions leave beside its two end marks
PIPELINE = "hexgrad/Kokoro-82M"  # tells kokoro's pipeline which table of symbols to use

# Kokoro's codes, and espeak-ng's for them; None: a G2P of misaki's own, and only that.
LANGUAGES: dict[str, str | None] = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": None,
    "p": "pt-br",
    "z": None,
}
ENGLISH = frozenset("ab")
EXTRAS = {"j": "ja", "z": "zh"}
SPACY_MODEL = "en_core_web_sm"

# A point after these ends no sentence; nor do the marks within 3.50, 10:30 and U.S.A.
_TITLES = "".join(rf"(?<!\b{title})" for title in ("Mr", "Mrs", "Ms", "Dr", "St", "Prof", "vs"))
_POINT = rf"{_TITLES}\.(?!\w)|(?<=[a-z])\.(?=[A-Z][a-z])"
_MARK = rf"""(?:{_POINT}|,(?!\d)|:(?!\w)|[;!?¡¿—…"“”«»()\[\]{{}}])"""
_MARKS = re.compile(rf"(\s*{_MARK}(?:\s*{_MARK})*\s*)")
_DASH = re.compile(r"\s[-–]+\s|(?<=\w)--+(?=\w)")
_QUOTES = str.maketrans("«»", "“”")
# Where a text may be cut, best first: after a sentence, after a clause, between words.
_CUTS = (
    re.compile(rf"""(?:{_POINT}|[!?…])[^\w\s]*\s+|[。！？।]\s*"""),
    re.compile(r"""[,;:—][^\w\s]*\s+|—|[、，；：]\s*"""),
    re.compile(r"\s+"),
)
# Control characters end espeak's text early, lone surrogates cannot be encoded.
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Of a word that it spells, espeak-ng leaves out all but the first 39 letters; and misaki's time
# grows with the cube of the parts of a word: a minute for a hundred joined by hyphens.
_LONG_WORD, _LONG_RUN, _JOINT = (
    re.compile(pattern) for pattern in (r"\w{32}(?=\w)", r"\S{65,}", r"[^\w\s](?=\S)")
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text and its phonemes, 1 to `LIMIT` characters in Kokoro's alphabet."""

    text: str
    phonemes: str


def choose(g2p: str, languages: Collection[str]) -> str:
    """The G2P that a recipe's `g2p` means on this machine: "misaki" or "espeak".

    Only English has both: "auto" is misaki where en_core_web_sm is installed, else espeak. Japanese
    and Chinese have misaki's, the others espeak's, whatever is asked for. Raises UnitcorpusError,
    saying what to install, where a package is missing.
    """
    own = sorted(language for language in languages if LANGUAGES[language] is None)
    for language in own:
        _require_own(language)
    if not ENGLISH.intersection(languages):
        return "misaki" if own else "espeak"
    if g2p == "misaki" and not has_spacy_model():
        raise UnitcorpusError(
            f"speech.g2p: 'misaki' needs spaCy's {SPACY_MODEL}, which is not installed: "
            f"python -m spacy download {SPACY_MODEL}, or use g2p 'espeak'"
        )
    if g2p == "auto":
        return "misaki" if has_spacy_model() else "espeak"
    return g2p


def _require_own(language: str) -> None:
    try:
        importlib.import_module(f"misaki.{EXTRAS[language]}")
    except ImportError as error:
        raise UnitcorpusError(
            f"speech: language '{language}' needs a package that is not installed ({error}): "
            f"pip install 'misaki[{EXTRAS[language]}]'"
        ) from None


def has_spacy_model() -> bool:
    """Whether en_core_web_sm is installed. misaki would download it, by pip, in a running build."""
    import spacy

    return bool(spacy.util.is_package(SPACY_MODEL))


class Phonemizer:
    """Texts of one language to pieces.

    Stateless: a text has the same pieces whatever came before. `vocabulary` is the model's, from
    its config.json: characters outside it have no sound, and espeak's are left out.
    """

    def __init__(self, language: str, g2p: str, vocabulary: Collection[str]) -> None:
        self._vocabulary = frozenset(vocabulary)
        self._spaced = LANGUAGES[language] is not None  # Japanese and Chinese are not
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of modules that this does not use
            if language in ENGLISH and g2p == "misaki":
                self._pieces = _misaki_english(language)
            else:
                spoken = _own(language) if LANGUAGES[language] is None else _espeak(language)
                self._pieces = self._by_line(spoken)
        logging.getLogger("phonemizer").setLevel(logging.ERROR)  # it warns of every number

    def __call__(self, text: str) -> list[Piece]:
        """The pieces of a text, in order; none where nothing in it has a sound, as in "...!"."""
        text = _UNREADABLE.sub(" ", text)
        if self._spaced:
            text = _LONG_RUN.sub(lambda run: _JOINT.sub(r"\g<0> ", run[0]), text)
            text = _LONG_WORD.sub(r"\g<0> ", text)
        pieces = list(self._pieces(text))
        spoken = any(c.isalpha() and c in self._vocabulary for p in pieces for c in p.phonemes)
        return pieces if spoken else []

    def _by_line(self, spoken: Callable[[str], str]) -> Callable[[str], Iterator[Piece]]:
        """Line breaks separate pieces, as in kokoro's pipeline; long lines are split."""

        def known(text: str) -> str:
            return "".join(c for c in spoken(text) if c in self._vocabulary)

        def pieces(text: str) -> Iterator[Piece]:
            for line in re.split(r"\n+", text.strip()):
                yield from (piece for piece in split(line.strip(), known) if piece.phonemes)

        return pieces


def split(text: str, phonemes_of: Callable[[str], str], limit: int = LIMIT) -> list[Piece]:
    """`text` cut into pieces of at most `limit` phonemes: in two at the boundary nearest to its
    middle, of sentences if there is one, and so on while a part is too long.

    The texts of the pieces, joined, are `text`. A word that alone is too long is cut within its
    phonemes; its text then belongs to the first of its pieces.
    """
    return _pack(list(_halves(text, phonemes_of, limit)), limit)


def _halves(text: str, phonemes_of: Callable[[str], str], limit: int) -> Iterator[Piece]:
    phonemes = phonemes_of(text).strip()
    if len(phonemes) <= limit:
        yield Piece(text, phonemes)
        return
    inside = range(1, len(text.rstrip()))
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(text) if match.end() in inside]
        if ends:
            middle = min(ends, key=lambda end: abs(2 * end - len(text)))
            yield from _halves(text[:middle], phonemes_of, limit)
            yield from _halves(text[middle:], phonemes_of, limit)
            return
    yield from cut_phonemes(text, phonemes, limit)


def cut_phonemes(text: str, phonemes: str, limit: int = LIMIT) -> Iterator[Piece]:
    """`phonemes` cut at `limit`, wherever that is; the first piece carries the text."""
    for start in range(0, len(phonemes), limit):
        yield Piece("" if start else text, phonemes[start : start + limit])


def _pack(pieces: list[Piece], limit: int) -> list[Piece]:
    """Neighbours joined while they fit: Kokoro speaks a lone "Hi." badly."""
    packed: list[Piece] = []
    for piece in pieces:
        if packed:
            gap = " " if packed[-1].text[-1:].isspace() else ""
            joined = (packed[-1].phonemes + gap + piece.phonemes).strip()
            if len(joined) <= limit:
                packed[-1] = Piece(packed[-1].text + piece.text, joined)
                continue
        packed.append(piece)
    return packed


@dataclass(frozen=True, slots=True)
class _Token:
    """What misaki's espeak fallback reads of a token."""

    text: str


def _espeak(language: str) -> Callable[[str], str]:
    """Phonemes of a text by espeak-ng, with the text's own punctuation.

    misaki's fallback for unknown English words maps espeak-ng's English to the symbols that Kokoro
    learnt, its EspeakG2P the other languages. Both leave punctuation to phonemizer, which takes
    "3.50" for two sentences and "Mr." for the end of one; here marks are found by `_MARKS`, and
    espeak-ng reads what stands between them.
    """
    from misaki import espeak

    if language in ENGLISH:
        fallback = espeak.EspeakFallback(british=language == "b")
        fallback.backend = _plain(fallback.backend)
        return _between_marks(lambda text: fallback(_Token(text))[0] or "")
    g2p = espeak.EspeakG2P(language=LANGUAGES[language])
    g2p.backend = _plain(g2p.backend)
    return _between_marks(lambda text: str(g2p(text)[0]))


def _plain(backend: Any) -> Any:
    """A phonemizer backend like `backend`, which hands texts to espeak-ng as they are."""
    return type(backend)(
        backend.language,
        punctuation_marks=re.compile("(?!)"),
        with_stress=True,
        tie="^",
        language_switch="remove-flags",  # else "(fr)" becomes phonemes
    )


def _between_marks(spoken: Callable[[str], str]) -> Callable[[str], str]:
    def phonemes(text: str) -> str:
        parts = _MARKS.split(_DASH.sub(" — ", " ".join(text.split())))
        for i, part in enumerate(parts):
            parts[i] = part.translate(_QUOTES) if i % 2 else spoken(part).strip()
        return "".join(parts)

    return phonemes


def _pipeline(language: str) -> Any:
    from kokoro import KPipeline

    return KPipeline(language, repo_id=PIPELINE, model=False)


def _own(language: str) -> Callable[[str], str]:
    """misaki's Japanese or Chinese G2P."""
    g2p = _pipeline(language).g2p
    return lambda text: str(g2p(text)[0])


def _misaki_english(language: str) -> Callable[[str], Iterator[Piece]]:
    """kokoro's English pipeline. It cuts off a word of over `LIMIT` phonemes; here it goes on."""
    pipeline = _pipeline(language)
    if pipeline.g2p.fallback is None:
        raise UnitcorpusError(
            "speech.g2p: misaki cannot load espeak-ng, and would leave out the words it does not "
            "know: reinstall espeakng-loader"
        )

    def pieces(text: str) -> Iterator[Piece]:
        for result in pipeline(text):
            whole = pipeline.tokens_to_ps(result.tokens)
            yield from cut_phonemes(result.graphemes, whole)

    return pieces
