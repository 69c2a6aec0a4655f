"""What cutting long recordings costs: `python tests/bench/vad.py`, with `--audio FOLDER` for real
speech, `--minutes` for how much of it, `--extractor mfcc` or `hubert` for one of the two.

A long recording is made of the utterances, with two seconds of silence after each. "Alone" turns it
into units in pieces of 30 seconds; "cut" finds the speech first and turns that into units. Three
ratios: of the times of the extractor over the same segments with and without the detector (the
detector's share, whatever is silent), of the speeds over the whole recording, and of the detector
to silero-vad's own loop. Ways take turns; a figure is the median, with the smallest and largest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import silero_vad
import soundfile
import torch

from checkpoints_hubert import make_full_size
from unitcorpus.build.recordings import Recordings
from unitcorpus.build.segments import Segmenter
from unitcorpus.build.stages import set_numerics
from unitcorpus.errors import Reject
from unitcorpus.recipe.audio import AudioSource, Segments
from unitcorpus.recipe.models import EspeakSpeech, HubertUnits, MfccUnits
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.sources.stories import story
from unitcorpus.speech.activity import RATE, WINDOW, SpeechDetector
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import Codebook
from unitcorpus.units.kmeans import Quantiser
from unitcorpus.units.resample import resample

PIECE = 30.0
PAUSE = 2.0
"""Seconds."""


def real(folder: Path) -> list[torch.Tensor]:
    """The recordings below a folder [samples], at 16 kHz as they are."""
    paths = sorted(folder.rglob("*.flac"))
    return [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]


def spoken() -> list[torch.Tensor]:
    """Stories by espeak-ng."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    texts = [story(0, n) for n in range(20)]
    waves = engine.synthesize([Utterance(str(n), t, "en-us", n) for n, t in enumerate(texts)])
    engine.close()
    return [resample(w, engine.sample_rate, RATE) for w in waves if isinstance(w, torch.Tensor)]


def recording(waves: list[torch.Tensor], minutes: float, path: Path) -> float:
    """Writes the long recording; returns its seconds."""
    quiet = torch.zeros(round(PAUSE * RATE))
    whole = torch.cat([piece for wave in waves for piece in (wave, quiet)])
    times = -(-round(minutes * 60 * RATE) // len(whole))
    whole = whole.repeat(times)[: round(minutes * 60 * RATE)]
    soundfile.write(path, whole.numpy(), RATE)
    return len(whole) / RATE


class Bench:
    """One extractor over one recording."""

    def __init__(self, units: MfccUnits | HubertUnits, path: Path, seconds: float) -> None:
        kind = EXTRACTORS[units.extractor]
        self._extractor = kind(units, kind.resolve(units), "cpu")
        rng = np.random.default_rng(0)
        book = rng.standard_normal((500, self._extractor.width)).astype(np.float32)
        self._quantise = Quantiser(Codebook(book, ""), "cpu")
        self._part = PlannedPart(audio=path.name, audio_bytes=path.stat().st_size)
        self._recordings = Recordings(AudioSource(path=str(path.parent)), RATE)
        self._segmenter = Segmenter(Segments(), self._recordings)
        self._seconds = seconds

    def pieces(self) -> list[PlannedPart]:
        starts = np.arange(0, self._seconds, PIECE)
        ends = np.minimum(starts + PIECE, self._seconds)
        span = zip(starts.tolist(), ends.tolist(), strict=True)
        return [
            PlannedPart(self._part.text, None, None, self._part.audio, self._part.audio_bytes, *s)
            for s in span
        ]

    def cut(self) -> list[PlannedPart]:
        found = self._segmenter(Input("k", "k", {"": self._part}))
        assert not isinstance(found, Reject)
        return [part for row in found for part in row.parts.values()]

    def encode(self, parts: list[PlannedPart]) -> None:
        for part in parts:
            wave = self._recordings.read([part])[0]
            if not isinstance(wave, Reject):
                self._quantise(self._extractor.features([wave])[0])

    def measure(self) -> dict[str, float]:
        start = time.perf_counter()
        self.encode(self.pieces())
        alone = time.perf_counter() - start
        start = time.perf_counter()
        parts = self.cut()
        cutting = time.perf_counter() - start
        start = time.perf_counter()
        self.encode(parts)
        encoding = time.perf_counter() - start
        return {
            "alone, x real time": self._seconds / alone,
            "cut, x real time": self._seconds / (cutting + encoding),
            "detector, x real time": self._seconds / cutting,
            "extractor / detector and extractor, same segments": encoding / (cutting + encoding),
            "cut / alone": alone / (cutting + encoding),
        }


def detectors(path: Path) -> dict[str, float]:
    """Our detector and the package's loop, over the same samples, and how far they are apart."""
    wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    model: Any = silero_vad.load_silero_vad()
    detector = SpeechDetector()
    start = time.perf_counter()
    listener = detector.listen()
    ours = [c for piece in torch.split(wave, 30 * RATE) for c in listener.hear(piece)]
    ours += listener.end()
    middle = time.perf_counter()
    padded = torch.nn.functional.pad(wave, (0, -len(wave) % WINDOW))
    with torch.inference_mode():
        theirs = [model(window, RATE).item() for window in padded.view(-1, WINDOW)]
    end = time.perf_counter()
    return {
        "detector alone, x real time": len(wave) / RATE / (middle - start),
        "silero-vad's loop, x real time": len(wave) / RATE / (end - middle),
        "largest difference of probabilities": float(np.abs(np.subtract(ours, theirs)).max()),
    }


def tell(name: str, runs: list[dict[str, float]]) -> None:
    for key in runs[0]:
        values = [run[key] for run in runs]
        print(f"{name:8} {key:52} {median(values):10.4g} ({min(values):.4g}–{max(values):.4g})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--extractor", choices=["mfcc", "hubert"])
    given = parser.parse_args()
    set_numerics(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        waves = real(given.audio) if given.audio else spoken()
        seconds = recording(waves, given.minutes, path)
        tell("vad", [detectors(path) for _ in range(given.repeats)])
        if given.extractor != "hubert":
            bench = Bench(MfccUnits(), path, seconds)
            bench.measure()
            tell("mfcc", [bench.measure() for _ in range(given.repeats)])
        if given.extractor != "mfcc":
            model = make_full_size(Path(folder) / "model", "base", 9)
            units = HubertUnits(model=str(model), layer=9, codebook="demo")
            bench = Bench(units, path, seconds)
            tell("hubert", [bench.measure() for _ in range(given.repeats)])


if __name__ == "__main__":
    main()
