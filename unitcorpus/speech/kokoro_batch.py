"""Kokoro's forward for a batch: for each item, what kokoro's own forward gives for it alone.

The modules of the package run as they are on a padded batch, but for the sites of
`kokoro_masks.py`. Invariant: whatever else is in the batch, an item has the durations and the pitch
that it has alone, to the bit (`kokoro_prosody.py` has why), and up to rounding (1e-9 of the peak in
float64, 1e-4 in float32) the wave that `KModel.forward` makes of them right after seeding the
generator with the item's seed. The source module, which draws the noise, therefore runs item by
item, on real steps only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from unitcorpus.speech.kokoro_kernels import PLAIN, Kernels, full_precision
from unitcorpus.speech.kokoro_masks import Ends, Site, decoder_sites, padded, replaced
from unitcorpus.speech.kokoro_prosody import (
    Melody,
    Prosody,
    by_frame,
    default_dtype,
    padded_tokens,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Request:
    """One forward of the model: 1 to 510 phonemes, the style [256] of a voice for that many, and
    the seed of its noise."""

    phonemes: str
    style: torch.Tensor
    speed: float
    seed: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """A waveform [samples], and the frames that each token lasts, int64 [phonemes + 2]."""

    wave: torch.Tensor
    durations: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Score:
    """What the decoder is to play, for each item, padded."""

    sounds: torch.Tensor  # [items, channels, tokens]
    melody: Melody
    styles: torch.Tensor  # [items, 128]
    seeds: list[int]


class BatchedKokoro:
    """A `KModel` on its device, for batches, with its weight norms folded. It changes what the
    model's modules run during a call, so one thread at a time may use the model, and leaves it as
    it was.

    `frames` bounds the padded frames that go through the decoder at a time, where memory goes
    (never less than one item). By default all go at once on a GPU, and one by one on a CPU, whose
    convolutions gain nothing from a batch while memory traffic grows. `together` is the dtype of
    the prosody of whole batches, float64 by default on a GPU; on a CPU, with None, all that comes
    before the decoder goes item by item, too. `kernels` are what runs between the convolutions.
    `without` names sites of `SITES` to leave as the package has them: for tests.
    """

    def __init__(
        self,
        model: Any,
        frames: int | None = None,
        together: torch.dtype | None = None,
        kernels: Kernels = PLAIN,
        without: frozenset[str] = frozenset(),
    ) -> None:
        import torch

        cpu = model.device.type == "cpu"
        self._model = model
        self._dtype = model.bert_encoder.weight.dtype
        self.frames = frames or (1 if cpu else 1 << 40)
        together = together or (None if cpu else torch.float64)
        self._apart = together is None
        self._prosody = Prosody(model, together, without)
        self._kernels = kernels
        self._without = without

    def __call__(self, requests: Sequence[Request]) -> list[Spoken]:
        """What each request sounds like, on the device. Raises RuntimeError where the model
        fails."""
        import torch

        waves: dict[int, torch.Tensor] = {}
        with torch.inference_mode(), default_dtype(self._dtype):
            score = self._score(requests)
            frames = score.melody.durations
            for items in batches(frames.sum(1).tolist(), self.frames):
                waves |= zip(items, self._decode(score, items), strict=True)
            durations = [row[row > 0] for row in frames.cpu()]
        return [Spoken(waves[i], lasting) for i, lasting in enumerate(durations)]

    def _score(self, requests: Sequence[Request]) -> _Score:
        """As in `KModel.forward_with_tokens`, up to the decoder."""
        import torch

        vocabulary, device = self._model.vocab, self._model.device
        known = [[vocabulary[p] for p in r.phonemes if p in vocabulary] for r in requests]
        tokens = [torch.tensor([0, *ids, 0]) for ids in known]
        styles = torch.stack([r.style for r in requests]).to(device, self._dtype)
        of_sound, of_prosody = styles.chunk(2, dim=1)
        speeds = torch.tensor([r.speed for r in requests], dtype=torch.float64, device=device)
        melody = self._prosody(tokens, of_prosody, speeds)
        groups = [[item] for item in tokens] if self._apart else [tokens]
        sounds = padded([item for group in groups for item in self._sounds(group)])
        return _Score(sounds, melody, of_sound, [r.seed for r in requests])

    def _sounds(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        """What the tokens sound like [items, channels, tokens]."""
        sounds: torch.Tensor = self._model.text_encoder(*padded_tokens(tokens, self._model.device))
        return sounds

    def _decode(self, score: _Score, items: list[int]) -> list[torch.Tensor]:
        """The waves of these items."""
        decoder, durations = self._model.decoder, score.melody.durations[items]
        ends = Ends(durations.sum(1).tolist(), score.sounds)
        size = 2 * max(ends.real)
        source = decoder.generator.m_source
        play = partial(_play, source.forward, ends, [score.seeds[i] for i in items])
        sites = decoder_sites(decoder, ends, self._kernels, self._without)
        with replaced([Site("noise", source, "forward", play), *sites], self._without):
            waves = decoder(
                by_frame(score.sounds[items], durations),
                score.melody.pitch[items, :size],
                score.melody.energy[items, :size],
                score.styles[items],
            )[:, 0]
        return [wave[:n] for wave, n in zip(waves, ends.steps(waves.shape[-1]), strict=True)]


def _play(
    own: Any, ends: Ends, seeds: Sequence[int], pitch: torch.Tensor
) -> tuple[torch.Tensor, None, None]:
    """The source's wave [items, samples, 1] for a pitch of that shape, with each item's noise."""
    import torch

    waves = []
    with full_precision(pitch), noise(0, pitch.device):
        for item, n, seed in zip(pitch, ends.steps(pitch.shape[1]), seeds, strict=True):
            torch.manual_seed(seed)
            waves.append(own(item[None, :n])[0][0, :, 0])
    return padded(waves)[:, :, None], None, None


@contextmanager
def noise(seed: int, device: torch.device) -> Iterator[None]:
    """The generators of the CPU and of `device` seeded within, and as they were after."""
    import torch

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indexes of `lengths`, by length, cut where a batch would exceed `budget`, padding included.

    One item alone may exceed it. Equal lengths stay in order.
    """
    cut: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if cut and (len(cut[-1]) + 1) * lengths[i] <= budget:
            cut[-1].append(i)
        else:
            cut.append([i])
    return cut
