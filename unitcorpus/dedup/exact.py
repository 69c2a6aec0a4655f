"""When two texts are the same: equal but for case, punctuation, spacing and Unicode's variants.

The normal form is also what near-duplicates are measured on.
"""

from __future__ import annotations

import unicodedata
from hashlib import blake2b


class _Table(dict[int, str]):
    """For `str.translate`: letters, marks and digits stay, all else becomes a space.

    Marks (category M) belong to words: without its vowel signs one Hindi word is another. A
    character is looked up once; there are at most as many entries as there are characters.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        keep = char.isalnum() or unicodedata.category(char).startswith("M")
        self[code] = char if keep else " "
        return self[code]


_TABLE = _Table()


def normal_form(text: str) -> str:
    """NFKC, casefolded, every run of characters that make no word one space, stripped.

    Folding can undo NFKC ("ǰ" has no single small form), so NFKC comes again: a normal form's
    normal form is itself.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    return " ".join(folded.translate(_TABLE).split())


def text_hash(text: str) -> bytes:
    """16 bytes, equal for texts of equal normal form (blake2b).

    Texts without a letter or digit differ as written, so "!!!" is not a duplicate of "???".
    """
    key = normal_form(text) or text
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
