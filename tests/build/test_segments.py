"""Long recordings cut by speech: segments within bounds, samples of their own, none lost."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unitcorpus
from conftest import Digests
from unitcorpus.build.estimate import estimate
from unitcorpus.build.run import build_corpus
from unitcorpus.build.segments import cut
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.audio import Segments
from unitcorpus.recipe.models import EspeakSpeech, Recipe
from unitcorpus.shards.format import read_sealed, seal
from unitcorpus.shards.verify import verify
from unitcorpus.speech.activity import WINDOW
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units.resample import resample

SENTENCES = (
    "The old sailor looked at the sea and said that a storm was coming.",
    "Nobody believed him, for the sky was as blue as it had ever been.",
    "In the evening the wind rose, and the boats did not come home.",
)
PAUSE = 2.0


def recipe(source: Path, *overrides: str) -> Recipe:
    given = (f"source.path={source}", "validation=0", "source.segments={}", *overrides)
    return load_recipe("demo/audio", given)


@pytest.fixture(scope="module")
def spoken() -> tuple[torch.Tensor, list[tuple[float, float]]]:
    """Three sentences with pauses [samples] at 16 kHz, and where each begins and ends."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    said = engine.synthesize(
        [Utterance(str(n), text, "en-us", n) for n, text in enumerate(SENTENCES)]
    )
    engine.close()
    quiet = torch.zeros(round(PAUSE * 16_000))
    pieces, places, now = [quiet], [], len(quiet)
    for wave in said:
        assert isinstance(wave, torch.Tensor)
        own = resample(wave, engine.sample_rate, 16_000)
        places.append((now / 16_000, (now + len(own)) / 16_000))
        pieces += [own, quiet]
        now += len(own) + len(quiet)
    return torch.cat(pieces), places


@pytest.fixture
def folder(tmp_path: Path, spoken: tuple[torch.Tensor, list[tuple[float, float]]]) -> Path:
    """The recording in stereo at 24 kHz, and one in which nobody speaks."""
    root = tmp_path / "in"
    root.mkdir()
    wave = resample(spoken[0], 16_000, 24_000).numpy()
    soundfile.write(root / "a.flac", np.stack([wave, wave], axis=1), 24_000)
    soundfile.write(root / "hum.flac", 0.01 * np.sin(np.arange(80_000) / 50), 16_000)
    return root


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 200)), min_size=1, max_size=12),
    least=st.floats(0.2, 3),
    room=st.floats(1, 8),
    padding=st.floats(0, 0.5),
)
def test_segments_keep_their_bounds_and_do_not_overlap(
    runs: list[tuple[float, int]], least: float, room: float, padding: float
) -> None:
    most = 2 * least * room + 2 * padding
    section = Segments(min_seconds=least, max_seconds=most, padding=padding)
    chances = [chance for chance, windows in runs for _ in range(windows)]
    samples = len(chances) * WINDOW - 100
    spans = cut(chances, samples, section)
    for start, end in spans:
        assert least <= end - start <= most + 0.001
        assert 0 <= start < end <= samples / 16_000
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_each_spoken_sentence_is_a_sample_with_its_place(
    folder: Path, tmp_path: Path, spoken: tuple[torch.Tensor, list[tuple[float, float]]]
) -> None:
    corpus = build_corpus(recipe(folder), tmp_path / "c").corpus
    assert corpus is not None
    assert verify(tmp_path / "c") == []
    samples = list(unitcorpus.open(tmp_path / "c").samples("train"))
    found = [(s.meta["start"], s.meta["end"]) for s in samples]
    assert len(found) == len(SENTENCES)
    for (start, end), (begins, ends) in zip(found, spoken[1], strict=True):
        assert abs(start - begins) < 0.3
        assert abs(end - ends) < 0.5
    row = samples[0].key.rpartition("-")[0]
    assert [s.key for s in samples] == [f"{row}-{n:06d}" for n in range(3)]
    assert [s.meta["id"] for s in samples] == [f"a-{n:06d}" for n in range(3)]
    assert corpus["rejected"] == {"no_speech": 1}
    assert corpus["speech"]["detector"].startswith("silero-vad ")
    receipt = read_sealed(tmp_path / "c/receipts/train-000000.json")
    assert sorted(receipt["segments"]) == [0, 3]


def test_a_segment_has_the_units_of_that_stretch_of_the_file(folder: Path, tmp_path: Path) -> None:
    build_corpus(recipe(folder), tmp_path / "c")
    samples = {s.meta["id"]: s for s in unitcorpus.open(tmp_path / "c")}
    rows = [
        {"audio": "a.flac", "id": name, "start": s.meta["start"], "end": s.meta["end"]}
        for name, s in samples.items()
    ]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus(recipe(folder / "list.jsonl", "source.segments=null"), tmp_path / "d")
    for sample in unitcorpus.open(tmp_path / "d"):
        assert np.array_equal(sample.units, samples[sample.meta["id"]].units)


def test_segments_are_the_same_bytes_every_time(
    folder: Path, tmp_path: Path, digests: Digests
) -> None:
    for name in ("c", "d"):
        build_corpus(recipe(folder, "shards.samples=1"), tmp_path / name)
    assert digests(tmp_path / "c") == digests(tmp_path / "d")


@pytest.mark.parametrize("change", [1, -1])
def test_verify_finds_a_segment_that_is_lost_and_one_too_many(
    folder: Path, tmp_path: Path, change: int
) -> None:
    build_corpus(recipe(folder), tmp_path / "c")
    path = tmp_path / "c/receipts/train-000000.json"
    receipt: dict[str, Any] = read_sealed(path)
    receipt["segments"] = [n and n + change for n in receipt["segments"]]
    path.write_bytes(seal(receipt))
    assert any("do not add up" in problem for problem in verify(tmp_path / "c"))


def test_a_corpus_without_any_speech_is_a_corpus_of_rejects(folder: Path, tmp_path: Path) -> None:
    (folder / "a.flac").unlink()
    corpus = build_corpus(recipe(folder), tmp_path / "c").corpus
    assert corpus is not None
    assert corpus["rejected"] == {"no_speech": 1}
    assert verify(tmp_path / "c") == []


def test_a_plan_foretells_the_bytes_of_segments(folder: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(folder / "a.flac", dtype="float32")
    soundfile.write(folder / "a.flac", np.tile(wave, (10, 1)), rate)
    corpus = build_corpus(recipe(folder), tmp_path / "c").corpus
    assert corpus is not None
    due = sum(split["bytes"] for split in corpus["splits"].values())
    assert estimate(recipe(folder), 2).bytes == pytest.approx(due, rel=0.2)


def test_bounds_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match="max_seconds"):
        recipe(tmp_path, "source.segments.max_seconds=1.5")
