"""Log-probabilities of the reference model, computed once for a set of pairs and kept.

The file is named by what decides its content: the weights, which pairs of which data, and how the
arithmetic is done. Another beta or learning rate finds it again; anything else makes a new one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from slam_model.pairset import PairSet, completion_logps, pair_packs
from slam_model.process import autocast
from slam_model.recipe import TrainRecipe
from slam_model.tokens import cache_folder
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.format import fingerprint
from unitcorpus.shards.writer import write_atomic


def weights_digest(model: nn.Module) -> str:
    """sha256 over the names, shapes and bytes of a model's weights."""
    found = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@dataclass(frozen=True)
class Reference:
    """The model that a run starts from: the digest of its weights, and `load`, which gives it on
    its device; called only where something must be computed."""

    weights: str
    load: Callable[[], nn.Module]
    recipe: TrainRecipe
    accelerator: Accelerator

    def logps(self, pairs: PairSet) -> Tensor:
        """float32 [pairs, 2]: the log-probabilities of chosen and rejected, kept or computed.

        Raises UnitcorpusError where they must be computed and `load` gives other weights.
        """
        path = cache_folder("reference") / f"{self._key(pairs)[:32]}.npy"
        there = path.exists()
        self.accelerator.wait_for_everyone()
        if there:
            return torch.from_numpy(np.load(path))
        found = self._compute(pairs)
        if self.accelerator.is_main_process:
            content = io.BytesIO()
            np.save(content, found.numpy())
            write_atomic(path, content.getvalue())
        return found

    def _key(self, pairs: PairSet) -> str:
        recipe, device = self.recipe, self.accelerator.device.type
        arithmetic = [recipe.precision, device, recipe.model.attention, recipe.data.micro_tokens]
        return fingerprint([self.weights, pairs.fingerprint, arithmetic])

    @torch.no_grad()
    def _compute(self, pairs: PairSet) -> Tensor:
        model, accelerator = self.load().eval(), self.accelerator
        if weights_digest(model) != self.weights:
            raise UnitcorpusError(
                f"model.base {self.recipe.model.base} is not the model that this run started from, "
                "and its log-probabilities are gone: put it back, or give another --out"
            )
        found = torch.zeros(len(pairs) * 2, device=accelerator.device)
        world, rank = accelerator.num_processes, accelerator.process_index
        for pack in pair_packs(pairs, np.arange(len(pairs)), self.recipe.data)[rank::world]:
            there = pack.to(accelerator.device)
            with autocast(self.recipe, accelerator.device):
                found[there.rows] = completion_logps(model, there, pairs).float()
        whole: Tensor = accelerator.reduce(found, "sum") if world > 1 else found
        return whole.view(-1, 2).cpu()
