"""Plain corpora of recordings: what is built of which file, and what is listed instead."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

import unitcorpus
from checkpoints_hubert import make_hubert
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.tar import scan
from unitcorpus.shards.verify import verify


def sweep(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """A rising tone: no two stretches of it are equal."""
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (150 + 40 * seed + 60 * times) * times)
    return wave.astype(np.float32)


def save(path: Path, wave: NDArray[Any], rate: int = 16_000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    return path


def build(source: Path, out: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(corpus.json, samples by id) of demo/audio over a source; the corpus verifies."""
    recipe = load_recipe("demo/audio", (f"source.path={source}", "validation=0", *overrides))
    corpus = build_corpus(recipe, out).corpus
    assert corpus is not None
    assert verify(out) == []
    opened = unitcorpus.open(out)
    return corpus, {s.meta["id"]: s for split in corpus["splits"] for s in opened.samples(split)}


def rejects(out: Path) -> dict[str, str]:
    """The reason for each id or place that was listed."""
    files = [out / "plan/rejects.jsonl", *sorted((out / "rejects").glob("*.jsonl"))]
    found = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return {row.get("id") or row["where"]: row["reason"] for row in found}


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "opus"])
def test_every_format_gives_its_length_in_units(ending: str, tmp_path: Path) -> None:
    kind: Any = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(ending, {})
    save(tmp_path / f"in/a.{ending}", sweep(1.5, 16_000), **kind)
    _, samples = build(tmp_path / "in", tmp_path / "c")
    assert samples["a"].meta["num_samples"] == 24_000
    assert samples["a"].durations.sum() == (24_000 - 400) // 320 + 1


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 6), (8_000, 1)])
def test_other_rates_and_channels_are_mixed_and_resampled(
    rate: int, channels: int, tmp_path: Path
) -> None:
    """The kept audio is torchaudio's resampling of the mean of the channels."""
    wave = np.stack([sweep(1.0, rate, n) for n in range(channels)], axis=1)
    save(tmp_path / "in/a.wav", wave, rate, subtype="FLOAT")
    corpus, samples = build(tmp_path / "in", tmp_path / "c", "shards.audio=flac")
    mean = torch.from_numpy(wave.mean(axis=1))
    due = torchaudio.functional.resample(mean, rate, 16_000).numpy()
    [(_, members)] = scan((tmp_path / "c/audio/train-000000.tar").read_bytes())
    heard, at = soundfile.read(BytesIO(members["flac"]), dtype="float32")
    assert (at, len(heard)) == (16_000, samples["a"].meta["num_samples"])
    assert np.abs(heard - due).max() < 1e-4
    assert corpus["speech"]["channels"] == "averaged"


def broken(root: Path) -> Path:
    """A folder in which two files are good, two odd, and the others cannot be used."""
    good = save(root / "good.flac", sweep(2.0, 16_000)).read_bytes()
    wav = save(root / "fine.wav", sweep(2.0, 16_000, 1)).read_bytes()
    mp3 = save(root / "cut_mp3.mp3", sweep(20.0, 16_000)).read_bytes()
    (root / "cut_mp3.mp3").write_bytes(mp3[: len(mp3) // 2])
    (root / "zero.wav").write_bytes(b"")
    (root / "header.wav").write_bytes(wav[:44])
    (root / "cut_wav.wav").write_bytes(wav[: len(wav) // 2])
    (root / "cut_flac.flac").write_bytes(good[: len(good) // 2])
    (root / "text.wav").write_text("no sound, only words\n" * 40)
    spoilt = sweep(1.0, 16_000)
    spoilt[100] = np.nan
    save(root / "nan.wav", spoilt, subtype="FLOAT")
    save(root / "telephone.wav", sweep(1.0, 8_000), 8_000)
    save(root / "surround.wav", np.stack([sweep(1.0, 48_000)] * 6, axis=1), 48_000)
    save(root / "blink.wav", sweep(0.01, 16_000))
    save(root / "silence.flac", np.zeros(16_000))
    return root


UNUSABLE = {
    "zero": "unreadable_audio",
    "header": "truncated_audio",
    "cut_wav": "truncated_audio",
    "cut_flac": "unreadable_audio",
    "cut_mp3": "truncated_audio",
    "text": "unreadable_audio",
    "nan": "not_finite",
    "blink": "too_short",
    "silence": "silence",
}


def test_a_folder_with_broken_files_builds_the_others_and_lists_them(tmp_path: Path) -> None:
    root = broken(tmp_path / "in")
    corpus, samples = build(root, tmp_path / "c")
    assert set(samples) == {"good", "fine", "telephone", "surround"}
    assert rejects(tmp_path / "c") == UNUSABLE
    assert sum(corpus["rejected"].values()) == len(UNUSABLE)
    for path in (tmp_path / "c").rglob("*.jsonl"):
        assert str(tmp_path) not in path.read_text()


def test_low_rates_may_be_refused(tmp_path: Path) -> None:
    save(tmp_path / "in/low.wav", sweep(1.0, 8_000), 8_000)
    save(tmp_path / "in/fine.wav", sweep(1.0, 16_000))
    corpus, samples = build(tmp_path / "in", tmp_path / "c", "source.low_rate=reject")
    assert set(samples) == {"fine"}
    assert corpus["rejected"] == {"low_rate": 1}
    assert corpus["speech"]["low_rate"] == "reject"


def test_stretches_of_a_file_are_the_units_of_just_that_audio(tmp_path: Path) -> None:
    wave = sweep(70.0, 16_000)
    save(tmp_path / "in/long.flac", wave)
    spans = [(0.0, 2.0), (29.5, 31.25), (68.0, 70.05), (69.0, 71.0)]
    rows = [
        {"audio": "long.flac", "id": f"s{n}", "start": start, "end": end, "text": "la"}
        for n, (start, end) in enumerate(spans)
    ]
    (tmp_path / "in/list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus, samples = build(tmp_path / "in/list.jsonl", tmp_path / "c")
    assert corpus["rejected"] == {"past_the_end": 1}
    stored = soundfile.read(tmp_path / "in/long.flac", dtype="float32")[0]
    for n, (start, end) in enumerate(spans[:3]):
        cut = stored[round(start * 16_000) : round(end * 16_000)]
        save(tmp_path / f"cut/s{n}.wav", cut, subtype="FLOAT")
    _, alone = build(tmp_path / "cut", tmp_path / "d")
    for name, sample in samples.items():
        assert np.array_equal(sample.units, alone[name].units)
        assert np.array_equal(sample.durations, alone[name].durations)
        span = spans[int(name[1])]
        assert (sample.meta["start"], sample.meta["end"], sample.meta["text"]) == (*span, "la")


def test_hubert_units_of_recordings_have_the_published_number_of_frames(tmp_path: Path) -> None:
    model = make_hubert(tmp_path / "model")
    np.save(tmp_path / "book.npy", np.random.default_rng(0).normal(size=(20, 32)).astype("f4"))
    for n, seconds in enumerate((0.7, 1.31, 2.05)):
        save(tmp_path / f"in/speaker{n}/u{n}.flac", sweep(seconds, 16_000, n))
    hubert = f"{{extractor: hubert, model: '{model}', layer: 2, codebook: '{tmp_path}/book.npy'}}"
    _, samples = build(tmp_path / "in", tmp_path / "c", f"units={hubert}")
    assert len(samples) == 3
    for sample in samples.values():
        assert sample.durations.sum() == (sample.meta["num_samples"] - 400) // 320 + 1
