"""What the layouts of speech corpora have in common: a recording with what is said in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from unitcorpus.sources.folder import Folder

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".sph", ".w64", ".aiff", ".aif")
"""Endings of the recordings of plain corpora: what libsndfile reads."""

SPLITS = {"train": "train", "dev": "validation", "valid": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance: the file `name` (relative, with `/`), or what lies in it between `start` and
    `end` seconds. `id`, `split`, `voice` (the speaker) and `text` are empty where nothing is known.
    """

    where: str
    name: str
    text: str = ""
    id: str = ""
    split: str = ""
    voice: str = ""
    start: float | None = None
    end: float | None = None


def stem(name: str) -> str:
    """A file's name without folders and ending."""
    return PurePosixPath(name).stem


def split_of(name: str) -> str:
    """The split that a folder or file is named after: `dev-clean` is validation. Empty for other
    names."""
    first = re.match("[a-z]*", name.lower())
    word = first.group() if first else ""
    return SPLITS.get(word, SPLITS["valid"] if word == "validation" else "")


def split_above(folder: Folder, name: str) -> str:
    """The split by the nearest folder above a file that is named after one; the source's own is the
    last to be asked."""
    for part in (*reversed(PurePosixPath(name).parts[:-1]), folder.path.resolve().name):
        if split := split_of(part):
            return split
    return ""
