"""VoxPopuli as its own scripts leave it: unlabelled_data/LANG/YEAR/EVENT_LANG_NUMBER.ogg (segments
of parliament sessions, nothing known of them), or transcribed_data/LANG/YEAR/ID.ogg with
asr_train.tsv, asr_dev.tsv and asr_test.tsv beside the years (`id`, `raw_text`, `normalized_text`,
`speaker_id`).

Whether there are such tables tells which of the two it is. raw_audios/ holds whole sessions: read
those as a plain folder of audio, with `segments`. Checked: folders, names and columns in what
writes them, the corpus's get_unlabelled_data.py and get_asr_data.py; its audio was not at hand.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import PurePosixPath

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.sources.base import BadRow
from unitcorpus.sources.files import lines
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording, split_of, stem


def recordings(folder: Folder) -> Iterator[Recording | BadRow]:
    """The segments, in the order of the tsv files or of their names."""
    tables = sorted(folder.path.glob("asr_*.tsv")) or sorted(folder.path.glob("*/asr_*.tsv"))
    if not tables:
        for name in folder.names((".ogg",)):
            yield name if isinstance(name, BadRow) else Recording(name, name, id=stem(name))
    for path in tables:
        yield from _table(folder, path.relative_to(folder.path).as_posix())


def _table(folder: Folder, tsv: str) -> Iterator[Recording | BadRow]:
    text = (line.decode("utf-8", "replace") for _, line in lines(str(folder.path / tsv)))
    rows = csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    known = rows.fieldnames or []
    split = split_of(stem(tsv).removeprefix("asr_"))
    for column in ("id", "normalized_text"):
        if column not in known:
            raise UnitcorpusError(
                f"{tsv} has no column '{column}'{nearest(column, known)}; its columns: "
                f"{', '.join(known)}"
            )
    for row in rows:
        where, ident = f"{tsv} line {rows.line_num}", row["id"] or ""
        if not ident or row["normalized_text"] is None:
            yield BadRow(where, "malformed_tsv", f"{len(known)} columns are due")
            continue
        name = (PurePosixPath(tsv).parent / ident[:4] / f"{ident}.ogg").as_posix()
        said = row["normalized_text"] or row.get("raw_text") or ""
        voice = row.get("speaker_id") or ""
        yield Recording(where, name, said, ident, split, voice)
