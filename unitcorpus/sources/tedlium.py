"""TED-LIUM 3 as it unpacks: legacy/{train,dev,test}/sph/TALK.sph with TALK.stm beside it in stm/.

A line of an stm file is `TALK CHANNEL SPEAKER START END LABEL TEXT…`, times in seconds; talks are
cut by them. Lines to leave out of scoring hold no speech that counts, and are no rows. The
release's data/ links the talks of the legacy split and is not read beside it. In texts, `<unk>`,
`{NOISE}` and variants in brackets stay as they are.

Checked: the folders and stm fields in published readers (lhotse, datasets); not checked against the
archive, whose sph files libsndfile reads as they are described (16-bit PCM).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from unitcorpus.sources.base import BadRow
from unitcorpus.sources.files import lines, not_utf8
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording, split_above

IGNORED = "ignore_time_segment_in_scoring"


def recordings(folder: Folder) -> Iterator[Recording | BadRow]:
    """The segments of all talks, in the order of the names of their stm files."""
    names = list(folder.names((".stm",)))
    legacy = any("legacy" in PurePosixPath(str(name)).parts for name in names)
    for name in names:
        if isinstance(name, BadRow):
            yield name
        elif not legacy or "legacy" in PurePosixPath(name).parts:
            yield from _talk(folder, name)


def _talk(folder: Folder, stm: str) -> Iterator[Recording | BadRow]:
    path = PurePosixPath(stm)
    audio = (path.parent.parent / "sph" / path.name).with_suffix(".sph").as_posix()
    split = split_above(folder, stm)
    for number, line in lines(str(folder.path / stm)):
        where = f"{stm} line {number}"
        try:
            fields = line.decode().split(maxsplit=6)
        except UnicodeDecodeError as error:
            yield not_utf8(where, error)
            continue
        if not fields or fields[0].startswith(";;"):  # a blank line, or a comment
            continue
        if len(fields) > 6 and fields[6].strip() == IGNORED:
            continue
        yield _segment(where, audio, split, number, fields)


def _segment(
    where: str, audio: str, split: str, number: int, fields: list[str]
) -> Recording | BadRow:
    try:
        talk, _, speaker, start, end, _, *text = fields
        times = float(start), float(end)
    except ValueError:
        return BadRow(where, "malformed_stm", "not TALK CHANNEL SPEAKER START END LABEL TEXT")
    said = text[0].strip() if text else ""
    return Recording(where, audio, said, f"{talk}-{number:04d}", split, speaker, *times)
