"""What batching Kokoro gains: `python tests/bench/speech.py`, with `--small` for a quick look,
`--device cuda` where there is one.

A model of Kokoro-82M's size with random weights speaks the same sentences in kokoro's own loop and
in this package's batches. Ways to speak take turns; a figure is the median of the repeats, with the
smallest and the largest. On a CPU seconds are those of the process, which has one thread: other
processes then weigh less.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoints import KOKORO_VOICES, make_kokoro

from unitcorpus.build.stages import set_numerics
from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.sources.base import Row
from unitcorpus.sources.stories import StoryRows
from unitcorpus.speech.kokoro_batch import BatchedKokoro, Request, batches, noise
from unitcorpus.speech.kokoro_files import Checkpoint
from unitcorpus.speech.phonemes import Phonemizer

RATE = 24_000
Waves = list[torch.Tensor]


@dataclass
class Way:
    """One way to speak, and what was measured of it."""

    name: str
    run: Callable[[], Waves]
    batches: list[list[int]]
    speeds: list[float] = field(default_factory=list)


# --- ways to speak ----------------------------------------------------------------------------


def ways(model: Any, requests: Sequence[Request], settings: argparse.Namespace) -> Iterator[Way]:
    """The reference first: kokoro's own forward, one sentence at a time."""
    yield Way("kokoro, one at a time", lambda: loop(model, requests), [])
    speak = BatchedKokoro(model, settings.frames)
    lengths = [len(request.phonemes) for request in requests]
    for budget in settings.budgets:
        cut = batches(lengths, budget)
        run = in_batches(speak, requests, cut)
        yield Way(f"ours, at most {budget} phonemes padded", run, cut)


def loop(model: Any, requests: Sequence[Request]) -> Waves:
    waves = []
    with torch.inference_mode():
        for request in requests:
            with noise(request.seed, model.device):
                waves.append(model(request.phonemes, request.style[None], request.speed))
    return waves


def in_batches(
    speak: BatchedKokoro, requests: Sequence[Request], cut: list[list[int]]
) -> Callable[[], Waves]:
    def run() -> Waves:
        found: dict[int, torch.Tensor] = {}
        for batch in cut:
            spoken = speak([requests[i] for i in batch])
            found |= {i: each.wave for i, each in zip(batch, spoken, strict=True)}
        return [found[i] for i in range(len(requests))]

    return run


# --- measuring --------------------------------------------------------------------------------


def measure(found: list[Way], settings: argparse.Namespace) -> float:
    """Fills in the speeds of every way; returns the seconds of speech."""
    expected = [len(wave) for wave in found[0].run()]
    for way in found[1:]:
        spoken = [len(wave) for wave in way.run()]
        assert spoken == expected, f"{way.name}: other durations than kokoro's"
    for _ in range(settings.repeats):
        for way in found:
            way.speeds.append(sum(expected) / RATE / seconds(way, settings.device))
    return sum(expected) / RATE


def seconds(way: Way, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    way.run()  # returns waves on the CPU: what a GPU does is done
    return clock() - start


# --- what is spoken ---------------------------------------------------------------------------


def sentences(folder: Path, vocabulary: dict[str, int], count: int) -> list[Request]:
    """The first sentences of built-in stories, in all voices of the checkpoint in turn."""
    phonemize = Phonemizer("a", "espeak", vocabulary)
    rows = StoryRows(StoriesSource(count=count), 0).rows()
    texts = [s for row in rows if isinstance(row, Row) for s in row.text.split(". ")][:count]
    pieces = [piece.phonemes for text in texts for piece in phonemize(text)]
    packs = [Checkpoint(str(folder), None).pack(voice) for voice in KOKORO_VOICES]
    return [
        Request(phonemes, packs[i % len(packs)][len(phonemes) - 1, 0], 1.0, seed=i)
        for i, phonemes in enumerate(pieces)
    ]


# --- the table --------------------------------------------------------------------------------


def report(found: list[Way], requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Prints the table; returns it."""
    print(f"{'':<38}{'audio s / s':>24}{'× kokoro':>18}{'in a batch':>12}{'filled':>8}")
    rows = []
    for way in found:
        ratios = [a / b for a, b in zip(way.speeds, found[0].speeds, strict=True)]
        size, share = (
            (len(requests) / len(way.batches), fill(way, requests)) if way.batches else (1, 1)
        )
        print(
            f"{way.name:<38}{spread(way.speeds):>24}{spread(ratios):>18}{size:>12.1f}{share:>8.1%}"
        )
        figures = {"speed": median(way.speeds), "ratio": median(ratios), "speeds": way.speeds}
        rows.append({"way": way.name, **figures, "items": size, "filled": share})
    return rows


def fill(way: Way, requests: Sequence[Request]) -> float:
    """The share of phonemes that is not padding."""
    lengths = [len(request.phonemes) for request in requests]
    return sum(lengths) / sum(len(b) * max(lengths[i] for i in b) for b in way.batches)


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="a small model, for a quick look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[1, 250, 500, 1000], metavar="PHONEMES"
    )
    parser.add_argument("--frames", type=int, help="at a time in the decoder (default: by device)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    set_numerics(threads=1)
    with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as name:
        folder = make_kokoro(Path(name) / "kokoro", small=settings.small)
        model = Checkpoint(str(folder), None).model().to(settings.device)
        requests = sentences(folder, model.vocab, settings.sentences)
    found = list(ways(model, requests, settings))
    audio = measure(found, settings)
    cuda = settings.device != "cpu"
    machine = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, one thread"
    versions = f"torch {torch.__version__}, kokoro {version('kokoro')}"
    lengths = sorted(len(request.phonemes) for request in requests)
    print(f"{machine}, {versions}")
    print(f"{len(lengths)} sentences of {lengths[0]} to {lengths[-1]} phonemes, {audio:.0f} s")
    rows = report(found, requests)
    if settings.json:
        about = {"machine": machine, "versions": versions, "phonemes": lengths, "seconds": audio}
        settings.json.write_text(json.dumps({**about, "ways": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
