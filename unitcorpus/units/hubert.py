"""HuBERT features: one hidden layer of a transformers HuBERT.

Layer n is the output of the n-th transformer layer, `hidden_states[n]`; the layers above it are
neither loaded nor run, and the final layer norm of a stable-layer-norm model is not applied (as
fairseq, which published units come from, has it). The waveform goes in as it is: the field's unit
pipelines for these models feed raw audio, whatever `do_normalize` in a preprocessor_config.json
says. Batches are exact (see `hubert_batch`), but for rounding.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitcorpus import channels_last
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import HubertUnits, is_local
from unitcorpus.units import hubert_batch
from unitcorpus.units.base import count_frames
from unitcorpus.units.hubert_batch import forward_batch, plan_batches

if TYPE_CHECKING:
    import torch

WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin*")
UNUSED = ("masked_spec_embed", "num_batches_tracked")
"""Weights that only training reads; a checkpoint may lack them."""


class HubertExtractor:
    """One layer of a HuBERT, loaded on a device.

    `features` gives float32 [frames, hidden size] on that device; frames is what the convolutions
    give for the waveform with `input_padding` zeros on each side. Waveforms go through the model
    in batches of at most `batch_seconds`, padding counted; a longer one goes alone, and on a CPU
    all do. What is not finite, as half precision may make it, stays so.
    """

    batch_seconds: float = 0

    def __init__(self, section: HubertUnits, resolved: dict[str, Any], device: str) -> None:
        import torch

        self.sample_rate = section.sample_rate
        self.width = int(resolved["width"])
        self._padding = section.input_padding
        self._frames = resolved["frames"]
        self._device = torch.device(device)
        self._dtype = getattr(torch, section.precision)
        model = _load_model(section, str(resolved["revision"]))
        self._model = model.to(self._device, self._dtype)
        _fold_weight_norm(self._model)
        if self._device.type == "cpu":
            _arrange(self._model)

    @staticmethod
    def resolve(section: HubertUnits) -> dict[str, Any]:
        """The extractor's part of the unit spec, from config.json; raises UnitcorpusError."""
        path = _config_path(section, section.revision)
        config = _read_config(path, section.model)
        if section.layer > config.num_hidden_layers:
            raise UnitcorpusError(
                f"units.layer {section.layer}: {section.model} has {config.num_hidden_layers} "
                f"layers; choose one of 1 to {config.num_hidden_layers}"
            )
        convolutions = zip(config.conv_kernel, config.conv_stride, strict=True)
        precision = {} if section.precision == "float32" else {"precision": section.precision}
        local = is_local(section.model)
        return {
            "kind": "hubert",
            "model": path.parent.name if local else section.model,
            "revision": _folder_revision(path.parent) if local else path.parent.name,
            "layer": section.layer,
            "sample_rate": section.sample_rate,
            "width": int(config.hidden_size),
            "frame_rate": section.sample_rate / math.prod(config.conv_stride),
            "frames": {
                "padding": section.input_padding,
                "convolutions": [[int(kernel), int(stride)] for kernel, stride in convolutions],
            },
            **precision,
        }

    def features(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float32 waveforms [samples] at `sample_rate` to float32 [frames, width] each."""
        import torch

        found = [torch.empty(0, self.width, device=self._device) for _ in waves]
        long = [i for i, wave in enumerate(waves) if count_frames(len(wave), self._frames)]
        with torch.inference_mode():
            padded = [self._pad(waves[i]) for i in long]
            for i, states in zip(long, self._forward(padded), strict=True):
                found[i] = states.float()
        return found

    def _pad(self, wave: torch.Tensor) -> torch.Tensor:
        import torch

        wave = wave.to(self._device, self._dtype)
        return torch.nn.functional.pad(wave, (self._padding, self._padding))

    def _forward(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Waveforms as the model takes them, each of at least one frame, to hidden states."""
        found: dict[int, torch.Tensor] = {}
        alone = hubert_batch.one_at_a_time(self._device)
        budget = 0 if alone else int(self.batch_seconds * self.sample_rate)
        for batch in plan_batches([len(wave) for wave in waves], budget):
            states = forward_batch(self._model, [waves[i] for i in batch])
            found.update(zip(batch, states, strict=True))
        return [found[i] for i in range(len(waves))]


def _load_model(section: HubertUnits, revision: str) -> Any:
    """The model up to and with the layer, in evaluation mode on the CPU.

    Raises UnitcorpusError where the checkpoint does not hold all its weights: transformers would
    fill them in at random.
    """
    import torch
    from transformers import HubertModel

    commit = None if is_local(section.model) else revision
    path = _config_path(section, commit)
    config = _read_config(path, section.model)
    config.num_hidden_layers = section.layer
    # Else transformers asks the Hub, in the background, to convert each .bin checkpoint it loads.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")
    try:
        with _quiet():
            model, report = HubertModel.from_pretrained(
                path.parent if commit is None else section.model,
                revision=commit,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
    except Exception as error:  # a damaged file may raise anything
        raise UnitcorpusError(
            f"units.model {section.model}: its weights cannot be loaded ({_first_line(error)})"
        ) from error
    _check_complete(report, section.model)
    if config.do_stable_layer_norm:
        model.encoder.layer_norm = torch.nn.Identity()
    return model.eval()


def _arrange(model: Any) -> None:
    """Convolutions with channels last, but for the first, which has one channel."""
    convolutions = [layer.conv for layer in model.feature_extractor.conv_layers[1:]]
    for module in (*convolutions, model.encoder.pos_conv_embed.conv):
        channels_last.arrange(module)
        module.forward = partial(channels_last.convolve, module)


def _fold_weight_norm(model: Any) -> None:
    """Plain weights for the positional convolution, which else makes them anew in every forward;
    the same to the bit."""
    from torch.nn.utils import parametrize

    convolution = model.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")


def _check_complete(report: dict[str, Any], name: str) -> None:
    wrong = {str(key[0]) for key in report["mismatched_keys"]}
    lacking = wrong | {key for key in report["missing_keys"] if not key.endswith(UNUSED)}
    if lacking:
        raise UnitcorpusError(
            f"units.model {name}: {len(lacking)} weights are missing or of another shape than "
            f"config.json says, such as {min(lacking)}; the checkpoint is incomplete"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no load report of transformers; the caller's settings come back."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


# --- config and revision ----------------------------------------------------------------------


def _config_path(section: HubertUnits, revision: str | None) -> Path:
    """config.json in the folder, or in the Hub cache's snapshot, which is named by its commit."""
    if is_local(section.model):
        path = Path(section.model.removeprefix("file://")).expanduser() / "config.json"
        if not path.is_file():
            raise UnitcorpusError(f"units.model {section.model}: there is no config.json in it")
        return path.absolute()
    from huggingface_hub import hf_hub_download

    try:
        with _quiet():
            return Path(hf_hub_download(section.model, "config.json", revision=revision))
    except (OSError, ValueError) as error:
        raise UnitcorpusError(
            f"units.model {section.model} (revision {revision or 'main'}) cannot be had from the "
            f"Hugging Face Hub ({type(error).__name__}); check the name, download it while online, "
            "or give a folder"
        ) from error


def _read_config(path: Path, name: str) -> Any:
    from transformers import HubertConfig

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kind = data.get("model_type")
        config = HubertConfig.from_dict(data) if kind == "hubert" else None
    except Exception as error:  # transformers' own checks of a config, too
        raise UnitcorpusError(
            f"units.model {name}: its config.json is damaged ({_first_line(error)})"
        ) from error
    if config is None:
        raise UnitcorpusError(
            f"units.model {name} is a {kind} model; the extractor hubert needs model_type 'hubert'"
        )
    return config


def _folder_revision(folder: Path) -> str:
    """sha256 over config.json and the weight files of a folder: their names, sizes, contents."""
    weights = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    if not weights:
        raise UnitcorpusError(
            f"units.model {folder}: there are no weights in it, neither model.safetensors nor "
            "pytorch_model.bin"
        )
    total = sha256()
    for path in (folder / "config.json", *weights):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            while block := file.read(1 << 20):
                total.update(block)
    return f"sha256:{total.hexdigest()}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
