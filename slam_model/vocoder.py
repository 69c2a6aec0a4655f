"""Units to speech: a unit HiFi-GAN in fairseq's CodeHiFiGAN layout, with its duration predictor.

    vocoder = load_vocoder("models/hifigan_lj_mhubert_base_25hz")
    wave = vocoder(units)                   # float32 [samples] at vocoder.sample_rate

The folder holds NAME.pt and NAME_config.json (or config.json) as they are published, e.g.
hifigan_lj_mhubert_base_25hz.pt for the mHuBERT units at 25 Hz, beside their codebook at
https://dl.fbaipublicfiles.com/textless_nlp/twist/speech_tokenizer/. A unit's embedding is repeated
for each of its frames; the generator is transformers' `SpeechT5HifiGan`, under other names. One
sequence is spoken at a time, so that nothing is padded and no sample depends on another. No code of
a checkpoint is run.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import nn
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from unitcorpus.errors import UnitcorpusError

SHAPE = (
    "model_in_dim",
    "upsample_initial_channel",
    "upsample_rates",
    "upsample_kernel_sizes",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)
"""What the generator's configuration calls as transformers does."""

CONDITIONS = ("multispkr", "embedder_params", "f0", "num_f0_tokens", "num_style_tokens")
"""Keys of vocoders that want more than units: a speaker, a pitch or a style."""


class DurationPredictor(nn.Module):
    """log(1 + frames) of each unit, from its embedding and its neighbours': FastSpeech 2's variance
    predictor (Ren et al. 2021), as fairseq has it. float [1, units, width] → [1, units]."""

    def __init__(self, encoder_embed_dim: int, hidden: int, kernel: int) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv1 = nn.Sequential(
            nn.Conv1d(encoder_embed_dim, hidden, kernel, padding=padding), nn.ReLU()
        )
        self.ln1 = nn.LayerNorm(hidden)
        self.conv2 = nn.Sequential(nn.Conv1d(hidden, hidden, kernel, padding=padding), nn.ReLU())
        self.ln2 = nn.LayerNorm(hidden)
        self.proj = nn.Linear(hidden, 1)

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        x = self.ln1(self.conv1(embedded.transpose(1, 2)).transpose(1, 2))
        x = self.ln2(self.conv2(x.transpose(1, 2)).transpose(1, 2))
        found: torch.Tensor = self.proj(x).squeeze(2)
        return found


class UnitVocoder(nn.Module):
    """`size` units, spoken at `sample_rate` Hz. Modules have the checkpoint's names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.sample_rate = int(config["sampling_rate"])
        self.size = int(config["num_embeddings"])
        self.dict = nn.Embedding(self.size, config["embedding_dim"])
        durations = config.get("dur_predictor_params")
        self.dur_predictor = durations and DurationPredictor(
            durations["encoder_embed_dim"],
            durations["var_pred_hidden_dim"],
            durations["var_pred_kernel_size"],
        )
        shape = {name: config[name] for name in SHAPE}
        self.generator = SpeechT5HifiGan(SpeechT5HifiGanConfig(**shape, normalize_before=False))

    @torch.inference_mode()
    def forward(
        self, units: NDArray[np.integer], durations: NDArray[np.integer] | None = None
    ) -> torch.Tensor:
        """Collapsed units [n] as a waveform float32 [samples], on the vocoder's device.

        `durations` [n] are the frames of each unit, predicted where they are not given. No units
        are no samples. Raises UnitcorpusError for a unit that the vocoder has not.
        """
        device = self.dict.weight.device
        if not len(units):
            return torch.zeros(0, device=device)
        if int(units.max()) >= self.size:
            raise UnitcorpusError(
                f"unit {units.max()} for a vocoder of {self.size} units: it is for other units"
            )
        embedded = self.dict(torch.from_numpy(units.astype(np.int64)).to(device))
        if durations is None:
            frames = self.frames(embedded)
        else:
            frames = torch.from_numpy(durations.astype(np.int64)).to(device)
        wave: torch.Tensor = self.generator(embedded.repeat_interleave(frames, dim=0))
        return wave

    def frames(self, embedded: torch.Tensor) -> torch.Tensor:
        """The predicted frames of units, from embeddings [n, width]: int64 [n], each at least 1."""
        if self.dur_predictor is None:
            raise UnitcorpusError("this vocoder predicts no durations: they must be given")
        logs: torch.Tensor = self.dur_predictor(embedded[None])[0]
        return (logs.exp() - 1).round().long().clamp(min=1)


def load_vocoder(folder: str | Path, device: torch.device | str = "cpu") -> UnitVocoder:
    """The vocoder in a folder, or of a .pt file. Raises UnitcorpusError."""
    path = _checkpoint(Path(folder).expanduser())
    config = _read_config(path)
    wanted = [name for name in CONDITIONS if config.get(name)]
    if wanted:
        raise UnitcorpusError(f"{path} is no vocoder of units alone: its config asks {wanted[0]}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        vocoder = UnitVocoder(config)
        vocoder.load_state_dict(_renamed(saved["generator"], config))
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError) as error:
        raise UnitcorpusError(f"cannot read the vocoder {path}: {_one_line(error)}") from error
    except (KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise UnitcorpusError(
            f"{path} is no CodeHiFiGAN checkpoint with its config: {type(error).__name__} "
            f"{_one_line(error)}"
        ) from error
    return vocoder.to(device).eval()


def _checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.pt"))
    if len(found) != 1:
        raise UnitcorpusError(
            f"{path} holds {len(found)} .pt files: a vocoder is a folder with NAME.pt and "
            "NAME_config.json"
        )
    return found[0]


def _read_config(checkpoint: Path) -> dict[str, Any]:
    names = (f"{checkpoint.stem}_config.json", "config.json")
    found = [path for path in map(checkpoint.with_name, names) if path.is_file()]
    if not found:
        raise UnitcorpusError(f"there is no {names[0]} beside {checkpoint}")
    try:
        return dict(json.loads(found[0].read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise UnitcorpusError(f"cannot read {found[0]}: {error}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _renamed(weights: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint's weights by our names, weight normalisation undone."""
    own = ("dict.", "dur_predictor.")
    found: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if name.endswith("weight_v"):
            continue
        if name.endswith("weight_g"):
            name = name.removesuffix("_g")
            value = torch._weight_norm(weights[f"{name}_v"], value, 0)
        if not name.startswith(own):
            name = "generator." + name.replace("ups.", "upsampler.", 1)
        found[name] = value.float()
    width = config["model_in_dim"]  # of the normalisation that is not applied
    return {
        "generator.mean": torch.zeros(width),
        "generator.scale": torch.ones(width),
        **found,
    }
