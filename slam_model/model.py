"""The network: any causal language model of transformers, over unit tokens.

    model = load_model("Qwen/Qwen2.5-0.5B", vocab=502, context=1024, rope_theta=10_000)
    nll = pack_nll(model, pack)                    # float32 [T], documents apart

TWIST starts from a text model's weights and keeps the first rows of its embeddings; without it, or
from a configuration alone, the weights are random and seeded. A checkpoint of unit tokens is taken
as it is. What `save_pretrained` writes, plain `AutoModelForCausalLM.from_pretrained` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from slam_model.attention import Attention, choose_attention, pack_arguments
from slam_model.base import Base, find_base
from slam_model.packing import IGNORE, Pack
from slam_model.tokens import BOS, EOS, PAD, unit_words
from unitcorpus.errors import UnitcorpusError
from unitcorpus.seeds import seed_of

TOKEN_IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}


def load_model(
    base: str | dict[str, Any],
    *,
    vocab: int,
    context: int,
    twist: bool = True,
    rope_theta: float | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    attention: Attention = "auto",
    gradient_checkpointing: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    unit_spec: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model of a recipe, in evaluation mode, on `device`.

    `base`: slam_model.base. `twist=False` takes its shape alone, `rope_theta=None` keeps the
    base's, `seed` draws what is random. `unit_spec`, that of the data, is kept in the model's
    configuration and saved with it. Raises UnitcorpusError where the base cannot be had, is a
    checkpoint of another vocabulary or of other units, has fewer positions than `context`, or
    cannot keep the documents of a pack apart.
    """
    device = torch.device(device)
    found = find_base(base, revision, from_scratch=not twist)
    _check(found, vocab, context)
    _check_units(found, unit_spec)
    if rope_theta is not None:
        _set_rope(found, rope_theta)
    name = choose_attention(attention, device)
    if found.weights is None:
        model = _from_scratch(found.config, vocab, dtype, seed)
    else:
        model = _with_weights(found, found.weights, revision, dtype)
        if found.config.vocab_size != vocab:
            model.resize_token_embeddings(vocab, mean_resizing=False)
    _reset_tokens(model)
    if unit_spec is not None:
        model.config.unit_spec = dict(unit_spec)
    _check_rope(model, rope_theta)
    model.set_attn_implementation(name)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.to(device).eval()


def load_checkpoint(
    name: str,
    vocabulary: int,
    dtype: str,
    device: str,
    unit_spec: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A model of unit tokens. Raises UnitcorpusError for a text model, another vocabulary, or one
    that was trained on other units than those of `unit_spec`."""
    folder = Path(name) / "model"  # of a training run's checkpoint
    source = str(folder) if (folder / "config.json").is_file() else name
    if not find_base(source, None, from_scratch=False).of_units:
        raise UnitcorpusError(f"{name} is no checkpoint of unit tokens: train one from it first")
    return load_model(
        source,
        vocab=vocabulary,
        context=1,
        dtype=getattr(torch, dtype),
        device=device,
        unit_spec=unit_spec,
    )


def pack_nll(model: nn.Module, pack: Pack) -> torch.Tensor:
    """−log p of each position's next token, 0 where there is none: float32 [T] (or float64).

    `model` may be wrapped by DDP or torch.compile. No document of the pack sees another.
    """
    logits = model(
        input_ids=pack.input_ids[None],
        position_ids=pack.position_ids[None],
        use_cache=False,
        **pack_arguments(model, pack),
    ).logits[0]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(wide, pack.labels, ignore_index=IGNORE, reduction="none")


def _check(base: Base, vocab: int, context: int) -> None:
    config = base.config
    if base.weights and config.vocab_size != vocab and (base.of_units or config.vocab_size < vocab):
        raise UnitcorpusError(
            f"{base.name} has a vocabulary of {config.vocab_size} tokens, the corpus one of "
            f"{vocab}: choose a checkpoint of these units, or a text model"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and context > positions:
        raise UnitcorpusError(
            f"{base.name} has {positions} positions: data.context={context} is longer"
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window < context:
        raise UnitcorpusError(
            f"{base.name} attends to {window} tokens only: data.context={context} is longer"
        )
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        raise UnitcorpusError(
            f"{base.name} has {sorted(kinds)[0]} layers, in which the documents of a batch would "
            "see each other: choose another base"
        )


def _check_units(base: Base, unit_spec: Mapping[str, Any] | None) -> None:
    """A checkpoint's units are those of the data; published checkpoints do not say theirs."""
    before = base.unit_spec if base.weights else None
    if before and unit_spec and before["fingerprint"] != unit_spec["fingerprint"]:
        raise UnitcorpusError(
            f"{base.name} was trained on other units ({unit_words(before)}) than the data's "
            f"({unit_words(unit_spec)}): give data of its units, or another model"
        )


def _set_rope(base: Base, theta: float) -> None:
    """transformers 5 takes theta from `rope_parameters` alone."""
    parameters = getattr(base.config, "rope_parameters", None)
    if not parameters or "rope_theta" not in parameters:
        raise UnitcorpusError(f"{base.name} has no rotary positions: set model.rope_theta=null")
    parameters["rope_theta"] = float(theta)


def _check_rope(model: PreTrainedModel, theta: float | None) -> None:
    """That the loaded model turns by `theta` and not only says so."""
    for module in model.modules():
        if theta is None or getattr(module, "rope_type", None) != "default":
            continue
        frequencies = module.inv_freq.double()
        exponents = torch.arange(len(frequencies), dtype=torch.float64) / len(frequencies)
        assert torch.allclose(frequencies, theta**-exponents, rtol=1e-5), "rope_theta was not taken"


def _from_scratch(
    config: PretrainedConfig, vocab: int, dtype: torch.dtype, seed: int
) -> PreTrainedModel:
    config.update({"vocab_size": vocab, **TOKEN_IDS})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        return _supported(AutoModelForCausalLM.from_config(config, dtype=torch.float32)).to(dtype)


def _with_weights(
    base: Base, source: str, revision: str | None, dtype: torch.dtype
) -> PreTrainedModel:
    """The base's weights, every one of them. Raises UnitcorpusError."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            config=base.config,
            revision=revision,
            dtype=dtype,
            key_mapping={f"^{base.prefix}": ""} if base.prefix else None,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnitcorpusError(f"cannot load the weights of {base.name}: {reason}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UnitcorpusError(
            f"{base.name} is not a whole model: {len(missing)} weights are missing, such as "
            f"{missing[0]}"
        )
    return _supported(model)


def _supported(model: PreTrainedModel) -> PreTrainedModel:
    if not model._supports_attention_backend:
        raise UnitcorpusError(
            f"a model of type {model.config.model_type} cannot keep the documents of a batch "
            "apart: choose another base"
        )
    return model


def _reset_tokens(model: PreTrainedModel) -> None:
    """Our special tokens in place of the text model's, whose ids mean units now.

    A padding index would keep that row's embedding from learning: OPT's is 1, our BOS.
    """
    model.config.update(TOKEN_IDS)
    model.generation_config = GenerationConfig(**TOKEN_IDS)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None
