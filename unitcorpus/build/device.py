"""The device a worker computes on."""

from __future__ import annotations

from unitcorpus.errors import UnitcorpusError


def choose_device(name: str) -> str:
    """`auto` is CUDA where torch sees one, else the CPU. Raises UnitcorpusError for one that is
    not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UnitcorpusError(f"there is no device '{name}'; give auto, cpu or cuda") from None
    if kind not in ("cpu", "cuda"):
        raise UnitcorpusError(f"device '{name}' is not supported; give auto, cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UnitcorpusError("torch sees no CUDA device here; give --device cpu")
    return name
