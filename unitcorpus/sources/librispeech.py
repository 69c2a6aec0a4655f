"""LibriSpeech as it unpacks: SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac, and beside the
utterances of a chapter their texts in SPEAKER-CHAPTER.trans.txt ("ID TEXT" a line).

Subsets are splits by their names: train-clean-100 is train, dev-other validation, test-clean test.
An utterance without a line in its chapter's transcript is listed, and so is a line without a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from unitcorpus.sources.base import BadRow
from unitcorpus.sources.files import lines, not_utf8
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording, split_above, stem


def recordings(folder: Folder) -> Iterator[Recording | BadRow]:
    """The utterances of all chapters below the folder, in the order of their names."""
    chapters: dict[str, tuple[list[str], list[str]]] = {}
    for name in folder.names((".flac", ".trans.txt")):
        if isinstance(name, BadRow):
            yield name
            continue
        files, texts = chapters.setdefault(str(PurePosixPath(name).parent), ([], []))
        (texts if name.endswith(".trans.txt") else files).append(name)
    for place, (files, texts) in chapters.items():
        yield from _chapter(folder, place, files, texts)


def _chapter(
    folder: Folder, place: str, files: list[str], texts: list[str]
) -> Iterator[Recording | BadRow]:
    said: dict[str, str] = {}
    for name in texts:
        for number, line in lines(str(folder.path / name)):
            try:
                ident, _, text = line.decode().strip().partition(" ")
            except UnicodeDecodeError as error:
                yield not_utf8(f"{name} line {number}", error)
                continue
            if ident:
                said[ident] = text
    for name in files:
        ident = stem(name)
        if ident not in said:
            yield BadRow(name, "no_transcript", f"no line for {ident} in {place}/*.trans.txt")
            continue
        split, speaker = split_above(folder, name), ident.split("-")[0]
        yield Recording(name, name, said.pop(ident), ident, split, speaker)
    for ident in said:
        yield BadRow(f"{place}/{ident}", "missing_file", f"a transcript, but no {ident}.flac")
