"""Kokoro's prosody for a batch: how long each token lasts, and the pitch and energy of its frames.

Invariant: for an item they are the same whatever it is batched with, to the bit. They must be:
what the source module makes of a pitch is not continuous. Phases add up over the whole utterance,
wrap around, and go into convolutions as numbers, so that two pitches which differ in the last bit
of a float32 give waves that differ by a tenth of their peak. Two ways keep the bits:

- item by item, as kokoro itself has it: on a CPU this costs 2 % of a forward;
- together in float64, rounded to the model's dtype: on a GPU, where a batch of one is all launches.
  Rounding errors are then 1e-14, and move the rounded value once in ten million.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

from unitcorpus.speech.kokoro_masks import Ends, Site, packed, padded, prosody_sites, replaced

if TYPE_CHECKING:
    import torch


class Melody(NamedTuple):
    """Prosody of a batch: frames that each token lasts, 0 for padding, int64 [items, tokens]; pitch
    in Hz and energy, [items, 2 * frames]."""

    durations: torch.Tensor
    pitch: torch.Tensor
    energy: torch.Tensor


class Prosody:
    """BERT and predictor of a `KModel` whose weight norms are folded (`kokoro_files`).

    `together` is the dtype of whole batches, None for item by item. The model is left as it was.
    `without` names sites that stay as the package has them: for tests.
    """

    def __init__(self, model: Any, together: torch.dtype | None, without: frozenset[str]) -> None:
        self._dtype = model.bert_encoder.weight.dtype
        self._apart = together is None
        self._within = together or self._dtype
        self._without = without
        parts = model.bert, model.bert_encoder, model.predictor
        same = self._within == self._dtype
        self._parts = parts if same else tuple(deepcopy(part).to(together) for part in parts)

    def __call__(
        self, tokens: Sequence[torch.Tensor], styles: torch.Tensor, speeds: torch.Tensor
    ) -> Melody:
        """The prosody of token ids [tokens] each, in the styles [items, 128], at speeds [items]."""
        if not self._apart:
            return self._melody(tokens, styles, speeds)
        each = [
            self._melody([item], styles[i : i + 1], speeds[i : i + 1])
            for i, item in enumerate(tokens)
        ]
        return Melody(*(padded([row[0] for row in rows]) for rows in zip(*each, strict=True)))

    def _melody(
        self, tokens: Sequence[torch.Tensor], styles: torch.Tensor, speeds: torch.Tensor
    ) -> Melody:
        """As in `KModel.forward_with_tokens`."""
        bert, bert_encoder, predictor = self._parts
        styles, speeds = styles.to(self._within), speeds.to(self._within)
        ids, lengths, padding = padded_tokens(tokens, styles.device)
        with default_dtype(self._within):
            features = bert_encoder(bert(ids, attention_mask=(~padding).int())).mT
            prosody = predictor.text_encoder(features, styles, lengths, padding)
            durations = self._durations(prosody, lengths, speeds).masked_fill(padding, 0)
            with replaced(self._sites(durations, prosody), self._without):
                curves = predictor.F0Ntrain(by_frame(prosody.mT, durations), styles)
        return Melody(durations, *(curve.to(self._dtype) for curve in curves))

    def _sites(self, durations: torch.Tensor, prosody: torch.Tensor) -> list[Site]:
        """None for an item by itself, which then has kokoro's own bits."""
        if len(durations) == 1:
            return []
        ends = Ends(durations.sum(1).tolist(), prosody)
        return list(prosody_sites(self._parts[2], ends, self._without))

    def _durations(
        self, prosody: torch.Tensor, lengths: torch.Tensor, speeds: torch.Tensor
    ) -> torch.Tensor:
        predictor = self._parts[2]
        site = packed("durations", predictor.lstm, lengths.tolist())
        with replaced([site] if len(lengths) > 1 else [], self._without):
            logits = predictor.duration_proj(predictor.lstm(prosody)[0])
        frames: torch.Tensor = logits.sigmoid().sum(-1) / speeds[:, None]
        if not frames.isfinite().all():
            raise RuntimeError("durations that are not finite")
        return frames.round().clamp(min=1).long()


def padded_tokens(
    tokens: Sequence[torch.Tensor], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids int64 [items, tokens], their lengths [items] on the CPU, and True where there is only
    padding [items, tokens]."""
    import torch

    ids = padded(tokens)
    lengths = torch.tensor([len(item) for item in tokens])
    padding = torch.arange(ids.shape[1]) >= lengths[:, None]
    return ids.to(device), lengths, padding.to(device)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Within, new tensors are of `dtype`: kokoro makes some that way, whatever the model's."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def by_frame(x: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
    """`x` [items, channels, tokens], each token for as long as it lasts, in frames [items, tokens]:
    [items, channels, frames]. Past an item's end, one of its tokens."""
    import torch

    ends = durations.cumsum(1)
    frames = torch.arange(int(ends.max()), device=x.device).repeat(len(ends), 1)
    tokens = torch.searchsorted(ends, frames, right=True).clamp(max=x.shape[-1] - 1)
    return x.gather(2, tokens[:, None].expand(-1, x.shape[1], -1))
