"""The Spoken Wikipedia Corpora as they unpack: a folder for each article with audio.ogg (or
audio1.ogg, audio2.ogg …), aligned.swc (XML), info.json and audiometa.txt.

aligned.swc has a sentence in each `s` (titles in `sectiontitle`), tokens `t`, and of each token
normalised words `n` with `start` and `end` in milliseconds where the alignment found them. An
utterance is a run of tokens of one sentence that are all aligned, at least `SHORTEST` seconds long:
so the published reader (audiomate) cuts them, whose source is what was checked; the archives were
not looked into. The text is the words as normalised. Times count over all of an article's audio;
`offset` of info.json's `audio_files` says where each file begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from unitcorpus.errors import UnitcorpusError
from unitcorpus.sources.base import BadRow
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording

SHORTEST = 1.0
SENTENCES = ("s", "sectiontitle")

Aligned = tuple[float, float, str]
"""Start and end in seconds over an article, and the text."""


def recordings(folder: Folder) -> Iterator[Recording | BadRow]:
    """The aligned utterances of all articles, in the order of their names."""
    articles = sorted(path.parent for path in folder.path.glob("*/aligned.swc"))
    if not articles:
        raise UnitcorpusError(
            f"{folder.path} has no ARTICLE/aligned.swc: source.path has to be an unpacked "
            "language of the Spoken Wikipedia Corpora"
        )
    for article in articles:
        try:
            files = _files(article)
            root = ElementTree.parse(article / "aligned.swc").getroot()
        except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError) as error:
            said = f"its info.json or aligned.swc cannot be read ({type(error).__name__})"
            yield BadRow(article.name, "malformed_article", said)
            continue
        voice = _reader(article)
        for start, end, text in _utterances(root):
            yield _placed(article.name, files, voice, start, end, text)


def _files(article: Path) -> list[tuple[float, str]]:
    """(where it begins in seconds, name) of the article's audio files. Raises KeyError …"""
    listed = json.loads((article / "info.json").read_bytes())["audio_files"]
    single = len(listed) == 1
    names = [f"audio{'' if single else n}.ogg" for n in range(1, len(listed) + 1)]
    files = [(float(f.get("offset", 0)) if single else float(f["offset"])) for f in listed]
    return sorted(zip(files, names, strict=True))


def _reader(article: Path) -> str:
    """Who reads: the user's name in audiometa.txt."""
    try:
        about = (article / "audiometa.txt").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"user_name\s*=\s*(.*)", about)
    return found[1].strip() if found else ""


def _placed(
    article: str, files: list[tuple[float, str]], voice: str, start: float, end: float, text: str
) -> Recording | BadRow:
    """The utterance in the file that holds it."""
    where = f"{article} from {start:g} s"
    before = [(offset, name) for offset, name in files if offset <= start]
    later = [offset for offset, _ in files if offset > start]
    if not before or (later and end > min(later)):
        return BadRow(where, "between_files", "it is not within one of the article's audio files")
    offset, name = before[-1]
    times = round(start - offset, 3), round(end - offset, 3)
    ident = f"{article}-{round(start * 1000):08d}"
    return Recording(where, f"{article}/{name}", text, ident, "", voice, *times)


def _utterances(root: ElementTree.Element) -> Iterator[Aligned]:
    for sentence in root.iter():
        if sentence.tag not in SENTENCES:
            continue
        run: list[Aligned] = []
        for token in [*map(_aligned, sentence.findall("t")), None]:
            if token is not None:
                run.append(token)
                continue
            if run and run[-1][1] - run[0][0] >= SHORTEST:
                yield run[0][0], run[-1][1], " ".join(text for *_, text in run)
            run = []


def _aligned(token: ElementTree.Element) -> Aligned | None:
    """Start, end and words of a token whose first and last word have times, else None."""
    words = token.findall("n")
    if not words or "start" not in words[0].attrib or "end" not in words[-1].attrib:
        return None
    start, end = int(words[0].attrib["start"]), int(words[-1].attrib["end"])
    text = " ".join(word.attrib.get("pronunciation", "").strip() for word in words)
    return start / 1000, end / 1000, text.strip()
