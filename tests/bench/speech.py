"""What batching Kokoro gains, and what text to units takes: `python tests/bench/speech.py`, with
`--small` for a quick look, `--device cuda` where there is one.

A model of Kokoro-82M's size with random weights speaks the same sentences, at the pace of real
speech (14 phonemes a second), in kokoro's own loop and in this package's batches. Ways to speak
take turns; a figure is the median of the repeats, with the smallest and the largest. On a CPU
seconds are those of the process, which has one thread: other processes then weigh less. Then the
limit of the model on this machine (`roofline.py`), and the whole chain, with a HuBERT of the base
model's size: hours of speech an hour, and what 30,000 hours would take. On a GPU also what
torch.compile, bfloat16 and CUDA graphs (`graphs.py`) gain, and whether units stay what they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

import graphs
from roofline import describe, measure_peaks, measure_work

from checkpoints import KOKORO_VOICES, make_kokoro
from checkpoints_hubert import make_full_size
from unitcorpus.build.agreement import compare
from unitcorpus.build.chunks import chunks
from unitcorpus.build.stages import Encoded, Item, SpokenStages, set_numerics
from unitcorpus.recipe.models import HubertUnits, KokoroSpeech, Recipe
from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.shards.inputs import PlannedPart
from unitcorpus.sources.base import Row
from unitcorpus.sources.stories import StoryRows
from unitcorpus.speech.kokoro import KokoroEngine
from unitcorpus.speech.kokoro_batch import BatchedKokoro, Request, batches, noise
from unitcorpus.speech.kokoro_files import Checkpoint
from unitcorpus.speech.kokoro_kernels import kernels
from unitcorpus.speech.phonemes import Phonemizer
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.hubert import HubertExtractor

RATE = 24_000
FRAMES = 40
PHONEMES = 14
"""A second of speech, in frames and in phonemes."""

PACE = 0.7
"""Speed at which the random model's phonemes, of two frames each, last as long as real ones."""
Waves = list[torch.Tensor]


@dataclass
class Way:
    """One way to speak, and what was measured of it."""

    name: str
    run: Callable[[], Waves]
    batches: list[list[int]]
    speeds: list[float] = field(default_factory=list)


# --- ways to speak ----------------------------------------------------------------------------


def ways(
    folder: Path, model: Any, requests: Sequence[Request], settings: argparse.Namespace
) -> Iterator[Way]:
    """The reference first: kokoro's own forward, one sentence at a time."""
    own = kokoros(folder, settings.device)
    yield Way("kokoro, one at a time", lambda: loop(own, requests), [])
    cuda = settings.device != "cpu"
    lengths = [len(request.phonemes) for request in requests]
    middle = settings.budgets[len(settings.budgets) // 2]
    asked: list[tuple[str, torch.dtype | None, bool, float]]
    asked = [("", None, False, seconds) for seconds in settings.budgets]
    if settings.options:
        asked += [
            (", compiled", None, True, middle),
            (", bfloat16", torch.bfloat16, False, middle),
            (", bfloat16, compiled", torch.bfloat16, True, middle),
        ]
    for name, half, compile, seconds in asked:
        frames = int(seconds * FRAMES) if cuda else None
        speak = BatchedKokoro(model, frames, kernels=kernels(half, compile))
        cut = batches(lengths, int(seconds * PHONEMES))
        yield Way(f"ours, {seconds:g} s{name}", in_batches(speak, requests, cut), cut)


def kokoros(folder: Path, device: str) -> Any:
    """The package's own model, as it loads it."""
    from kokoro import KModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config, weights = str(folder / "config.json"), str(folder / "kokoro-v1_0.pth")
        return KModel(repo_id="random", config=config, model=weights).to(device).eval()


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
            found |= {i: each.wave.cpu() for i, each in zip(batch, spoken, strict=True)}
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


def sentences(count: int) -> list[str]:
    """The first sentences of built-in stories."""
    rows = StoryRows(StoriesSource(count=count), 0).rows()
    return [s for row in rows if isinstance(row, Row) for s in row.text.split(". ")][:count]


def requests_of(texts: Sequence[str], folder: Path, vocabulary: dict[str, int]) -> list[Request]:
    """The texts in all voices of the checkpoint in turn."""
    phonemize = Phonemizer("a", "espeak", vocabulary)
    pieces = [piece.phonemes for text in texts for piece in phonemize(text)]
    packs = [Checkpoint(str(folder), None).pack(voice) for voice in KOKORO_VOICES]
    return [
        Request(phonemes, packs[i % len(packs)][len(phonemes) - 1, 0], PACE, seed=i)
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


# --- the limit, and the chain -----------------------------------------------------------------


def roofline(model: Any, requests: Sequence[Request], best: float, device: str) -> str:
    """The limit of the model as it runs, for a few sentences, and how near `best` comes to it."""
    some = list(requests[:8])
    speak = BatchedKokoro(model)
    audio = sum(len(spoken.wave) for spoken in speak(some)) / RATE
    return describe(measure_work(lambda: speak(some)), measure_peaks(device), audio, audio / best)


def chain(folder: Path, texts: Sequence[str], settings: argparse.Namespace) -> Iterator[str]:
    """Text to units, all of it on the device but the phonemes."""
    recipe = chain_recipe(folder, settings.small)
    stages = load(recipe, settings.device)
    voices = KOKORO_VOICES[:4]
    items = [Item(str(i), PlannedPart(text), voices[i % 4], i) for i, text in enumerate(texts)]
    for seconds in settings.budgets:
        stages.batch_seconds = seconds
        cut = chunks([item.part for item in items], seconds)
        taken = []
        for _ in range(settings.repeats):
            stages.clock.seconds.clear()
            start = time.perf_counter()
            made = [e for chunk in cut for e in stages([items[i] for i in chunk])]
            taken.append(time.perf_counter() - start)
        audio = sum(e.num_samples for e in made if isinstance(e, Encoded)) / 16_000
        speed = audio / median(taken)
        shares = sum(stages.clock.seconds.values())
        most = ", ".join(f"{k} {v / shares:.0%}" for k, v in stages.clock.seconds.items())
        yield (
            f"  {seconds:g} s: {speed:,.2f} hours of speech an hour ({most}); "
            f"30,000 hours in {30_000 / speed:,.0f} hours of this device"
        )
    if settings.options:
        yield from with_options(recipe, stages, items, settings)
    stages.close()


def chain_recipe(folder: Path, small: bool) -> Recipe:
    layers = 2 if small else 9
    make_full_size(folder / "hubert", "base", layers)
    speech = KokoroSpeech(
        model=str(folder / "kokoro"), g2p="espeak", speed=PACE, voices=KOKORO_VOICES[:4]
    )
    units = HubertUnits(model=str(folder / "hubert"), layer=layers, codebook="")
    return Recipe(name="bench", source=StoriesSource(), speech=speech, units=units)


def load(recipe: Recipe, device: str) -> SpokenStages:
    """The stages of a recipe, with a codebook of 500 random centroids."""
    assert isinstance(recipe.speech, KokoroSpeech)
    assert isinstance(recipe.units, HubertUnits)
    draw = torch.Generator().manual_seed(0)
    codebook = Codebook(torch.randn(500, 768, generator=draw).numpy(), "")
    resolved = {"extractor": HubertExtractor.resolve(recipe.units)}
    return SpokenStages(recipe, KokoroEngine.resolve(recipe.speech), resolved, codebook, device)


def with_options(
    recipe: Recipe, exact: SpokenStages, items: list[Item], settings: argparse.Namespace
) -> Iterator[str]:
    """The chain with options that are not exact: speed, and the units that they keep."""
    budget = settings.budgets[len(settings.budgets) // 2]
    half = {"precision": "bfloat16"}
    for name, speech, units in (
        ("speech compiled", {"compile": True}, {}),
        ("speech in bfloat16, compiled", {"compile": True, **half}, {}),
        ("speech and units in bfloat16, compiled", {"compile": True, **half}, half),
    ):
        assert recipe.speech is not None
        changes = {
            "speech": recipe.speech.model_copy(update=speech),
            "units": recipe.units.model_copy(update=units),
        }
        stages = load(recipe.model_copy(update=changes), settings.device)
        stages.batch_seconds = budget
        found = compare(stages, exact, items)
        stages.close()
        yield (
            f"  {budget:g} s, {name}: {found.batched:,.2f} hours of speech an hour, "
            f"{found.identical:.3%} of {found.frames:,} units as one at a time without"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="a small model, for a quick look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sentences", type=int, help="default: 16 on a CPU, 400 on a GPU")
    parser.add_argument(
        "--budgets", type=float, nargs="+", metavar="SECONDS", help="of speech in a batch"
    )
    parser.add_argument(
        "--options", action="store_true", help="also compiled and in bfloat16, as always on a GPU"
    )
    parser.add_argument("--no-chain", action="store_true", help="leave out text to units")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    settings = parser.parse_args()
    gpu = settings.device != "cpu"
    settings.options = settings.options or gpu
    settings.budgets = settings.budgets or ([5, 20, 60, 150, 300, 600] if gpu else [60])
    settings.sentences = settings.sentences or (400 if gpu else 16)
    return settings


def main() -> None:
    settings = parse()
    if settings.device != "cpu" and not torch.cuda.is_available():
        print("there is no GPU here: nothing to measure on one (leave out --device for the CPU)")
        return
    set_numerics(threads=1)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as name:
        folder = make_kokoro(Path(name) / "kokoro", small=settings.small)
        model = Checkpoint(str(folder), None).model(settings.device)
        texts = sentences(settings.sentences)
        requests = requests_of(texts, folder, model.vocab)
        found = list(ways(folder, model, requests, settings))
        audio = measure(found, settings)
        table(found, requests, audio, settings)
        best = max(median(way.speeds) for way in found)
        print("the limit of Kokoro, as it runs in float32:")
        print(roofline(model, requests, best, settings.device))
        if settings.device != "cpu":
            print("the decoder launched, and as a CUDA graph:")
            for line in graphs.graphs(model, graphs.kokoro):
                print(line, flush=True)
        if not settings.no_chain:
            print("text to units, kokoro and hubert-base (9 layers):")
            for line in chain(Path(name), texts, settings):
                print(line, flush=True)


def table(
    found: list[Way], requests: Sequence[Request], audio: float, settings: argparse.Namespace
) -> None:
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
