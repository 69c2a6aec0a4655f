"""Running out of memory: how it shows, and what to do before the next attempt."""

from __future__ import annotations

import gc

from unitcorpus.errors import NO_MEMORY


def out_of_memory(error: BaseException) -> bool:
    """Whether a batch was too large: of the host, or of a device."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)


def release() -> None:
    """Hand back what a failed batch held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
