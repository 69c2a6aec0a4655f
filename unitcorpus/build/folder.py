"""The output folder: whose it is, and removing from it what is ours and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Recipe, is_local
from unitcorpus.shards.format import DamagedError, read_sealed
from unitcorpus.shards.writer import TEMPORARY

RECIPE = ".recipe.json"
"""The recipe with the paths of this machine, for who repairs here; no part of the corpus."""

# What a build writes, plan.json last: while it is there, the folder is known as ours.
PATTERNS = (
    "corpus.json",
    "index.json",
    "codebook.npy",
    "dedup.json",
    "README.md",
    ".progress.json",
    ".building",
    RECIPE,
    "data/*.tar",
    "audio/*.tar",
    "rejects/*.jsonl",
    "receipts/*.json",
    "plan/inputs/*.parquet",
    "plan/rejects.jsonl",
    "plan/request.json",
    "plan/plan.json",
)
FOLDERS = ("data", "audio", "rejects", "receipts", "plan/inputs", "plan")
UNFINISHED = re.compile(rf"\..+{re.escape(TEMPORARY)}([0-9a-f]{{8}}|0)")


def prepare_folder(root: Path) -> None:
    """Makes the output folder, and refuses one that is not ours or cannot be written."""
    visible = make_folder(root)
    if visible and visible != ["codebook.npy"] and not is_ours(root):
        some = ", ".join(visible[:3])
        raise UnitcorpusError(f"{root} holds other files ({some}); give an empty folder with --out")


def make_folder(root: Path) -> list[str]:
    """Makes a folder, and refuses one that cannot be written; returns the visible names in it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        visible = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
    except (FileExistsError, NotADirectoryError):
        raise UnitcorpusError(f"{root} is a file; give a folder with --out") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UnitcorpusError(f"cannot use {root}: {problem}; choose another --out") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise UnitcorpusError(f"no permission to write in {root}; choose another --out")
    return visible


def is_ours(root: Path) -> bool:
    """Whether a build or `unitcorpus dedup` wrote this folder: one of its sealed files is there."""
    names = ("plan/plan.json", "corpus.json", ".dedup/record.json")
    for path in (*(root / name for name in names), *root.glob("receipts/*.json")):
        try:
            read_sealed(path)
        except DamagedError:
            continue
        return True
    return False


def recipe_here(root: Path) -> Recipe | None:
    """The recipe that was built in `root`, with the paths of this machine; None where it was not
    built here."""
    try:
        return Recipe.model_validate(json.loads((root / RECIPE).read_text()))
    except (OSError, ValueError):
        return None


def check_apart(recipe: Recipe, root: Path) -> None:
    """Refuses a recipe that reads from the folder it writes to, or the other way round."""
    inside = root.resolve()
    codebook = getattr(recipe.units, "codebook", None)
    for key, where in (("source.path", recipe.source.path), ("units.codebook", codebook)):
        if where is None or "://" in where or not is_local(where):
            continue
        path = Path(where).expanduser().resolve()
        if path.is_relative_to(inside) or (path.is_dir() and inside.is_relative_to(path)):
            raise UnitcorpusError(f"{key} {where} and the output {root} lie in each other")


def clear(root: Path) -> None:
    """Removes a corpus from its folder; files that are not ours stay."""
    for pattern in PATTERNS:
        for path in root.glob(pattern):
            path.unlink(missing_ok=True)
    for name in FOLDERS:
        folder = root / name
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def remove_temporaries(root: Path) -> None:
    """Deletes what killed writers left; only for who holds the lock of `root`."""
    for folder in (root, *(root / name for name in FOLDERS)):
        for path in folder.glob(f".*{TEMPORARY}*"):
            if not UNFINISHED.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
