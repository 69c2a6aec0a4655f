"""Whether a batch changes a unit, on real speech: `python tests/bench/agreement.py --audio FOLDER`.

HuBERTs of full width with random weights (hubert-base, and one of 25 Hz as the multilingual one
is), and for each a codebook fitted on the features of the recordings one at a time. Then all of
them again, in other orders, with other companions and other budgets, in float32 and in float64: how
many frames get another unit. `--layers` is what the time is spent on; masks are the same in each.
Batches are those of a GPU, on whatever device: a build on a CPU takes one utterance at a time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from units import recorded, spoken

from checkpoints_hubert import make_full_size
from unitcorpus.build.stages import set_numerics
from unitcorpus.recipe.models import HubertUnits
from unitcorpus.units import hubert_batch
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.hubert import HubertExtractor
from unitcorpus.units.kmeans import Quantiser, fit

RATE = 16_000
BUDGETS = (10, 25, 60, 200)
"""Seconds of a batch that a composition may have."""

Waves = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Found:
    """`flips` frames of `frames`, all compositions together, have another unit than alone;
    `error` is the largest difference of a feature, relative to the largest feature."""

    style: str
    precision: str
    compositions: int
    frames: int
    flips: int
    error: float
    seconds: float


def composed(extractor: HubertExtractor, waves: Waves, rounds: int) -> Iterator[list[torch.Tensor]]:
    """Features in the order of `waves`, each time from another order, cut and budget."""
    draw = Random(0)
    for _ in range(rounds):
        extractor.batch_seconds = draw.choice(BUDGETS)
        order = draw.sample(range(len(waves)), len(waves))
        cut = draw.randrange(1, len(waves))
        found: dict[int, torch.Tensor] = {}
        for part in (order[:cut], order[cut:]):
            found |= zip(part, extractor.features([waves[i] for i in part]), strict=True)
        yield [found[i] for i in range(len(waves))]


def units(quantise: Quantiser, features: Sequence[torch.Tensor]) -> NDArray[np.uint16]:
    return quantise(torch.cat(list(features)))


def measure(
    style: str, precision: str, folder: Path, waves: Waves, settings: argparse.Namespace
) -> Found:
    section = HubertUnits.model_validate(
        {
            "model": str(folder),
            "layer": settings.layers,
            "input_padding": 40 if style == "mhubert25" else 0,
            "codebook": "",
            "precision": precision,
        }
    )
    extractor = HubertExtractor(section, HubertExtractor.resolve(section), settings.device)
    alone = extractor.features(waves)
    frames = torch.cat(alone)
    clusters = min(500, len(frames) // 4)
    book = Codebook(fit(frames.cpu().numpy(), clusters, 0, iterations=10, redos=1)[0], "")
    quantise = Quantiser(book, settings.device)
    expected, largest = units(quantise, alone), float(frames.abs().max())
    hubert_batch.one_at_a_time = lambda device: False
    start, flips, error = time.perf_counter(), 0, 0.0
    for features in composed(extractor, waves, settings.rounds):
        flips += int((units(quantise, features) != expected).sum())
        error = max(error, float((torch.cat(features) - frames).abs().max()) / largest)
    took = time.perf_counter() - start
    total = settings.rounds * len(expected)
    return Found(style, precision, settings.rounds, total, flips, error, took)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--audio", type=Path, help="a folder of .wav or .flac instead of espeak")
    parser.add_argument("--utterances", type=int, default=1000, help="at most so many")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="compositions")
    parser.add_argument("--styles", nargs="+", default=["base", "mhubert25"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "float64"])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    if settings.device != "cpu" and not torch.cuda.is_available():
        print("there is no GPU here: nothing to measure on one (leave out --device for the CPU)")
        return
    set_numerics(threads=1)
    transformers.utils.logging.disable_progress_bar()
    few = settings.utterances
    waves = recorded(settings.audio, few) if settings.audio else spoken(min(few, 40))
    audio = sum(map(len, waves)) / RATE
    cuda = settings.device != "cpu"
    machine = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, one thread"
    print(f"{machine}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{len(waves)} utterances, {audio:.0f} s; {settings.layers} layers of full width")
    print(
        f"{'model':<11}{'precision':<11}{'frames':>9}{'flips':>7}{'same':>11}{'error':>10}{'s':>8}"
    )
    rows = []
    with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as name:
        for style in settings.styles:
            folder = make_full_size(Path(name) / style, style, settings.layers)
            for precision in settings.precisions:
                found = measure(style, precision, folder, waves, settings)
                same = 1 - found.flips / found.frames
                print(
                    f"{found.style:<11}{found.precision:<11}"
                    f"{found.frames:>9,}{found.flips:>7}{same:>11.4%}{found.error:>10.1e}"
                    f"{found.seconds:>8.0f}",
                    flush=True,
                )
                rows.append(asdict(found))
    if settings.json:
        settings.json.write_text(json.dumps({"machine": machine, "found": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
