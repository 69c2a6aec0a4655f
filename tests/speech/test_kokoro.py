"""The Kokoro engine: kokoro's own audio, each a function of its utterance alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch

from checkpoints import make_hub_cache, make_kokoro
from unitcorpus.build.memory import out_of_memory
from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import KokoroSpeech
from unitcorpus.seeds import seed_of
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.kokoro import KokoroEngine, machine_failed
from unitcorpus.speech.phonemes import SPACY_MODEL, Phonemizer

VOICES = ("af_heart", "bf_emma", "ef_dora")
SPANISH = "Hola, un perro."
LONG = "The old fox ran, and the young owl sat. " * 18 + "\nThe end."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kokoro(tmp_path_factory.mktemp("kokoro") / "small")


@pytest.fixture(scope="module")
def section(folder: Path) -> KokoroSpeech:
    return KokoroSpeech(model=str(folder), voices=VOICES, g2p="espeak", speed=4.0)


@pytest.fixture(scope="module")
def engine(section: KokoroSpeech) -> KokoroEngine:
    return KokoroEngine(section, KokoroEngine.resolve(section), "cpu")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from kokoro import KModel

    config, weights = folder / "config.json", folder / "kokoro-v1_0.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KModel(repo_id="small", config=str(config), model=str(weights)).eval()


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The checkpoint again, as links, to change a file of."""
    return make_hub_cache(tmp_path, "some/copy", folder)


def say(text: str, voice: str = "af_heart", seed: int = 1) -> Utterance:
    return Utterance(id=text[:9], text=text, voice=voice, seed=seed)


def wave_of(engine: KokoroEngine, utterance: Utterance) -> torch.Tensor:
    [wave] = engine.synthesize([utterance])
    assert isinstance(wave, torch.Tensor)
    return wave


def replace(path: Path, content: str | bytes) -> None:
    path.unlink()
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_the_audio_of_a_text_is_that_of_kokoros_pipeline(
    engine: KokoroEngine, model: Any, folder: Path
) -> None:
    from kokoro import KPipeline

    pipeline = KPipeline("e", repo_id="hexgrad/Kokoro-82M", model=model)
    torch.manual_seed(seed_of(5, "piece", "0"))
    [theirs] = pipeline(SPANISH, voice=str(folder / "voices" / "ef_dora.pt"), speed=4.0)
    ours = wave_of(engine, say(SPANISH, "ef_dora", seed=5))
    assert ours.dtype == torch.float32
    assert ours.shape == theirs.audio.shape
    torch.testing.assert_close(ours, theirs.audio, rtol=0, atol=1e-5)
    assert 0.05 < ours.abs().max() <= 1


def test_the_audio_of_a_long_text_is_that_of_its_pieces_in_order(
    engine: KokoroEngine, model: Any, folder: Path
) -> None:
    pack = torch.load(folder / "voices" / "bf_emma.pt", weights_only=True)
    pieces = Phonemizer("b", "espeak", model.vocab)(LONG)
    assert len(pieces) == 3
    parts = []
    for i, piece in enumerate(pieces):
        torch.manual_seed(seed_of(5, "piece", str(i)))
        parts.append(model(piece.phonemes, pack[len(piece.phonemes) - 1], 4.0))
    ours = wave_of(engine, say(LONG, "bf_emma", seed=5))
    torch.testing.assert_close(ours, torch.cat(parts), rtol=0, atol=1e-5)


def test_what_was_begun_ahead_changes_nothing_and_is_done_once(engine: KokoroEngine) -> None:
    first, second = say("One fox."), say("Two owls sat.", "bf_emma")
    expected = wave_of(engine, first), wave_of(engine, second)
    engine.ahead([first, second])
    begun = dict(engine._begun)
    engine.ahead([second])
    assert engine._begun == begun
    assert torch.equal(wave_of(engine, first), expected[0])
    assert list(engine._begun) == [second]
    assert torch.equal(wave_of(engine, second), expected[1])
    assert not engine._begun


def test_neither_order_nor_neighbours_nor_the_generator_matter(engine: KokoroEngine) -> None:
    utterances = [say("One fox."), say("A\nB", "bf_emma"), say("Uno, dos.", "ef_dora", 3)]
    alone = [wave_of(engine, utterance) for utterance in utterances]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    together = engine.synthesize(utterances)
    backwards = engine.synthesize(utterances[::-1])[::-1]
    assert torch.equal(torch.get_rng_state(), before)
    for wave, again, yet_again in zip(alone, together, backwards, strict=True):
        assert isinstance(again, torch.Tensor)
        assert isinstance(yet_again, torch.Tensor)
        assert torch.equal(wave, again)
        assert torch.equal(wave, yet_again)


def test_the_seed_changes_the_noise_and_nothing_else(engine: KokoroEngine) -> None:
    first, second = (wave_of(engine, say("One fox.", seed=seed)) for seed in (1, 2))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_a_text_without_phonemes_is_rejected_and_its_neighbours_are_not(
    engine: KokoroEngine,
) -> None:
    texts = ["One fox.", "", "...!!!", " — ", "Two owls."]
    first, *silent, last = engine.synthesize([say(text) for text in texts])
    assert [r.reason for r in silent if isinstance(r, Reject)] == ["no_phonemes"] * 3
    assert isinstance(first, torch.Tensor)
    assert isinstance(last, torch.Tensor)
    assert torch.equal(first, wave_of(engine, say("One fox.")))
    assert torch.equal(last, wave_of(engine, say("Two owls.")))


@pytest.mark.parametrize("half", [slice(0, 128), slice(128, 256)], ids=["decoder", "predictor"])
def test_a_text_that_the_model_fails_on_is_rejected(copy: Path, half: slice) -> None:
    """A style of NaN: in the decoder the samples are not finite, in the predictor there is no
    number of frames. Only texts of its length fail."""
    path = copy / "voices" / "af_heart.pt"
    pack = torch.load(path, weights_only=True)
    path.unlink()
    pack[:5, :, half] = torch.nan
    torch.save(pack, path)
    section = KokoroSpeech(model=str(copy), g2p="espeak", speed=4.0)
    engine = KokoroEngine(section, KokoroEngine.resolve(section), "cpu")
    bad, good = engine.synthesize([say("A."), say("A fox ran.")])
    assert isinstance(bad, Reject)
    assert bad.reason == "engine_error"
    assert "\n" not in bad.detail
    assert isinstance(good, torch.Tensor)


def test_running_out_of_memory_is_not_the_texts_fault() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert machine_failed(caught.value)
    assert out_of_memory(caught.value)
    library = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(library)):
        assert machine_failed(error)
        assert out_of_memory(error)
    assert not machine_failed(RuntimeError("repeats can not be negative"))


def test_a_plan_records_what_the_audio_depends_on(section: KokoroSpeech, folder: Path) -> None:
    resolved = KokoroEngine.resolve(section)
    assert resolved["engine"] == "kokoro"
    assert resolved["package"] == version("kokoro")
    assert resolved["sample_rate"] == KokoroEngine.sample_rate == 24_000
    assert resolved["g2p"] == "espeak"
    assert resolved["revision"].startswith("sha256:")
    assert str(folder) not in json.dumps(resolved)


def test_a_plan_records_the_g2p_that_auto_means_here(folder: Path) -> None:
    installed = spacy.util.is_package(SPACY_MODEL)
    resolved = KokoroEngine.resolve(KokoroSpeech(model=str(folder), voices=("af_heart",)))
    assert resolved["g2p"] == ("misaki" if installed else "espeak")
    assert (SPACY_MODEL in resolved) == installed


def test_a_worker_with_another_version_says_so(section: KokoroSpeech) -> None:
    resolved = KokoroEngine.resolve(section) | {"misaki": "0.1"}
    with pytest.raises(UnitcorpusError, match=r"planned with misaki 0\.1, but here it is"):
        KokoroEngine(section, resolved, "cpu")


@pytest.mark.skipif(spacy.util.is_package(SPACY_MODEL), reason=f"{SPACY_MODEL} is installed")
def test_a_worker_without_the_planned_g2p_says_so(section: KokoroSpeech) -> None:
    resolved = KokoroEngine.resolve(section) | {"g2p": "misaki"}
    with pytest.raises(UnitcorpusError, match=f"spaCy's {SPACY_MODEL}, which is not installed"):
        KokoroEngine(section, resolved, "cpu")


def test_the_revision_covers_config_weights_and_the_voices_used(copy: Path) -> None:
    section = KokoroSpeech(model=str(copy), g2p="espeak")
    planned = KokoroEngine.resolve(section)
    torch.save(torch.zeros(510, 1, 256), copy / "voices" / "af_new.pt")
    assert KokoroEngine.resolve(section) == planned
    config = (copy / "config.json").read_text("utf-8")
    replace(copy / "config.json", config + " ")
    assert KokoroEngine.resolve(section)["revision"] != planned["revision"]
    with pytest.raises(
        UnitcorpusError, match=r"planned with revision sha256:.*, but here it is sha256:"
    ):
        KokoroEngine(section, planned, "cpu")


def test_an_unknown_voice_names_the_voices_there_are(folder: Path) -> None:
    section = KokoroSpeech(model=str(folder), voices=("af_haert",))
    with pytest.raises(UnitcorpusError) as caught:
        KokoroEngine.resolve(section)
    assert str(caught.value) == (
        f"speech.voices: '{folder}' has no voice 'af_haert' (did you mean 'af_heart'?); "
        "there are af_heart, am_fenrir, bf_emma, bm_george, ef_dora"
    )


def test_a_voice_of_no_language_needs_one(folder: Path) -> None:
    with pytest.raises(UnitcorpusError, match=r"'xx' is none of Kokoro's .*set speech.language"):
        KokoroEngine.resolve(KokoroSpeech(model=str(folder), voices=("xx",)))
    with pytest.raises(UnitcorpusError, match="Kokoro has no 'en'; its codes are a, b, e, f"):
        KokoroEngine.resolve(KokoroSpeech(model=str(folder), language="en"))


def test_the_language_of_the_recipe_goes_before_the_voices(folder: Path, model: Any) -> None:
    section = KokoroSpeech(model=str(folder), language="e", voices=("af_heart",))
    engine = KokoroEngine(section, KokoroEngine.resolve(section), "cpu")
    [piece] = Phonemizer("e", "espeak", model.vocab)(SPANISH)
    pack = torch.load(folder / "voices" / "af_heart.pt", weights_only=True)
    torch.manual_seed(seed_of(1, "piece", "0"))
    spanish = model(piece.phonemes, pack[len(piece.phonemes) - 1])
    torch.testing.assert_close(wave_of(engine, say(SPANISH)), spanish, rtol=0, atol=1e-5)


def _truncate(copy: Path) -> None:
    replace(copy / "config.json", "{")


def _widen(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text("utf-8"))
    replace(copy / "config.json", json.dumps(config | {"n_token": 200}))


def _empty(copy: Path) -> None:
    (copy / "kokoro-v1_0.pth").unlink()
    torch.save({"bert_encoder": {}}, copy / "kokoro-v1_0.pth")


def _garble(copy: Path) -> None:
    replace(copy / "kokoro-v1_0.pth", b"not weights")


@pytest.mark.parametrize("damage", [_truncate, _widen, _empty, _garble])
def test_files_that_make_no_model_are_one_line(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)
    section = KokoroSpeech(model=str(copy), g2p="espeak")
    with pytest.raises(UnitcorpusError, match="make no model of the kokoro package") as caught:
        KokoroEngine(section, KokoroEngine.resolve(section), "cpu")
    assert "\n" not in str(caught.value)


def test_a_voice_file_that_is_no_voice_is_one_line(copy: Path) -> None:
    replace(copy / "voices" / "af_heart.pt", b"RIFF")
    section = KokoroSpeech(model=str(copy), g2p="espeak")
    with pytest.raises(UnitcorpusError, match=r"voices/af_heart.pt of .* is no voice of Kokoro"):
        KokoroEngine(section, KokoroEngine.resolve(section), "cpu")


def test_a_folder_that_is_none_or_is_incomplete_is_one_line(copy: Path, tmp_path: Path) -> None:
    missing = KokoroSpeech(model=str(tmp_path / "nowhere"))
    with pytest.raises(UnitcorpusError, match=r"there is no folder .* a Kokoro folder holds"):
        KokoroEngine.resolve(missing)
    (copy / "kokoro-v1_0.pth").unlink()
    with pytest.raises(UnitcorpusError, match=r"no kokoro-v1_0.pth in .* a Kokoro folder holds"):
        KokoroEngine.resolve(KokoroSpeech(model=str(copy), g2p="espeak"))


def test_a_name_that_can_be_no_repository_is_one_line() -> None:
    with pytest.raises(UnitcorpusError, match="neither a folder here nor a repository"):
        KokoroEngine.resolve(KokoroSpeech(model="no/such/repository", g2p="espeak"))


OFFLINE = """
import hashlib, json
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import KokoroSpeech
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.kokoro import KokoroEngine

section = KokoroSpeech(voices=("af_heart",), g2p="espeak", speed=4.0)
resolved = KokoroEngine.resolve(section)
utterance = Utterance("1", "Á fox.", "af_heart", 1)
[wave] = KokoroEngine(section, resolved, "cpu").synthesize([utterance])
digest = hashlib.sha256(wave.numpy().tobytes()).hexdigest()
errors = []
for change in ({"voices": ("af_sky",)}, {"revision": "v9"}, {"model": "some/other"}):
    try:
        KokoroEngine.resolve(section.model_copy(update=change))
    except UnitcorpusError as error:
        errors.append(str(error))
print(json.dumps([resolved["revision"], digest, errors]))
"""


def test_a_cached_repository_of_the_hub_speaks_offline_and_quietly(
    folder: Path, tmp_path: Path, engine: KokoroEngine
) -> None:
    commit = "f3ff3571791e39611d31c381e3a41a3af07b4987"
    make_hub_cache(tmp_path, "hexgrad/Kokoro-82M", folder, commit)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    revision, digest, (voice, commit_of, model) = json.loads(done.stdout)
    assert revision == commit
    wave = wave_of(engine, say("Á fox."))
    assert digest == hashlib.sha256(wave.numpy().tobytes()).hexdigest()
    advice = "the Hub cannot be reached: run `hf download "
    assert voice.startswith("speech.voices: 'af_sky' of 'hexgrad/Kokoro-82M' is not in the")
    assert f"which has af_heart, am_fenrir, bf_emma, bm_george, ef_dora, and {advice}" in voice
    assert commit_of.startswith("speech.model: config.json of 'hexgrad/Kokoro-82M' is not in the")
    assert f"{advice}hexgrad/Kokoro-82M --revision v9`" in commit_of
    assert f"{advice}some/other`" in model


def test_the_same_seed_makes_the_same_checkpoint(folder: Path, tmp_path: Path) -> None:
    again = make_kokoro(tmp_path / "again")
    for name in ("voices/af_heart.pt", "kokoro-v1_0.pth"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
