"""What a recipe's `model.base` names, found out without loading any weights.

A Hub name, a folder with weights, a configuration (a .json file or an inline dict), or a published
checkpoint of unit tokens, whose network is wrapped. `configurations.json` holds the configurations
of the paper's base models, so that training one from scratch needs no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from slam_model.tokens import BOS, EOS, PAD
from unitcorpus.errors import UnitcorpusError, nearest

WRAPPED = "speech_language_model"
"""The model type of published checkpoints: weights under `lm.`, the network's configuration in
`base_config`."""

MOBILELLM = "mobilellm"
"""MobileLLM has no class of its own in transformers; its network is Llama's."""


@dataclass(frozen=True)
class Base:
    """`weights` is what to load the weights from, or None where they are to be random; `prefix`
    stands before each weight's name; `of_units` says whether its tokens are units already, and
    `unit_spec` which, where that was recorded (slam_model.model puts it into config.json)."""

    name: str
    config: PretrainedConfig
    weights: str | None
    prefix: str
    of_units: bool
    unit_spec: dict[str, Any] | None


def shipped() -> dict[str, dict[str, Any]]:
    """The configurations of the paper's nine base models, by their Hub names."""
    text = files("slam_model").joinpath("configurations.json").read_text("utf-8")
    return dict(json.loads(text))


def find_base(base: str | dict[str, Any], revision: str | None, from_scratch: bool) -> Base:
    """Raises UnitcorpusError where there is no such model or it has no weights to start from."""
    if isinstance(base, dict):
        return _base("the model of the recipe", base, None)
    path = Path(base).expanduser()
    if path.suffix == ".json":
        return _base(base, _read_json(path), None)
    if path.is_dir():
        if not from_scratch and not _has_weights(path):
            raise UnitcorpusError(
                f"{base} has a configuration but no weights: set model.twist=false to train from "
                "scratch"
            )
        return _base(base, _read_json(path / "config.json"), None if from_scratch else str(path))
    if from_scratch and base in shipped():
        return _base(base, shipped()[base], None)
    return _base(base, _from_hub(base, revision), None if from_scratch else base)


def _base(name: str, raw: dict[str, Any], weights: str | None) -> Base:
    kind, prefix = raw.get("model_type"), ""
    of_units = [raw.get(f"{token}_token_id") for token in ("pad", "bos", "eos")] == [PAD, BOS, EOS]
    if kind == WRAPPED:
        raw = {**raw["base_config"], "vocab_size": raw["vocab_size"]}
        kind, prefix, of_units = raw.get("model_type"), "lm.", True
    if kind == MOBILELLM and not raw.get("layer_sharing"):
        raw = {**raw, "tie_word_embeddings": raw.get("share_embedding", True)}
        kind = "llama"
    if kind not in CONFIG_MAPPING:
        known = nearest(str(kind), CONFIG_MAPPING)
        raise UnitcorpusError(f"{name}: transformers has no model of type '{kind}'{known}")
    unwanted = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype")
    config = CONFIG_MAPPING[kind](**{k: v for k, v in raw.items() if k not in unwanted})
    return Base(name, config, weights, prefix, of_units, raw.get("unit_spec"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UnitcorpusError(f"there is no {path}: model.base must be a model") from None
    except (OSError, ValueError, TypeError) as error:
        raise UnitcorpusError(f"cannot read the configuration {path}: {error}") from None


def _has_weights(folder: Path) -> bool:
    return any(True for pattern in ("*.safetensors", "*.bin") for _ in folder.glob(pattern))


def _from_hub(name: str, revision: str | None) -> dict[str, Any]:
    try:
        raw, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        close = nearest(name, shipped())
        raise UnitcorpusError(f"cannot find the model {name}{close}: {reason}") from None
    return dict(raw)
