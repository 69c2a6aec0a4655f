"""The command that continues speech: prompts from shards and recordings, files, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import unitcorpus
from slam_model.generate import main
from slam_model.model import load_model
from slam_model.prompts import corpus_prompts, wav_prompts
from slam_model.tokens import BOS
from slam_model.vocoder import load_vocoder
from tiny import FAMILIES, random_units, write_corpus
from unitcorpus.build.run import build_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import Recipe
from vocoders import make_vocoder

PARTS = ("prompt", "chosen", "rejected")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wavs/ and a corpus that was built of them."""
    root: Path = tmp_path_factory.mktemp("recorded")
    (root / "wavs").mkdir()
    rows = []
    for n, name in enumerate("abc"):
        for m, part in enumerate(PARTS):
            times = np.arange(round((0.8 + n / 3) * 16_000)) / 16_000
            wave = 0.3 * np.sin(2 * np.pi * (200 + 90 * n + 40 * m) * times * (1 + times))
            soundfile.write(root / f"wavs/{name}_{part}.wav", wave, 16_000)
        rows.append({"id": name, **{part: f"wavs/{name}_{part}.wav" for part in PARTS}})
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "recorded",
        "source": {"kind": "manifest", "path": str(root / "pairs.jsonl")},
        "units": {"extractor": "mfcc"},
        "validation": 0,
    }
    build_corpus(Recipe.model_validate(recipe), root / "corpus")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 100 units, as the built-in codebook has them."""
    path: Path = tmp_path_factory.mktemp("checkpoint") / "llama"
    load_model(FAMILIES["llama"], vocab=102, context=64).save_pretrained(path)
    return path


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = [{"units": random_units(rng, n, 100)} for n in (90, 40, 100, 10)]
    return write_corpus(tmp_path / "stories", {"validation": rows}, size=100)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]


# --- prompts ----------------------------------------------------------------------------------


def test_recordings_become_the_units_that_a_build_makes_of_them(recorded: Path) -> None:
    corpus = unitcorpus.open(recorded / "corpus")
    samples = {sample.meta["id"]: sample for sample in corpus.samples()}
    for part in PARTS:
        paths = [recorded / f"wavs/{name}_{part}.wav" for name in "abc"]
        prompts = wav_prompts(paths, recorded / "corpus", seconds=None)
        assert prompts.ids == [f"{name}_{part}" for name in "abc"]
        for name, units in zip("abc", prompts.units, strict=True):
            assert units.tolist() == samples[name].part(part).tolist()


def test_seconds_of_a_recording_are_cut_before_it_is_encoded(
    recorded: Path, tmp_path: Path
) -> None:
    wave, rate = soundfile.read(recorded / "wavs/c_chosen.wav")
    soundfile.write(tmp_path / "cut.wav", wave[: rate // 2], rate)
    [cut] = wav_prompts([tmp_path / "cut.wav"], recorded / "corpus", None).units
    [found] = wav_prompts([recorded / "wavs/c_chosen.wav"], recorded / "corpus", 0.5).units
    assert found.tolist() == cut.tolist()


def test_a_samples_beginning_is_what_starts_within_its_seconds(recorded: Path) -> None:
    corpus = unitcorpus.open(recorded / "corpus")
    frame_rate = corpus.unit_spec["frame_rate"]
    for seconds in (0.1, 0.3, 0.55, 60.0):
        prompts = corpus_prompts(recorded / "corpus", "train", seconds)
        for key, units in zip(prompts.ids, prompts.units, strict=True):
            durations = corpus[key].part_durations("prompt")
            assert durations is not None
            frames = np.repeat(np.arange(len(durations)), durations)
            last = frames[: round(seconds * frame_rate)][-1]
            assert units.tolist() == corpus[key].part("prompt")[: last + 1].tolist()


def test_of_right_and_wrong_the_right_are_continued(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{side: random_units(rng, 30) for side in ("right", "wrong")} for _ in range(9)]
    write_corpus(tmp_path / "sets", {"test": rows})
    prompts = corpus_prompts(tmp_path / "sets", "test", seconds=0.4, limit=8)
    assert [one.tolist() for one in prompts.units] == [r["right"][:10].tolist() for r in rows[:8]]
    assert [one[0] for one in prompts.tokens()] == [BOS] * 8


# --- the command ------------------------------------------------------------------------------


def test_samples_are_continued(checkpoint: Path, stories: Path, tmp_path: Path) -> None:
    given = [checkpoint, "--data", stories, "--out", tmp_path / "out", "--limit", 3, "--seed", 7]
    assert main([*map(str, given), "--tokens", "12", "--prompt-seconds", "2"]) == 0
    found = lines(tmp_path / "out")
    samples = list(unitcorpus.open(stories).samples("validation"))[:3]
    assert [one["id"] for one in found] == [sample.key for sample in samples]
    for one, sample in zip(found, samples, strict=True):
        assert one["prompt"] == sample.units[:50].tolist()
        assert one["ended"] or len(one["continuation"]) == 12
        assert all(0 <= unit < 100 for unit in one["continuation"])
        assert one["seed"] == 7
        assert one["settings"]["temperature"] == 0.8
    assert not list((tmp_path / "out").glob("*.wav"))


def test_batches_change_no_byte(checkpoint: Path, stories: Path, tmp_path: Path) -> None:
    files = []
    for batch in ("1", "3", "4"):
        out = tmp_path / batch
        words = [checkpoint, "--data", stories, "--out", out, "--batch", batch, "--tokens", 10]
        main([str(word) for word in words])
        files.append((out / "generations.jsonl").read_bytes())
    assert len(set(files)) == 1


def test_recordings_are_continued_and_spoken(
    checkpoint: Path, recorded: Path, tmp_path: Path
) -> None:
    vocoder = make_vocoder(tmp_path, units=100)
    wavs = [recorded / "wavs/a_prompt.wav", recorded / "wavs/b_chosen.wav"]
    given = [*wavs, "--units", recorded / "corpus", "--vocoder", vocoder, "--out", tmp_path / "out"]
    assert main([str(checkpoint), *map(str, given), "--tokens", "5", "--temperature", "0"]) == 0
    for one, wav in zip(lines(tmp_path / "out"), wavs, strict=True):
        assert one["id"] == wav.stem
        wave, rate = soundfile.read(tmp_path / "out" / f"{wav.stem}.wav", dtype="float32")
        spoken = load_vocoder(vocoder)(np.array(one["prompt"] + one["continuation"]))
        assert rate == 16_000
        torch.testing.assert_close(torch.from_numpy(wave), spoken, atol=1 / 32768, rtol=0)


# --- refused ----------------------------------------------------------------------------------


def refused(match: str, *words: object) -> None:
    with pytest.raises(UnitcorpusError, match=match) as caught:
        main([str(word) for word in words])
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_together_is_refused(
    checkpoint: Path, stories: Path, recorded: Path, tmp_path: Path
) -> None:
    out, wav = ("--out", tmp_path / "out"), recorded / "wavs/a_prompt.wav"
    refused("either recordings as prompts, or --data", checkpoint, *out)
    refused("either recordings as prompts, or --data", checkpoint, wav, "--data", stories, *out)
    refused("--units CORPUS is needed", checkpoint, wav, *out)
    refused("were made elsewhere", checkpoint, wav, "--units", stories, *out)
    refused("no split 'dev'", checkpoint, "--data", stories, "--split", "dev", *out)
    small = make_vocoder(tmp_path)
    refused(
        "speaks 60 units, the model 100", checkpoint, "--data", stories, "--vocoder", small, *out
    )
    other = tmp_path / "other"
    load_model(FAMILIES["llama"], vocab=52, context=64).save_pretrained(other)
    refused("vocabulary of 52 tokens, the corpus one of 102", other, "--data", stories, *out)
    assert not (tmp_path / "out").exists()


def test_recordings_that_cannot_be_used_are_refused(
    checkpoint: Path, recorded: Path, tmp_path: Path
) -> None:
    def with_prompts(match: str, *paths: Path) -> None:
        refused(match, checkpoint, *paths, "--units", recorded / "corpus", "--out", tmp_path / "o")

    soundfile.write(tmp_path / "two.wav", np.zeros((16_000, 2)), 16_000)
    soundfile.write(tmp_path / "low.wav", np.zeros(8_000), 8_000)
    (tmp_path / "text.wav").write_text("no sound")
    with_prompts("two.wav has 2 channels", tmp_path / "two.wav")
    with_prompts("low.wav has 8000 Hz", tmp_path / "low.wav")
    with_prompts("cannot read the prompt .*text.wav", tmp_path / "text.wav")
    with_prompts("cannot read the prompt .*none.wav", tmp_path / "none.wav")
    same = recorded / "wavs/a_prompt.wav"
    with_prompts("two prompts are called a_prompt", same, same)


def test_units_of_another_codebook_or_extractor_are_refused(recorded: Path, tmp_path: Path) -> None:
    wav = recorded / "wavs/a_prompt.wav"
    for name in ("corpus.json", "index.json"):
        (tmp_path / name).write_bytes((recorded / "corpus" / name).read_bytes())
    np.save(tmp_path / "codebook.npy", np.ones((100, 39), np.float32))
    with pytest.raises(UnitcorpusError, match="is not the codebook of recorded"):
        wav_prompts([wav], tmp_path, None)
    with pytest.raises(UnitcorpusError, match="units section that this version reads"):
        wav_prompts([wav], recorded / "corpus", None, hubert="somewhere")


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    words = ["nowhere/x", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "slam_model.generate", *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "not a finished corpus" in done.stderr
