"""Kokoro's forward for a batch: for each item, what kokoro's own forward gives for it alone.

The modules of the package run as they are on a padded batch, but for the sites of
`kokoro_masks.py`. Invariant: whatever else is in the batch, an item has the durations and, up to
rounding, the wave that `KModel.forward` gives right after seeding the generator with its seed.
The source module, which draws the noise, therefore runs item by item, on real steps only.

How far is "up to rounding": in float64, 1e-9 of the peak. In float32 the pitch agrees to 1e-5, and
from the same pitch the wave does, too. But what kokoro makes of a pitch is not continuous: phases
add up, wrap around, and go into convolutions as numbers. So two computations in float32 differ by a
tenth of the wave: ours from kokoro's about as much as kokoro's from its own in
float64 (with random weights, where this was measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from unitcorpus.speech.kokoro_masks import (
    Ends,
    Site,
    decoder_sites,
    packed,
    padded,
    prosody_sites,
    replaced,
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
    durations: torch.Tensor  # of the tokens, in frames, 0 for padding: int64 [items, tokens]
    pitch: torch.Tensor  # in Hz [items, 2 * frames]
    energy: torch.Tensor  # [items, 2 * frames]
    styles: torch.Tensor  # [items, 128]
    seeds: list[int]


class BatchedKokoro:
    """A `KModel` on its device, for batches. It changes what the model's modules run during a call,
    so one thread at a time may use the model, and leaves it as it was.

    `frames` bounds the padded frames that go through the decoder at a time, where memory goes
    (never less than one item). By default all go at once on a GPU, and one by one on a CPU, whose
    convolutions gain nothing from a batch while memory traffic grows. `without` names sites of
    `SITES` to leave as the package has them: for tests.
    """

    def __init__(
        self, model: Any, frames: int | None = None, without: frozenset[str] = frozenset()
    ) -> None:
        self._model = model
        self._without = without
        self._frames = frames or (1 if model.device.type == "cpu" else 1 << 40)

    def __call__(self, requests: Sequence[Request]) -> list[Spoken]:
        """What each request sounds like, on the CPU. Raises RuntimeError where the model fails."""
        import torch

        waves: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            score = self._score(requests)
            for items in batches(score.durations.sum(1).tolist(), self._frames):
                waves |= zip(items, self._decode(score, items), strict=True)
            durations = [row[row > 0] for row in score.durations.cpu()]
        return [Spoken(waves[i], lasting) for i, lasting in enumerate(durations)]

    def _score(self, requests: Sequence[Request]) -> _Score:
        """As in `KModel.forward_with_tokens`, up to the decoder."""
        import torch

        model = self._model
        known = [[model.vocab[p] for p in r.phonemes if p in model.vocab] for r in requests]
        tokens = padded([torch.tensor([0, *ids, 0]) for ids in known]).to(model.device)
        lengths = torch.tensor([len(ids) + 2 for ids in known])
        padding = (torch.arange(tokens.shape[1]) >= lengths[:, None]).to(model.device)
        styles = torch.stack([r.style for r in requests]).to(model.device)
        of_sound, of_prosody = styles.chunk(2, dim=1)
        features = model.bert_encoder(model.bert(tokens, attention_mask=(~padding).int())).mT
        prosody = model.predictor.text_encoder(features, of_prosody, lengths, padding)
        speeds = torch.tensor([[r.speed] for r in requests]).to(prosody)
        durations = self._durations(prosody, lengths, speeds).masked_fill(padding, 0)
        pitch, energy = self._curves(prosody.mT, durations, of_prosody)
        sounds = model.text_encoder(tokens, lengths, padding)
        return _Score(sounds, durations, pitch, energy, of_sound, [r.seed for r in requests])

    def _durations(
        self, prosody: torch.Tensor, lengths: torch.Tensor, speeds: torch.Tensor
    ) -> torch.Tensor:
        predictor = self._model.predictor
        site = packed("durations", predictor.lstm, lengths.tolist())
        with replaced([site], self._without):
            logits = predictor.duration_proj(predictor.lstm(prosody)[0])
        frames: torch.Tensor = logits.sigmoid().sum(-1) / speeds
        if not frames.isfinite().all():
            raise RuntimeError("durations that are not finite")
        return frames.round().clamp(min=1).long()

    def _curves(
        self, prosody: torch.Tensor, durations: torch.Tensor, styles: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        predictor = self._model.predictor
        ends = Ends(durations.sum(1).tolist(), prosody)
        with replaced(prosody_sites(predictor, ends, self._without), self._without):
            pitch, energy = predictor.F0Ntrain(by_frame(prosody, durations), styles)
        return pitch, energy

    def _decode(self, score: _Score, items: list[int]) -> list[torch.Tensor]:
        """The waves of these items."""
        decoder, durations = self._model.decoder, score.durations[items]
        ends = Ends(durations.sum(1).tolist(), score.sounds)
        size = 2 * max(ends.real)
        source = decoder.generator.m_source
        play = partial(_play, source.forward, ends, [score.seeds[i] for i in items])
        sites = decoder_sites(decoder, ends, self._without)
        with replaced([Site("noise", source, "forward", play), *sites], self._without):
            waves = decoder(
                by_frame(score.sounds[items], durations),
                score.pitch[items, :size],
                score.energy[items, :size],
                score.styles[items],
            )[:, 0].cpu()
        return [wave[:n] for wave, n in zip(waves, ends.steps(waves.shape[-1]), strict=True)]


def _play(
    own: Any, ends: Ends, seeds: Sequence[int], pitch: torch.Tensor
) -> tuple[torch.Tensor, None, None]:
    """The source's wave [items, samples, 1] for a pitch of that shape, with each item's noise."""
    waves = []
    for item, n, seed in zip(pitch, ends.steps(pitch.shape[1]), seeds, strict=True):
        with noise(seed, pitch.device):
            waves.append(own(item[None, :n])[0][0, :, 0])
    return padded(waves)[:, :, None], None, None


@contextmanager
def noise(seed: int, device: torch.device) -> Iterator[None]:
    """The generators of the CPU and of `device` seeded within, and as they were after."""
    import torch

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def by_frame(x: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
    """`x` [items, channels, tokens], each token for as long as it lasts, in frames [items, tokens]:
    [items, channels, frames]. Past an item's end, one of its tokens."""
    import torch

    ends = durations.cumsum(1)
    frames = torch.arange(int(ends.max()), device=x.device).repeat(len(ends), 1)
    tokens = torch.searchsorted(ends, frames, right=True).clamp(max=x.shape[-1] - 1)
    return x.gather(2, tokens[:, None].expand(-1, x.shape[1], -1))


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
