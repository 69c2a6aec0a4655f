"""Checkpoints that are there whole or not at all, and of which a damaged one is never used.

    out/checkpoints/step-00001000/
      model/           plain `save_pretrained`: loads with AutoModelForCausalLM.from_pretrained
      optimizer.pt     the optimizer's state and the processes' random states (weights_only)
      state.json       step, tokens, seconds, place in the data, recipe, fingerprints of the data
      files.json       size and sha256 of each file above

A checkpoint is written under a temporary name, fsynced and renamed; JSON files are sealed by a
digest of their own. Only then are the oldest beyond `keep` removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import DamagedError, seal, unseal
from unitcorpus.shards.writer import sync_folder

NAME = re.compile(r"step-(\d{8,})")
TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every file is as it was written. `state` is the content of state.json."""

    folder: Path
    step: int
    state: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def optimizer(self) -> Path:
        return self.folder / "optimizer.pt"


class Checkpoints:
    """The checkpoints of a run, newest last; the last `keep` stay."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps for which there is a folder, whole or not, in order."""
        if not self.folder.is_dir():
            return []
        found = [NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, state: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """Saves `state` and what `write(folder)` puts into the folder it is given.

        Raises UnitcorpusError where the files cannot be written (a full disk); the checkpoints that
        were there are then as they were.
        """
        final, steps = self.folder / f"step-{step:08d}", self.steps()
        kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "there was none before"
        with whole_folder(final, kept) as folder:
            write(folder)
            (folder / "state.json").write_bytes(seal(state))
            (folder / "files.json").write_bytes(seal({"files": _digests(folder)}))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{old:08d}")
        return final

    def latest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest whole checkpoint, or None; `warn` is told of each damaged one passed over."""
        steps = self.steps()
        for step in reversed(steps):
            folder = self.folder / f"step-{step:08d}"
            problem = damage(folder)
            if problem is None:
                return Checkpoint(folder, step, unseal(_read(folder / "state.json"), "state.json"))
            then = "the checkpoint before it is used" if step > steps[0] else "it was the last one"
            warn(f"{folder} is damaged ({problem}): {then}")
        return None

    def remove_temporary(self) -> None:
        """Removes what a killed process left unfinished."""
        for path in self.folder.glob(f".step-*{TEMPORARY}*"):
            shutil.rmtree(path)


@contextmanager
def whole_folder(final: Path, kept: str) -> Iterator[Path]:
    """A folder to write into, that appears as `final` only when the block ends without an error.

    Raises UnitcorpusError where the files cannot be written, saying what is `kept` all the same.
    """
    temporary = final.with_name(f".{final.name}{TEMPORARY}{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.replace(final)
        sync_folder(final.parent)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UnitcorpusError(
            f"cannot save {final}: {_reason(error)}; {kept}. Make room and run the same command "
            "again"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, in words, or None."""
    try:
        listed = unseal(_read(folder / "files.json"), "files.json")["files"]
    except DamagedError as error:
        return str(error)
    for name, (size, digest) in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes of {size}"
        if _sha256(path) != digest:
            return f"{name} is not what was written"
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path.name}: {error.strerror}") from None


def _digests(folder: Path) -> dict[str, tuple[int, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, _sha256(path)) for path in files
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Makes every file below `folder`, and their names, survive a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _reason(error: Exception) -> str:
    """An error of the disk in one line; the writers of tensors wrap the system's message."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
