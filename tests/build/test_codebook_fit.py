"""`kmeans fit` and `kmeans import`, from a recipe or a file to a codebook that a build takes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import save_file

from checkpoints_hubert import make_kmeans_pickle
from unitcorpus.build import codebook
from unitcorpus.build.codebook import Fit, fit_codebook, import_codebook, write_features
from unitcorpus.build.recordings import Recordings
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe import load_recipe
from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.shards.inputs import Input, PlannedPart
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.units import EXTRACTORS
from unitcorpus.units.codebook import load_npy_codebook

COUNT = ("source.count=6",)


def unitcorpus(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unitcorpus", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fit_prints_what_it_made_and_a_build_takes_it(tmp_path: Path) -> None:
    out = tmp_path / "new" / "my.npy"
    words = ["--set", "source.count=4", "--frames", "600", "--init", "kmeans++", "--redos", "2"]
    made = unitcorpus("kmeans", "fit", "demo/stinystories", "--clusters", 20, "--out", out, *words)
    assert made.returncode == 0, made.stderr
    digest = sha256(out.read_bytes()).hexdigest()
    assert f"sha256      {digest}" in made.stdout
    assert "600 frames" in made.stdout
    for said in ("inertia", "entropy", "perplexity", "dead"):
        assert said in made.stdout
    assert (out.parent / "my.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.parent.iterdir()) == ["my.npy", "my.png"]
    built = unitcorpus(
        "build", "demo/stinystories", "--set", "source.count=4", "--set", f"units.codebook={out}",
        "--out", tmp_path / "c",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "c" / "codebook.npy").read_bytes() == out.read_bytes()


def test_a_fit_below_the_memory_needed_is_batched_and_nearly_as_good(tmp_path: Path) -> None:
    recipe = load_recipe("demo/stinystories", COUNT)
    whole = fit_codebook(recipe, Fit(16, frames=3000), "cpu", tmp_path / "a.npy")
    again = fit_codebook(recipe, Fit(16, frames=3000), "cpu", tmp_path / "b.npy")
    parts = fit_codebook(recipe, Fit(16, frames=3000, memory=40_000), "cpu", tmp_path / "c.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (tmp_path / "a.png").exists()
    assert whole.frames == again.frames == parts.frames == 3000
    assert parts.fitting.batched
    assert not whole.fitting.batched
    assert parts.fitting.inertia < 1.05 * whole.fitting.inertia


def test_features_of_recordings_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("demo/stinystories", COUNT).model_copy(update={"speech": None})
    object.__setattr__(recipe.source, "path", str(tmp_path))
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 16_000).astype(np.float32), 16_000, "FLOAT")
        part = PlannedPart(audio=path.name, audio_bytes=path.stat().st_size)
        rows.append(Input("", str(number), {"units": part}))
    (tmp_path / "1.wav").write_bytes(b"x" * rows[1].parts["units"].audio_bytes)  # unreadable
    monkeypatch.setattr(codebook, "_rows", lambda _: iter(rows))
    width, utterances = write_features(recipe, 10**6, "cpu", tmp_path / "features")
    assert utterances == 2
    features = np.fromfile(tmp_path / "features", np.float32).reshape(-1, width)
    extractor = EXTRACTORS["mfcc"](recipe.units, EXTRACTORS["mfcc"].resolve(recipe.units), "cpu")
    waves = Recordings(recipe.source, 16_000).read([rows[0].parts["units"], rows[2].parts["units"]])
    expected = [f.numpy() for f in extractor.features(waves)]  # type: ignore[arg-type]
    assert np.array_equal(features, np.concatenate(expected))


@pytest.mark.parametrize("name", ["folder", "my.bin", "my.png"])
def test_a_fit_into_what_is_no_npy_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    recipe = load_recipe("demo/stinystories", COUNT)
    with pytest.raises(UnitcorpusError, match="no name of a codebook"):
        fit_codebook(recipe, Fit(4), "cpu", tmp_path / name)


def test_import_takes_every_published_form_to_the_same_npy(tmp_path: Path) -> None:
    centroids = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", centroids)
    save_file({"centroids": centroids}, tmp_path / "b.safetensors")
    make_kmeans_pickle(tmp_path / "c.bin", centroids)
    make_kmeans_pickle(tmp_path / "d.bin", centroids, "joblib")
    for path in sorted(tmp_path.iterdir()):
        out = tmp_path / "out" / f"{path.name}.npy"
        book = import_codebook(str(path), sha256(path.read_bytes()).hexdigest(), out)
        assert book.sha256 == sha256(out.read_bytes()).hexdigest()
        assert np.array_equal(load_npy_codebook(out).centroids, centroids)
    made = unitcorpus("kmeans", "import", tmp_path / "d.bin", "--out", tmp_path / "e.npy")
    assert made.returncode == 0, made.stderr
    assert "20 clusters of width 6" in made.stdout
    assert f"sha256      {book.sha256}" in made.stdout


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_import_of_a_malicious_pickle_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(pickle.dumps(Attack(tmp_path / "done")))
    made = unitcorpus("kmeans", "import", bad, "--out", tmp_path / "out.npy")
    assert made.returncode == 2
    assert "asks for posix.system" in made.stderr
    assert len(made.stderr.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.bin"]


def test_import_checks_the_published_hash(tmp_path: Path) -> None:
    path = make_kmeans_pickle(tmp_path / "c.bin", np.ones((2, 2), np.float32))
    made = unitcorpus("kmeans", "import", path, "--out", tmp_path / "o.npy", "--sha256", "0" * 64)
    assert made.returncode == 2
    assert f"--sha256 asks for {'0' * 64}" in made.stderr


def test_a_long_recording_is_fitted_on_its_segments(tmp_path: Path) -> None:
    """Speech and a second of it, with a minute of hum: the hum is not fitted on."""
    section = EspeakSpeech()
    engine = EspeakEngine(section, EspeakEngine.resolve(section), "cpu")
    [said] = engine.synthesize([Utterance("a", "The boats did not come home.", "en-us", 0)])
    engine.close()
    assert isinstance(said, torch.Tensor)
    hum = 0.001 * np.sin(np.arange(60 * engine.sample_rate) / 50)
    (tmp_path / "in").mkdir()
    soundfile.write(
        tmp_path / "in/a.wav", np.concatenate([hum, said.numpy(), hum]), engine.sample_rate
    )
    given = (f"source.path={tmp_path}/in", "source.segments={}")
    width, count = write_features(load_recipe("demo/audio", given), 10**6, "cpu", tmp_path / "f")
    frames = (tmp_path / "f").stat().st_size // 4 // width
    seconds = len(said) / engine.sample_rate
    assert count == 1
    assert 0.8 * seconds < frames / 50 < seconds + 1


def test_a_stretch_of_a_file_is_fitted_on_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * 16_000)
    soundfile.write(tmp_path / "in/a.wav", noise, 16_000)
    row = '{"audio": "a.wav", "start": 2.0, "end": 4.0}'
    (tmp_path / "in/list.jsonl").write_text(row)
    recipe = load_recipe("demo/audio", (f"source.path={tmp_path}/in/list.jsonl",))
    width, _ = write_features(recipe, 10**6, "cpu", tmp_path / "f")
    assert (tmp_path / "f").stat().st_size // 4 // width == (2 * 16_000 - 400) // 320 + 1
