"""What CUDA graphs would gain, for the benchmarks on a GPU: the same work, launched and replayed.

A graph fixes every shape, so a build would need one for each bucket of lengths, filled up with
padding. Here a bucket is full: that is the most that a graph can gain there. Of Kokoro the decoder
is recorded, from the source's spectrum to the one that the inverse STFT takes: what draws noise
and what asks the GPU for a value cannot be in a graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from unitcorpus.speech.kokoro_kernels import PLAIN
from unitcorpus.speech.kokoro_masks import Ends, Site, decoder_sites, replaced

BUCKETS = ((1, 2), (16, 4), (64, 4))
"""Utterances, and seconds of each."""

Run = Callable[[], torch.Tensor]


def graphs(model: Any, what: Callable[[Any, int, int], Any], repeats: int = 9) -> Iterator[str]:
    """A line for each bucket; `what` is `kokoro` or `hubert`."""
    for items, seconds in BUCKETS:
        with torch.inference_mode(), what(model, items, seconds) as run:
            yield f"  {items} × {seconds} s: {_compare(run, repeats)}"


@contextmanager
def kokoro(model: Any, items: int, seconds: int) -> Iterator[Run]:
    """The decoder of a `KModel` on a batch without padding, its source given."""
    decoder, device, frames = model.decoder, model.device, 40 * seconds
    generator, width = decoder.generator, decoder.asr_res[0].in_channels
    sounds = torch.randn(items, width, frames, device=device)
    pitch = torch.full((items, 2 * frames), 150.0, device=device)
    styles = 0.3 * torch.randn(items, 128, device=device)
    source = generator.m_source(generator.f0_upsamp(pitch[:, None]).mT)
    spectrum = generator.stft.transform(source[0][..., 0])
    sites = [
        Site("source", generator.m_source, "forward", lambda pitch: source),
        Site("transform", generator.stft, "transform", lambda wave: spectrum),
        Site("inverse", generator.stft, "inverse", lambda magnitude, angle: magnitude * angle),
        *decoder_sites(decoder, Ends([frames] * items, sounds), PLAIN, frozenset()),
    ]
    with replaced(sites, frozenset({"stft", "istft"})):
        yield lambda: decoder(sounds, pitch, torch.zeros_like(pitch), styles)


@contextmanager
def hubert(model: Any, items: int, seconds: int) -> Iterator[Run]:
    """A `HubertModel` on a batch without padding."""
    waves = torch.randn(items, 16_000 * seconds, device=model.device, dtype=model.dtype) / 10
    yield lambda: model(waves).last_hidden_state


def _compare(run: Run, repeats: int) -> str:
    launched = _milliseconds(run, repeats)
    try:
        replay = _record(run)
    except RuntimeError as error:
        return f"{launched:.1f} ms launched; no graph of it ({str(error).splitlines()[0]})"
    replayed = _milliseconds(replay, repeats)
    return f"{launched:.1f} ms launched, {replayed:.1f} ms as a graph ({launched / replayed:.2f} ×)"


def _record(run: Run) -> Callable[[], object]:
    """`run` as a graph, to be replayed; warm first, on a stream of its own, as torch wants it."""
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _milliseconds(run: Callable[[], object], repeats: int) -> float:
    run()
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    return median(taken)
