"""Transcripts by a Whisper with random weights in the real layout, and word errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import pipeline

from readers import make_whisper
from unitcorpus.errors import UnitcorpusError
from unitcorpus.quality.transcripts import Transcriber, resolve, word_errors
from unitcorpus.recipe.filters import WordErrorFilter

RATE = 16_000
WORDS = st.lists(st.sampled_from(["a", "the", "cat", "sat"]), max_size=6)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("models") / "whisper")


def rule(model: Path | str) -> WordErrorFilter:
    return WordErrorFilter(measure="word_errors", model=str(model), max=1.0)


def tones(seconds: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * RATE)
    noise = torch.randn(count, generator=generator)
    return 0.2 * torch.sin(torch.arange(count) * (0.02 + 0.05 * seed)) + 0.02 * seed * noise


def edit_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's, by its recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            best = min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
            previous, row[j] = row[j], best
    return row[-1]


@given(WORDS, WORDS)
def test_word_errors_are_the_edit_distance(said: list[str], heard: list[str]) -> None:
    found = word_errors(" ".join(said), " ".join(heard), str.lower)
    assert found == (edit_distance(said, heard), len(said))


def test_case_and_punctuation_are_no_errors(whisper: Path) -> None:
    asr = Transcriber(rule(whisper), resolve(rule(whisper)), "en", "cpu")
    assert word_errors("The cat, SAT!", "the cat sat", asr.normalise) == (0, 3)
    assert word_errors("...", "the cat", asr.normalise) == (2, 0)


def test_a_transcript_is_that_of_transformers_own_pipeline(whisper: Path) -> None:
    asr = Transcriber(rule(whisper), resolve(rule(whisper)), "en", "cpu")
    plain = pipeline("automatic-speech-recognition", str(whisper), dtype=torch.float32)
    how = {"num_beams": 1, "language": "en", "task": "transcribe"}
    for seed in range(4):
        wave = tones(1 + seed, seed)
        assert asr(wave, RATE) == plain(wave.numpy(), generate_kwargs=how)["text"].strip()
    assert asr(tones(3, 2), RATE)


def test_longer_than_whisper_hears_at_once_is_heard_whole(whisper: Path) -> None:
    asr = Transcriber(rule(whisper), resolve(rule(whisper)), "en", "cpu")
    long = torch.cat([tones(29, 1), tones(8, 3)])
    assert len(asr(long, RATE)) > len(asr(long[: 29 * RATE], RATE))


def test_a_folder_is_resolved_by_its_content(whisper: Path, tmp_path: Path) -> None:
    other = make_whisper(tmp_path / "whisper", seed=2)
    first, second = resolve(rule(whisper)), resolve(rule(other))
    assert first["model"] == second["model"] == "whisper"
    assert first["revision"].startswith("sha256:")
    assert first["revision"] != second["revision"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot load"),
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: None, "knows no language 'sw'"),
    ],
)
def test_a_model_that_will_not_do_is_told_in_one_line(
    change: Any, words: str, tmp_path: Path
) -> None:
    folder = make_whisper(tmp_path / "whisper")
    change(folder)
    with pytest.raises(UnitcorpusError) as caught:
        Transcriber(rule(folder), resolve(rule(folder)), "sw", "cpu")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_the_hub_that_cannot_be_had_is_told() -> None:
    with pytest.raises(UnitcorpusError, match="give a folder"):
        resolve(rule("nobody/whisper-of-nothing"))


def test_a_whisper_of_one_language_is_told_none(whisper: Path, tmp_path: Path) -> None:
    folder = make_whisper(tmp_path / "whisper")
    config = json.loads((folder / "generation_config.json").read_text())
    config["is_multilingual"] = False
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert Transcriber(rule(folder), resolve(rule(folder)), "sw", "cpu")
