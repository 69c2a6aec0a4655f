"""What batching HuBERT gains, and what it costs in units: `python tests/bench/units.py`, with
`--small` for a quick look, `--device cuda` where there is one, `--audio FOLDER` for real speech.

A model of hubert-base's size with random weights runs over the same utterances one at a time, in
padded batches as transformers has them, and in this package's batches. The units of one at a time,
by a codebook fitted on them, are what the others are compared with. Ways to run take turns; a
figure is the median of the repeats, with the smallest and the largest. On a GPU also in half
precision, and what CUDA graphs gain (`graphs.py`).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import graphs
import numpy as np
import soundfile
import torch
import transformers
from numpy.typing import NDArray
from roofline import describe, measure_peaks, measure_work
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from unitcorpus.build.stages import set_numerics
from unitcorpus.recipe.models import EspeakSpeech, HubertUnits
from unitcorpus.recipe.sources import StoriesSource
from unitcorpus.sources.base import Row
from unitcorpus.sources.stories import StoryRows
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units import hubert_batch
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.hubert import HubertExtractor
from unitcorpus.units.hubert_batch import plan_batches
from unitcorpus.units.kmeans import Quantiser, fit
from unitcorpus.units.resample import resample

RATE = 16_000
Waves = Sequence[torch.Tensor]


@dataclass
class Way:
    """One way to run the model, and what was measured of it."""

    name: str
    run: Callable[[Waves], list[torch.Tensor]]
    batches: list[list[int]]
    fill: float = 0.0
    identical: float = 0.0
    speeds: list[float] = field(default_factory=list)


# --- ways to run ------------------------------------------------------------------------------


def ways(folder: Path, waves: Waves, settings: argparse.Namespace) -> Iterator[Way]:
    """The reference first: transformers, one waveform at a time."""
    everything = range(len(waves))
    model = HubertModel.from_pretrained(folder, attn_implementation="sdpa").to(settings.device)
    model.eval()
    one = [[i] for i in everything]
    yield Way("transformers, one at a time", padded(model, one, False), one)
    size = settings.batch
    rows = [list(everything[i : i + size]) for i in everything[::size]]
    yield Way(f"transformers, {size} padded, no mask", padded(model, rows, False), rows)
    yield Way(f"transformers, {size} padded, masked", padded(model, rows, True), rows)
    hubert_batch.one_at_a_time = lambda device: False
    middle = settings.budgets[len(settings.budgets) // 2]
    half = [(middle, "float16"), (middle, "bfloat16")] if settings.device != "cpu" else []
    for seconds, precision in [*((seconds, "float32") for seconds in settings.budgets), *half]:
        section = HubertUnits.model_validate(
            {
                "model": str(folder),
                "layer": model.config.num_hidden_layers,
                "codebook": "demo",
                "precision": precision,
            }
        )
        ours = HubertExtractor(section, HubertExtractor.resolve(section), settings.device)
        ours.batch_seconds = seconds
        batches = plan_batches([len(wave) for wave in waves], int(seconds * RATE))
        name = f"ours, at most {seconds:g} s padded" if seconds else "ours, one at a time"
        of = "" if precision == "float32" else f", {precision}"
        yield Way(name + of, ours.features, batches)


def padded(
    model: Any, batches: list[list[int]], masked: bool
) -> Callable[[Waves], list[torch.Tensor]]:
    """Batches as the feature extractor pads them, without its normalisation: padding alone is what
    differs. Frames are those of each waveform's own length."""
    extract = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=masked)

    def run(waves: Waves) -> list[torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        for batch in batches:
            audio = [waves[i].numpy() for i in batch]
            inputs = extract(audio, sampling_rate=RATE, padding=True, return_tensors="pt")
            states = model(**inputs.to(model.device)).last_hidden_state
            samples = torch.tensor([len(wave) for wave in audio])
            frames = model._get_feat_extract_output_lengths(samples).tolist()
            found |= {i: row[:n] for i, row, n in zip(batch, states, frames, strict=True)}
        return [found[i] for i in range(len(waves))]

    return run


# --- measuring --------------------------------------------------------------------------------


def measure(found: list[Way], waves: Waves, settings: argparse.Namespace) -> int:
    """Fills in the figures of every way; returns the number of units compared."""
    with torch.inference_mode():
        reference = found[0].run(waves)
        quantise = Quantiser(codebook(reference), settings.device)
        expected = units(quantise, reference)
        for way in found:
            way.fill = filled(way.batches, waves)
            way.identical = float((units(quantise, way.run(waves)) == expected).mean())
        audio = sum(map(len, waves)) / RATE
        for _ in range(settings.repeats):
            for way in found:
                way.speeds.append(audio / seconds(way, waves, settings.device))
    return len(expected)


def codebook(features: list[torch.Tensor]) -> Codebook:
    frames = torch.cat(features).cpu().numpy()
    return Codebook(fit(frames, min(500, len(frames) // 4), 0, redos=1)[0], "")


def units(quantise: Quantiser, features: list[torch.Tensor]) -> NDArray[np.uint16]:
    return np.concatenate([quantise(states) for states in features])


def filled(batches: list[list[int]], waves: Waves) -> float:
    """The share of samples that are not padding."""
    size = sum(len(batch) * max(len(waves[i]) for i in batch) for batch in batches)
    return sum(map(len, waves)) / size


def seconds(way: Way, waves: Waves, device: str) -> float:
    """On a CPU of the process, which has one thread: other processes then weigh less."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    way.run(waves)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


# --- what is run ------------------------------------------------------------------------------


def model_of(settings: argparse.Namespace) -> Any:
    """The same model, on its own."""
    with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as name:
        make_model(Path(name), settings.small)
        model = HubertModel.from_pretrained(name, attn_implementation="sdpa")
    return model.to(settings.device).eval()


def make_model(folder: Path, small: bool) -> None:
    """hubert-base's first nine layers with random weights, or a model a tenth as wide."""
    torch.manual_seed(0)
    narrow: dict[str, Any] = {
        "hidden_size": 96,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "conv_dim": (64,) * 7,
    }
    config = HubertConfig(num_hidden_layers=9, **(narrow if small else {}))
    HubertModel(config).save_pretrained(folder)


def spoken(count: int) -> list[torch.Tensor]:
    """Beginnings of built-in stories, of one to five sentences, spoken by espeak."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    rows = [row for row in StoryRows(StoriesSource(count=count), 0).rows() if isinstance(row, Row)]
    texts = [". ".join(row.text.split(". ")[: 1 + 3 * i % 5]) for i, row in enumerate(rows)]
    found = engine.synthesize([Utterance("u", text, "en-us", 0) for text in texts])
    engine.close()
    waves = [wave for wave in found if isinstance(wave, torch.Tensor)]
    return [resample(wave, engine.sample_rate, RATE) for wave in waves]


def recorded(folder: Path, count: int) -> list[torch.Tensor]:
    """The first recordings of a folder, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".wav", ".flac"})
    waves = []
    for path in paths[:count]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        waves.append(resample(torch.from_numpy(samples.mean(1)), rate, RATE))
    return waves


# --- the table --------------------------------------------------------------------------------


def report(found: list[Way]) -> list[dict[str, Any]]:
    """Prints the table; returns it."""
    print(f"{'':<34}{'audio s / s':>22}{'× one':>7}{'filled':>8}{'same units':>12}")
    rows = []
    for way in found:
        ratios = [a / b for a, b in zip(way.speeds, found[0].speeds, strict=True)]
        spread = f"{median(way.speeds):.2f} ({min(way.speeds):.2f}-{max(way.speeds):.2f})"
        figures = f"{median(ratios):>7.2f}{way.fill:>8.1%}{way.identical:>12.4%}"
        print(f"{way.name:<34}{spread:>22}{figures}")
        row = {"speed": median(way.speeds), "ratio": median(ratios), "speeds": way.speeds}
        rows.append({"way": way.name, **row, "filled": way.fill, "identical": way.identical})
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="a narrow model, for a quick look")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--audio", type=Path, help="a folder of .wav or .flac instead of espeak")
    parser.add_argument("--utterances", type=int, help="default: 24 on a CPU, 400 on a GPU")
    parser.add_argument("--batch", type=int, default=8, help="utterances in transformers' batches")
    parser.add_argument("--budgets", type=float, nargs="+", metavar="SECONDS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    settings = parser.parse_args()
    gpu = settings.device != "cpu"
    settings.budgets = settings.budgets or ([20, 60, 150, 300, 600] if gpu else [0, 20, 60])
    settings.utterances = settings.utterances or (400 if gpu else 24)
    return settings


def main() -> None:
    settings = parse()
    if settings.device != "cpu" and not torch.cuda.is_available():
        print("there is no GPU here: nothing to measure on one (leave out --device for the CPU)")
        return
    set_numerics(threads=1)
    transformers.utils.logging.disable_progress_bar()
    count, folder = settings.utterances, settings.audio
    waves = recorded(folder, count) if folder else spoken(count)
    with tempfile.TemporaryDirectory(prefix="unitcorpus-bench-") as name:
        make_model(Path(name), settings.small)
        found = list(ways(Path(name), waves, settings))
    compared = measure(found, waves, settings)
    cuda = settings.device != "cpu"
    machine = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, one thread"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    lengths = sorted(len(wave) / RATE for wave in waves)
    print(f"{machine}, {versions}")
    print(f"{len(waves)} utterances of {lengths[0]:.1f} to {lengths[-1]:.1f} s, {compared:,} units")
    rows = report(found)
    print("the limit of the model, as it runs here:")
    some = waves[:8]
    with torch.inference_mode():
        work = measure_work(lambda: found[3].run(some))
    audio = sum(map(len, some)) / RATE
    best = max(median(way.speeds) for way in found)
    print(describe(work, measure_peaks(settings.device), audio, audio / best))
    if cuda:
        print("a batch without padding launched, and as a CUDA graph:")
        for line in graphs.graphs(model_of(settings), graphs.hubert):
            print(line, flush=True)
    if settings.json:
        about = {"machine": machine, "versions": versions, "seconds": lengths, "units": compared}
        settings.json.write_text(json.dumps({**about, "ways": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
