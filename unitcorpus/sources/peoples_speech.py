"""The People's Speech as it is downloaded and unpacked: SPLIT/SUBSET.json, JSONL in spite of its
name, one recording a line with its utterances in `training_data`: lists `duration_ms`, `label`
(texts) and `name` (paths below SPLIT/SUBSET/).

Splits: train, validation, test; subsets of train: clean, clean_sa, dirty, dirty_sa. No speakers are
known. Checked: in a published reader (lhotse); not checked against the archives, nor the Hub's
parquet copies, which hold the audio inside and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.sources.base import BadRow
from unitcorpus.sources.files import json_rows
from unitcorpus.sources.folder import Folder
from unitcorpus.sources.recording import Recording, split_of


def recordings(folder: Folder) -> Iterator[Recording | BadRow]:
    """The utterances, in the order of the names of the manifests and of their lines."""
    manifests = sorted([*folder.path.glob("*.json"), *folder.path.glob("*/*.json")])
    if not manifests:
        raise UnitcorpusError(
            f"{folder.path} has no SPLIT/SUBSET.json: source.path has to be the People's Speech "
            "as downloaded, with its tars unpacked beside the manifests"
        )
    for path in manifests:
        inside = path.relative_to(folder.path)
        split = split_of(path.parent.name)
        for item in json_rows(str(path)):
            if isinstance(item, BadRow):
                yield BadRow(f"{inside.as_posix()} {item.where}", item.reason, item.detail)
            else:
                where, values = item
                place = PurePosixPath(inside.with_suffix("").as_posix())
                yield from _document(f"{inside.as_posix()} {where}", place, split, values)


def _document(
    where: str, place: PurePosixPath, split: str, values: dict[str, Any]
) -> Iterator[Recording | BadRow]:
    data = values.get("training_data")
    names = data.get("name") if isinstance(data, dict) else None
    texts = data.get("label") if isinstance(data, dict) else None
    if not isinstance(names, list) or not isinstance(texts, list) or len(names) != len(texts):
        yield BadRow(where, "malformed_manifest", "no training_data with as many labels as names")
        return
    for name, text in zip(names, texts, strict=True):
        ident = str(PurePosixPath(str(name)).with_suffix(""))
        yield Recording(where, (place / str(name)).as_posix(), str(text), ident, split)
