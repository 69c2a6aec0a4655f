"""Long recordings: memory that does not grow with their length, and hours of silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import unitcorpus
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.shards.verify import verify
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine

Burst = tuple[NDArray[np.float32], int]

# Prints the peak of its memory in MiB after each build.
BUILD = """
import resource, sys
from pathlib import Path
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
for source, out in zip(sys.argv[1::2], sys.argv[2::2]):
    given = (f"source.path={source}", "validation=0", "source.segments={}")
    assert build_corpus(load_recipe("demo/audio", given), Path(out)).corpus is not None
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.fixture(scope="module")
def burst() -> Burst:
    """A sentence and its rate."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    [said] = engine.synthesize([Utterance("a", "The boats did not come home.", "en-us", 0)])
    engine.close()
    assert isinstance(said, torch.Tensor)
    return said.numpy(), engine.sample_rate


def write(folder: Path, minutes: int, burst: Burst) -> Path:
    """A recording in stereo, silent but for a sentence a minute."""
    wave, rate = burst
    minute = np.zeros((60 * rate, 2), np.float32)
    minute[20 * rate : 20 * rate + len(wave)] = wave[:, None]
    folder.mkdir()
    with soundfile.SoundFile(str(folder / "long.wav"), "w", rate, 2, "PCM_16") as file:
        for _ in range(minutes):
            file.write(minute)
    return folder


def growth(short: Path, long: Path, out: Path) -> float:
    """MiB by which the peak of a process grows when it builds a long recording after a short."""
    words = [short, out / "short", long, out / "long"]
    command = [sys.executable, "-c", BUILD, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split()[-2:])
    return after - before


def test_memory_does_not_grow_with_the_length(burst: Burst, tmp_path: Path) -> None:
    """As floats the longer file would take 200 MiB more."""
    short, long = write(tmp_path / "a", 2, burst), write(tmp_path / "b", 20, burst)
    assert growth(short, long, tmp_path) < 60
    assert len(unitcorpus.open(tmp_path / "long")) == 20
    assert verify(tmp_path / "long") == []


@pytest.mark.slow
def test_three_hours_build_within_two_gib(burst: Burst, tmp_path: Path) -> None:
    short, long = write(tmp_path / "a", 2, burst), write(tmp_path / "b", 180, burst)
    assert growth(short, long, tmp_path) < 2048
    assert len(unitcorpus.open(tmp_path / "long")) == 180
    assert verify(tmp_path / "long") == []


@pytest.mark.slow
def test_three_hours_of_silence_are_one_line_with_and_without_cutting(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with soundfile.SoundFile(str(folder / "quiet.flac"), "w", 16_000, 1) as file:
        for _ in range(180):
            file.write(np.zeros(60 * 16_000, np.float32))
    for given, reason in (("source.segments={}", "no_speech"), ("source.segments=null", "silence")):
        out = tmp_path / reason
        recipe = load_recipe("demo/audio", (f"source.path={folder}", given))
        corpus = build_corpus(recipe, out).corpus
        assert corpus is not None
        assert corpus["rejected"] == {reason: 1}
        [line] = (out / "rejects/train-000000.jsonl").read_text().splitlines()
        assert "quiet.flac" in json.loads(line)["detail"]
