"""Test sets end to end: recordings become pairs of units, each those of its file alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import unitcorpus
from conftest import Digests
from unitcorpus.build.estimate import estimate
from unitcorpus.build.plan import read_plan
from unitcorpus.build.request import resolve
from unitcorpus.build.run import build_corpus, plan_or_resume
from unitcorpus.build.stages import set_numerics
from unitcorpus.build.worker import Worker
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.reader import Corpus
from unitcorpus.shards.verify import verify
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import load_npy_codebook
from unitcorpus.units.kmeans import Quantiser
from unitcorpus.units.runs import expand

MFCC = "units={extractor: mfcc, codebook: demo}"
RATE = 16_000


def sound(seed: int, seconds: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    """Tones that change every 50 ms, so that there are many units."""
    random = np.random.default_rng(seed)
    step = rate // 20
    pitches = np.repeat(random.uniform(80, 3000, int(seconds * 20) + 1), step)
    phase = 2 * np.pi * np.cumsum(pitches) / rate
    noise = random.normal(0, 0.01, len(phase))
    return (0.3 * np.sin(phase) + noise)[: int(seconds * rate)].astype(np.float32)


def write(path: Path, wave: NDArray[np.float32], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)


def salmon(root: Path, pairs: int = 6) -> Path:
    """Two tasks; lengths differ, and one pair is at 24 kHz."""
    for i in range(pairs):
        for option in (0, 1):
            task = ("rir_consistency", "bg_alignment")[i % 2]
            rate = 24_000 if i == 3 else RATE
            wave = sound(2 * i + option, 0.3 + 0.1 * i, rate)
            write(root / task / f"sample_{i}_{option}.wav", wave, rate)
    return root


def build(name: str, data: Path, root: Path, *overrides: str) -> Corpus:
    recipe = load_recipe(name, [f"source.path={data}", MFCC, *overrides])
    assert build_corpus(recipe, root).corpus is not None
    assert verify(root) == []
    return unitcorpus.open(root)


def units_of(path: Path, root: Path) -> NDArray[np.uint16]:
    """The frame-level units of one file alone, by the extractor and the codebook themselves."""
    plan = read_plan(root, load_recipe("salmon", [MFCC]))
    set_numerics(1)
    extractor: Any = EXTRACTORS["mfcc"](plan.recipe.units, plan.units["extractor"], "cpu")
    wave, rate = soundfile.read(path, dtype="float32")
    heard = torch.from_numpy(wave)
    if rate != RATE:
        import torchaudio

        heard = torchaudio.functional.resample(heard, rate, RATE)
    [features] = extractor.features([heard])
    quantised: NDArray[np.uint16] = Quantiser(load_npy_codebook(root / "codebook.npy"), "cpu")(
        features
    )
    return quantised


def rejected(root: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.glob("rejects/*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def test_each_part_holds_the_units_of_its_file_alone(tmp_path: Path, digests: Digests) -> None:
    data, root = salmon(tmp_path / "data"), tmp_path / "c"
    corpus = build("salmon", data, root)
    assert corpus.splits == ["test"]
    assert len(corpus) == 6
    for sample in corpus:
        task, number = sample.meta["id"].split("-")
        assert sample.meta["group"] == task
        for option, part in enumerate(("right", "wrong")):
            durations = sample.part_durations(part)
            assert durations is not None
            made = expand(sample.part(part), durations)
            due = units_of(data / task / f"sample_{number}_{option}.wav", root)
            assert np.array_equal(made, due)
            assert len(np.unique(made)) > 3

    again = tmp_path / "again"
    build("salmon", data, again, "shards.samples=1000")
    assert digests(again) == digests(root)


def test_a_build_holds_no_place_of_this_machine(tmp_path: Path) -> None:
    data, root = salmon(tmp_path / "secret-place" / "data"), tmp_path / "c"
    write(data / "rir_consistency/sample_99_0.wav", sound(0))
    (data / "rir_consistency/sample_98_0.wav").write_bytes(b"not audio")
    write(data / "rir_consistency/sample_98_1.wav", sound(1))
    build("salmon", data, root)
    for path in root.rglob("[!.]*"):  # a name with a dot is this machine's, not the corpus's
        assert path.is_dir() or b"secret-place" not in path.read_bytes(), path


def test_recordings_that_cannot_be_used_are_rejects_that_name_the_file(tmp_path: Path) -> None:
    data, root = tmp_path / "it's data", tmp_path / "c"
    for name in ("good", "broken", "empty", "narrow", "stereo", "quiet", "short"):
        for number, mark in enumerate(("correct", "incorrect")):
            write(data / f"{number}_{name}_{mark}.wav", sound(number))
    (data / "1_broken_incorrect.wav").write_bytes(b"RIFF is not enough")
    (data / "1_empty_incorrect.wav").write_bytes(b"")
    write(data / "0_narrow_correct.wav", sound(3, rate=8000), 8000)
    write(data / "1_stereo_incorrect.wav", np.stack([sound(3), sound(4)], axis=1))
    write(data / "0_quiet_correct.wav", np.zeros(RATE, np.float32))
    write(data / "0_short_correct.wav", sound(3)[:300])
    corpus = build("spoken_storycloze", data, root, "shards.samples=2")
    assert [sample.meta["id"] for sample in corpus] == ["good"]
    lines = {line["id"]: (line["reason"], line["detail"]) for line in rejected(root)}
    assert {name: reason for name, (reason, _) in lines.items()} == {
        "broken": "unreadable_audio",
        "empty": "unreadable_audio",
        "narrow": "low_rate",
        "stereo": "not_mono",
        "quiet": "silence",
        "short": "too_short",
    }
    for name, part, mark in (
        ("broken", "wrong", "1_broken_incorrect"),
        ("empty", "wrong", "1_empty_incorrect"),
        ("narrow", "right", "0_narrow_correct"),
        ("stereo", "wrong", "1_stereo_incorrect"),
        ("quiet", "right", "0_quiet_correct"),
    ):
        detail = lines[name][1]
        assert detail.startswith(f"{part}: {mark}.wav")
        assert str(tmp_path) not in detail
    assert lines["narrow"][1].endswith("8000 Hz, the extractor 16000")


def test_a_recording_that_changed_since_the_plan_is_never_built(tmp_path: Path) -> None:
    data, root = salmon(tmp_path / "data", 2), tmp_path / "c"
    recipe = load_recipe("salmon", [f"source.path={data}", MFCC])
    root.mkdir()
    plan = plan_or_resume(resolve(recipe), root, lambda *_: None)
    file = data / "bg_alignment/sample_1_0.wav"
    write(file, sound(7, 2.0))
    with pytest.raises(UnitcorpusError, match=r"the source changed"):
        Worker(plan, root).build(plan.shards[0])
    file.unlink()
    with pytest.raises(UnitcorpusError, match=r"sample_1_0\.wav: No such file"):
        Worker(plan, root).build(plan.shards[0])
    with pytest.raises(UnitcorpusError, match=r"source\.files"):  # what a rerun says
        build_corpus(recipe, root)
    assert not list(root.glob("receipts/*"))


def test_a_plan_foretells_a_recorded_set(tmp_path: Path) -> None:
    data, root = salmon(tmp_path / "data"), tmp_path / "c"
    corpus = build("salmon", data, root)
    found = estimate(load_recipe("salmon", [f"source.path={data}", MFCC]), 6)
    units = sum(len(sample.part(part)) for sample in corpus for part in ("right", "wrong"))
    assert (found.splits, found.units) == ({"test": 6}, units)


def test_the_texts_of_gold_csv_are_in_the_samples(tmp_path: Path) -> None:
    data = tmp_path / "zr"
    rows = ["id,filename,voice,type,subtype,transcription,correct"]
    for number, (ident, correct) in enumerate([(0, 1), (0, 0), (1, 0), (1, 1)]):
        write(data / f"syntactic/dev/f{number}.wav", sound(number))
        rows.append(f"{ident},f{number},W,agr,s,a {number},{correct}")
    (data / "syntactic/dev/gold.csv").write_text("\n".join(rows) + "\n")
    corpus = build("sblimp", data, tmp_path / "c")
    said = {s.meta["id"]: (s.meta["right_text"], s.meta["wrong_text"]) for s in corpus}
    assert said == {"agr-s-0-W": ("a 0", "a 1"), "agr-s-1-W": ("a 3", "a 2")}
    assert {(s.meta["voice"], s.meta["group"]) for s in corpus} == {("W", "agr")}


def test_built_in_pairs_are_spoken_by_one_voice_each(tmp_path: Path) -> None:
    root = tmp_path / "c"
    recipe = load_recipe("demo/contrasts", ["source.count=6", "shards.samples=4"])
    assert build_corpus(recipe, root).corpus is not None
    assert verify(root) == []
    corpus = unitcorpus.open(root)
    assert len(corpus) == 6
    assert {sample.meta["group"] for sample in corpus} == {"ending", "order"}
    for sample in corpus:
        assert sample.meta["voice"] in recipe.speech.voices  # type: ignore[union-attr]
        assert not np.array_equal(sample.part("right"), sample.part("wrong"))
