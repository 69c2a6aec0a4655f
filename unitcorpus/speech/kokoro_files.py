"""The files of a Kokoro checkpoint: a folder here, or a repository of the Hugging Face Hub.

Both have one layout: config.json, kokoro-v1_0.pth and voices/*.pt. Invariant: the revision that a
plan records names the very bytes a worker loads, a commit of the Hub or a digest of a folder's
files. Weights and voices are read as tensors only, never as pickled code.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitcorpus import channels_last
from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.models import is_local

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "config.json", "kokoro-v1_0.pth"
LAYOUT = f"a Kokoro folder holds {CONFIG}, {WEIGHTS} and voices/*.pt"
PACK = (510, 1, 256)  # a voice: for each number of phonemes, a style for decoder and predictor


class Checkpoint:
    """Where the files are. Of the Hub, `revision` is downloaded, each file when first asked for.

    Every method raises UnitcorpusError where a file is missing or of no use.
    """

    def __init__(self, model: str, revision: str | None) -> None:
        self._model = model
        self._revision = revision
        self._folder: Path | None = None
        if is_local(model):
            self._folder = Path(model.removeprefix("file://")).expanduser()
            if not self._folder.is_dir():
                raise UnitcorpusError(f"speech.model: there is no folder '{model}'; {LAYOUT}")

    def revision(self, voices: Sequence[str]) -> str:
        """The Hub's commit, or "sha256:…" over a folder's config, weights and these voices."""
        config = self._file(CONFIG)
        paths = {f"voices/{voice}.pt": self._voice(voice) for voice in sorted(set(voices))}
        if self._folder is None:
            return config.parent.name
        paths |= {CONFIG: config, WEIGHTS: self._file(WEIGHTS)}
        digests = {name: _sha256(path) for name, path in paths.items()}
        whole = json.dumps(digests, sort_keys=True).encode()
        return f"sha256:{hashlib.sha256(whole).hexdigest()}"

    def model(self, device: str = "cpu", double: bool = False) -> Any:
        """kokoro's `KModel` with its weights on a device, in float32 or float64, `arranged`."""
        from kokoro import KModel

        config, weights = self._file(CONFIG), self._file(WEIGHTS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of weight_norm and of dropout in LSTMs
                model = KModel(repo_id=self._model, config=str(config), model=str(weights)).eval()
            _complete(model, _load(weights))
        except Exception as error:  # wrong files fail in any of json, torch and kokoro
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UnitcorpusError(
                f"speech.model: {CONFIG} and {WEIGHTS} of '{self._model}' make no model of the "
                f"kokoro package ({what}); use those of hexgrad/Kokoro-82M"
            ) from error
        if double:
            _in_double(model)
        return arranged(model.to(device))

    def pack(self, voice: str) -> torch.Tensor:
        """The styles of a voice: float32 [510, 1, 256], by the number of phonemes less one."""
        import torch

        path = self._voice(voice)
        try:
            pack = _load(path)
        except Exception:  # the unpickler raises anything
            pack = None
        if not isinstance(pack, torch.Tensor) or tuple(pack.shape) != PACK:
            raise UnitcorpusError(
                f"speech.voices: voices/{path.name} of '{self._model}' is no voice of Kokoro, "
                f"which is a tensor of shape {PACK}; fetch or copy it again"
            )
        return pack.float()

    def _file(self, name: str) -> Path:
        try:
            return self._path(name)
        except _OutOfReachError:
            raise UnitcorpusError(
                f"speech.model: {name} of '{self._model}' is not in the Hugging Face cache"
                + self._advice()
            ) from None
        except FileNotFoundError:
            raise UnitcorpusError(f"speech.model: no {name} in '{self._model}'; {LAYOUT}") from None

    def _voice(self, name: str) -> Path:
        try:
            return self._path(f"voices/{name}.pt")
        except _OutOfReachError:
            known = ", ".join(self._cached_voices()) or "none"
            raise UnitcorpusError(
                f"speech.voices: '{name}' of '{self._model}' is not in the Hugging Face cache, "
                f"which has {known}{self._advice()}"
            ) from None
        except FileNotFoundError:
            voices = self._voices()
            raise UnitcorpusError(
                f"speech.voices: '{self._model}' has no voice '{name}'{nearest(name, voices)}; "
                f"there are {', '.join(voices) or 'none'}"
            ) from None

    def _path(self, name: str) -> Path:
        """Raises FileNotFoundError where there is no such file, or none within reach."""
        if self._folder is None:
            return _from_hub(self._model, self._revision, name)
        path = self._folder / name
        if not path.is_file():
            raise FileNotFoundError(name)
        return path

    def _voices(self) -> list[str]:
        if self._folder is not None:
            return sorted(path.stem for path in self._folder.glob("voices/*.pt"))
        from huggingface_hub import list_repo_files

        names = map(Path, list_repo_files(self._model, revision=self._revision))
        return sorted(name.stem for name in names if name.match("voices/*.pt"))

    def _cached_voices(self) -> list[str]:
        return sorted(path.stem for path in self._file(CONFIG).parent.glob("voices/*.pt"))

    def _advice(self) -> str:
        revision = f" --revision {self._revision}" if self._revision else ""
        return (
            f", and the Hub cannot be reached: run `hf download {self._model}{revision}` once with "
            "a network and without HF_HUB_OFFLINE, or let speech.model be a folder"
        )


def arranged(model: Any) -> Any:
    """The model with its parameters stored for speed. Weight norms, which it would compute again in
    every forward, are folded into the weights; on a CPU weights of the generator's convolutions
    are stored channels last, which makes what they pass on channels last, too."""
    import torch
    from torch.nn.utils import remove_weight_norm

    for module in model.modules():
        if hasattr(module, "weight_g"):
            remove_weight_norm(module)
    if model.device.type == "cpu":
        for module in model.decoder.generator.modules():
            if isinstance(module, torch.nn.Conv1d):
                channels_last.arrange(module)
    return model


def _in_double(model: Any) -> None:
    """All of the model in float64, with what it keeps outside of its parameters."""
    import torch

    model.to(torch.float64)
    stft = model.decoder.generator.stft
    stft.window = stft.window.to(torch.float64)


def _load(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _complete(model: Any, weights: dict[str, dict[str, Any]]) -> None:
    """Raise KeyError where `weights` lacks a parameter, which KModel would leave at random.

    The instance norms' own scale and shift may be missing: untrained, they are 1 and 0.
    """
    import torch

    for part, module in model.named_children():
        norms = {
            f"{name}.{parameter}"
            for name, child in module.named_modules()
            if isinstance(child, torch.nn.InstanceNorm1d)
            for parameter in ("weight", "bias")
        }
        there = {name.removeprefix("module.") for name in weights.get(part, {})}
        missing = sorted(module.state_dict().keys() - norms - there)
        if missing:
            raise KeyError(f"{len(missing)} parameters are missing, {part}.{missing[0]} among them")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _OutOfReachError(FileNotFoundError):
    """A file of the Hub that is not in the cache, with no network to fetch it."""


def _from_hub(repo: str, revision: str | None, name: str) -> Path:
    """The cached file. Raises FileNotFoundError, or UnitcorpusError for a wrong repository."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repo, name, revision=revision))
    except LocalEntryNotFoundError:
        raise _OutOfReachError(name) from None
    except RemoteEntryNotFoundError:
        raise FileNotFoundError(name) from None
    except RevisionNotFoundError:
        raise UnitcorpusError(
            f"speech.revision: '{repo}' on the Hugging Face Hub has no revision '{revision}'"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UnitcorpusError(
            f"speech.model: '{repo}' is neither a folder here nor a repository of the Hugging Face "
            "Hub that you can read; correct it, or log in with `hf auth login`"
        ) from None
