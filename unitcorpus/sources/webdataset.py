"""Recordings in tars as webdataset writes them: KEY.flac (.wav, .mp3, .opus …) with KEY.txt or
KEY.json beside it; members of one key follow each other.

A plan knows where in its tar a recording begins, so that a worker reads it and nothing else, from a
file or an fsspec URL. Nothing is unpacked: a member's name is only a name. Links and the like,
sparse members and names that lead upwards are bad rows.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.audio import WebdatasetSource
from unitcorpus.sources.base import BadRow, Part, PartedRow
from unitcorpus.sources.columns import RowError, identifier
from unitcorpus.sources.files import one_line, opened
from unitcorpus.sources.folder import Folder, shown
from unitcorpus.sources.recording import SUFFIXES, split_of

LONGEST_TEXT = 1 << 20
"""Bytes of a .txt or .json member, at most."""

# webdataset's own: folders belong to the key, and of the name what comes before its first dot.
_NAME = re.compile(r"((?:.*/)?[^./][^/.]*)\.([^/]*)")


class WebdatasetRows:
    """The recordings of some tars."""

    def __init__(self, section: WebdatasetSource, seed: int) -> None:
        self._section = section
        self._base, self._found = _tars(section.located())
        self._names = [name for name in self._found if isinstance(name, str)]

    def identity(self) -> dict[str, Any]:
        """What identifies the rows: the names and sizes of the tars."""
        tars = {name: _size(self._base + name) for name in self._names}
        return {"kind": "webdataset", "tars": tars, "limit": self._section.limit}

    def rows(self) -> Iterator[PartedRow | BadRow]:
        """Recordings in the order of the tars and of their members. Raises UnitcorpusError for a
        missing tar."""
        found = (row for name in self._found for row in self._tar(name))
        return islice(found, self._section.limit)

    def fetch(self, name: str, size: int, offset: int | None) -> bytes:
        """The bytes of a recording. Raises UnitcorpusError where the tar has changed."""
        tar = name[: name.index(".tar/") + 4]
        with opened(self._base + tar) as raw:
            raw.seek(offset or 0)
            data = raw.read(size)
        if len(data) != size:
            raise UnitcorpusError(
                f"{self._base}{tar} ends before {name} does: the source changed; put it back, or "
                "build again with --overwrite"
            )
        return data

    def _tar(self, name: str | BadRow) -> Iterator[PartedRow | BadRow]:
        if isinstance(name, BadRow):
            yield name
            return
        with opened(self._base + name) as raw:
            try:
                for key, group in groupby(_members(raw), lambda member: _split(member.name)[0]):
                    if key:
                        yield self._row(raw, name, key, list(group))
            except (tarfile.TarError, ValueError, OverflowError) as error:  # of a broken header
                yield BadRow(name, "unreadable_tar", f"{one_line(error)}; what follows is lost")

    def _row(
        self, raw: IO[bytes], tar: str, key: str, members: list[tarfile.TarInfo]
    ) -> PartedRow | BadRow:
        where = f"{tar}/{shown(key)}"
        try:
            return self._sample(raw, tar, key, members)
        except RowError as error:
            return BadRow(where, *error.args)

    def _sample(
        self, raw: IO[bytes], tar: str, key: str, members: list[tarfile.TarInfo]
    ) -> PartedRow:
        if not key.isprintable() or key.startswith("/") or ".." in PurePosixPath(key).parts:
            raise RowError("outside", "the member's name is no plain relative one")
        for member in members:
            if not member.isreg() or member.issparse():
                raise RowError("not_a_file", f"{shown(member.name)} is no plain file")
        audio = [m for m in members if m.name.lower().endswith(SUFFIXES)]
        if len(audio) != 1:
            raise RowError("no_audio", f"{len(audio)} recordings under one key, not one")
        known = _known(raw, members)
        section, [sound] = self._section, audio
        text = _text(raw, members)
        if text is None:
            text = identifier(known.get(section.text_column))
        ident = identifier(known.get(section.id_column)) if section.id_column else key
        voice = identifier(known.get(section.speaker_column))
        place = f"{tar}/{sound.name}"
        part = Part(text, audio=place, audio_bytes=sound.size, offset=sound.offset_data)
        return PartedRow((part,), place, ident, split_of(PurePosixPath(tar).name), voice)


def _members(raw: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """What is in a tar but for its folders; `raw` may be read between two of them."""
    tar: Any
    with tarfile.open(fileobj=raw, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # it would keep them all
            if not member.isdir():
                yield member


def _split(name: str) -> tuple[str, str]:
    """The key and the ending of a member; no key for what belongs to no sample."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else ("", "")


def _bytes(raw: IO[bytes], members: list[tarfile.TarInfo], ending: str) -> bytes | None:
    """The content of the member with this ending, if there is one."""
    for member in members:
        if _split(member.name)[1] == ending:
            if member.size > LONGEST_TEXT:
                raise RowError("malformed_json", f".{ending} of {member.size} bytes")
            raw.seek(member.offset_data)
            return raw.read(member.size)
    return None


def _known(raw: IO[bytes], members: list[tarfile.TarInfo]) -> dict[str, Any]:
    """What the .json of a sample says."""
    data = _bytes(raw, members, "json")
    if data is None:
        return {}
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise RowError("malformed_json", one_line(error)) from None
    if not isinstance(value, dict):
        raise RowError("malformed_json", f"an object is expected, not {type(value).__name__}")
    return value


def _text(raw: IO[bytes], members: list[tarfile.TarInfo]) -> str | None:
    data = _bytes(raw, members, "txt")
    try:
        return None if data is None else data.decode().strip()
    except UnicodeDecodeError:
        raise RowError("not_utf8", "its .txt is not UTF-8") from None


def _tars(path: str) -> tuple[str, list[str | BadRow]]:
    """Where the tars lie (a folder or URL, with its slash), and their names below it."""
    if "://" in path:
        import braceexpand

        cut = re.split(r"[{*]", path, maxsplit=1)[0].rpartition("/")[0] + "/"
        return cut, [url[len(cut) :] for url in braceexpand.braceexpand(path)]
    place = Path(path).expanduser()
    if place.is_file():
        if place.suffix != ".tar":
            raise UnitcorpusError(f"{path} (source.path) is no .tar file")
        return f"{place.parent}/", [place.name]
    return f"{place}/", list(Folder(path).names((".tar",)))


def _size(where: str) -> int:
    with opened(where) as raw:
        return raw.seek(0, 2)
