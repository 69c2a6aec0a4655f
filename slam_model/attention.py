"""Attention within the documents of a pack, whatever the model family.

Three ways, chosen by device, registered with transformers under the names of NAMES:

    sdpa     scaled dot product attention of one document after the other: causal, no mask, so exact
             and without the T × T work of a mask; what a CPU uses
    varlen   torch's variable-length flash attention: bfloat16 on a GPU of compute capability ≥ 8
    flex     FlexAttention under a block mask: every other GPU

All take grouped-query heads. None gives a query a key of another document: the bounds go from
`pack_arguments` through the model's forward to every layer (models that do not hand them on are
refused when they are loaded).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from slam_model.packing import Pack
from unitcorpus.errors import UnitcorpusError

Attention = Literal["auto", "sdpa", "flex", "varlen"]
NAMES = {"sdpa": "documents_sdpa", "flex": "documents_flex", "varlen": "documents_varlen"}
HALF = (torch.bfloat16, torch.float16)


def choose_attention(attention: Attention, device: torch.device) -> str:
    """The name in transformers of the attention to use on a device. Raises UnitcorpusError."""
    if attention == "auto":
        if device.type != "cuda":
            return NAMES["sdpa"]
        attention = "varlen" if _has_varlen(device) else "flex"
    if attention != "sdpa" and device.type != "cuda":
        raise UnitcorpusError(
            f"model.attention={attention} needs a GPU; here it is {device.type}: use auto or sdpa"
        )
    if attention == "varlen" and not _has_varlen(device):
        raise UnitcorpusError(
            "model.attention=varlen needs torch ≥ 2.11 and a GPU of capability ≥ 8: use auto"
        )
    return NAMES[attention]


def pack_arguments(model: Any, pack: Pack) -> dict[str, Any]:
    """What a model's forward is told of a pack's documents. `model` may be wrapped by DDP or
    torch.compile; it must have been loaded by slam_model.model."""
    name = getattr(model, "module", model).config._attn_implementation
    if name not in NAMES.values():
        raise ValueError(f"a model with attention {name} would mix the documents of a pack")
    return {
        "cu_seq_lens_q": pack.cu_seqlens,
        "cu_seq_lens_k": pack.cu_seqlens,
        "max_length_q": pack.max_length,
        "max_length_k": pack.max_length,
        "attention_mask": _block_mask(pack.document) if name == NAMES["flex"] else None,
    }


def _by_document(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, T, d], key and value [1, key-value heads, T, d] → [1, T, heads, d]."""
    _refuse(sliding_window, max_length_q, other)
    lengths = cu_seq_lens_q.diff().tolist()
    grouped = key.shape[1] != query.shape[1]
    if grouped and query.device.type == "cpu":  # its flash kernel wants as many heads
        repeats = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        grouped = False
    documents = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        ).transpose(1, 2)
        for q, k, v in zip(*(torch.split(x, lengths, 2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(documents, dim=1), None


def _varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """As _by_document; the kernel takes half precision only, so float32 goes the exact way."""
    if value.dtype not in HALF or dropout:
        return _by_document(
            module,
            query,
            key,
            value,
            None,
            cu_seq_lens_q=cu_seq_lens_q,
            max_length_q=max_length_q,
            scaling=scaling,
            dropout=dropout,
            sliding_window=sliding_window,
            **other,
        )
    from torch.nn.attention.varlen import varlen_attn

    _refuse(sliding_window, max_length_q, other)
    # Under autocast rotary embeddings leave query and key in float32.
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    bounds, longest = cu_seq_lens_q, max_length_q
    causal = (-1, 0)
    out: Any = varlen_attn(
        q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=causal
    )
    return out[None], None


def _flex(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """As _by_document, under the block mask of the pack."""
    _refuse(sliding_window, max_length_q, other)
    if dropout:
        raise UnitcorpusError("FlexAttention has no attention dropout: use model.attention=sdpa")
    out = _compiled_flex()(
        query.to(value.dtype),
        key.to(value.dtype),
        value,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out.transpose(1, 2).contiguous(), None


def _refuse(sliding_window: int | None, longest: int, other: dict[str, Any]) -> None:
    """Raises UnitcorpusError for what a model asks of its attention and these do not do."""
    unknown = [
        name for name in ("softcap", "s_aux", "position_bias") if other.get(name) is not None
    ]
    if sliding_window is not None and sliding_window < longest:
        unknown.append(f"a sliding window of {sliding_window} tokens")
    if unknown:
        raise UnitcorpusError(f"the base model's attention has {unknown[0]}: choose another base")


def _block_mask(document: torch.Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def causal_within(_b: Any, _h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (q >= k) & (document[q] == document[k])

    length = len(document)
    return create_block_mask(
        causal_within, None, None, length, length, device=document.device, _compile=True
    )


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _has_varlen(device: torch.device) -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    from inspect import signature

    causal = "window_size" in signature(varlen_attn).parameters
    return causal and torch.cuda.get_device_capability(device) >= (8, 0)


AttentionInterface.register(NAMES["sdpa"], _by_document)
AttentionInterface.register(NAMES["varlen"], _varlen)
AttentionInterface.register(NAMES["flex"], _flex)
