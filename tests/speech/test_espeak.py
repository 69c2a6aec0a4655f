"""The espeak engine: the library's own samples, the same whatever was spoken before."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import espeakng_loader
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unitcorpus.errors import Reject, UnitcorpusError
from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine

SECTION = EspeakSpeech(voices=("en-us", "en-us+f3", "de"))
STORY = "The old fox knew a path, and every day he went a little further along it. " * 12
TEXTS = ["Once upon a time there was a fox.", "Hi!", "The well was deep, and the day was long."]


@pytest.fixture(scope="module")
def resolved() -> dict[str, object]:
    return EspeakEngine.resolve(SECTION)


@pytest.fixture(scope="module")
def engine(resolved: dict[str, object]) -> Iterator[EspeakEngine]:
    engine = EspeakEngine(SECTION, resolved, "cpu")
    yield engine
    engine.close()


def utterance(text: str, voice: str = "en-us", seed: int = 0) -> Utterance:
    return Utterance(id="u", text=text, voice=voice, seed=seed)


def spoken(engine: EspeakEngine, text: str, voice: str = "en-us", seed: int = 0) -> torch.Tensor:
    (wave,) = engine.synthesize([utterance(text, voice, seed)])
    assert isinstance(wave, torch.Tensor), wave
    return wave


def rejected(engine: EspeakEngine, text: str) -> Reject:
    (entry,) = engine.synthesize([utterance(text)])
    assert isinstance(entry, Reject)
    return entry


# --- the samples ------------------------------------------------------------------------------

# The library used directly: a fresh process, one text. argv: library, data, voice, text, flags.
DIRECT = """
    import ctypes, sys
    library, data, voice, text, flags = sys.argv[1:]
    espeak = ctypes.CDLL(library)
    espeak.espeak_Initialize(2, 0, data.encode(), 0)
    form = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def write(wave, count, events):
        sys.stdout.buffer.write(ctypes.string_at(wave, 2 * count) if wave else b"")
        return 0
    kept = form(write)
    espeak.espeak_SetSynthCallback(kept)
    assert espeak.espeak_SetVoiceByName(voice.encode()) == 0
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(0))
    espeak.espeak_Synth(text.encode(), ctypes.c_size_t(99999), 0, 1, 0, int(flags, 16), None, None)
"""


def direct(text: str, voice: str, flags: int) -> torch.Tensor:
    places = [espeakng_loader.get_library_path(), espeakng_loader.get_data_path()]
    command = [sys.executable, "-c", textwrap.dedent(DIRECT), *places, voice, text, hex(flags)]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return torch.from_numpy(np.frombuffer(raw, np.int16).astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        ("en-us", "English (America)"),
        ("en-us+f3", "English (America)+f3"),
        ("en-gb", "gmw/en"),
        ("de", "de"),
    ],
)
def test_samples_are_those_of_the_library_in_a_fresh_process(
    engine: EspeakEngine, voice: str, name: str
) -> None:
    text = f"{STORY} {TEXTS[0]}"
    assert torch.equal(spoken(engine, text, voice), direct(text, name, flags=0x1001))


@pytest.mark.parametrize("text", ["<b>hi</b> you", "say [[h@l'oU]] now"])
def test_markup_is_spoken_as_text(engine: EspeakEngine, text: str) -> None:
    wave = spoken(engine, text)
    assert torch.equal(wave, direct(text, "en-us", flags=0x1001))
    assert not torch.equal(wave, direct(text, "en-us", flags=0x1111))


def test_wave_is_mono_float32_within_full_scale(engine: EspeakEngine) -> None:
    wave = spoken(engine, TEXTS[0])
    assert wave.dtype == torch.float32
    assert wave.dim() == 1
    assert -1 <= wave.min() < wave.max() < 1
    assert engine.sample_rate == 22_050
    assert 1 < len(wave) / engine.sample_rate < 4


def test_same_text_is_the_same_after_others_and_in_another_process(
    engine: EspeakEngine, resolved: dict[str, object]
) -> None:
    first = spoken(engine, TEXTS[0])
    engine.synthesize([utterance(text, voice) for text in TEXTS for voice in SECTION.voices])
    assert torch.equal(spoken(engine, TEXTS[0]), first)
    other = EspeakEngine(SECTION, resolved, "cpu")
    assert torch.equal(spoken(other, TEXTS[0]), first)
    other.close()


@pytest.mark.parametrize("voice", ["en-us+f3", "en-us+whisper"])
def test_breath_depends_on_the_seed_and_not_on_the_clock(
    engine: EspeakEngine, resolved: dict[str, object], voice: str
) -> None:
    seed = 2**63 - 5
    wave = spoken(engine, TEXTS[0], voice, seed)
    time.sleep(1.1)  # the library's own seed is the second in which it was initialised
    other = EspeakEngine(SECTION, resolved, "cpu")
    assert torch.equal(spoken(other, TEXTS[0], voice, seed), wave)
    assert not torch.equal(spoken(other, TEXTS[0], voice, seed - 1), wave)
    other.close()


def test_order_of_utterances_does_not_matter(engine: EspeakEngine) -> None:
    asked = [utterance(text, voice) for text in [*TEXTS, "..."] for voice in SECTION.voices]
    forth = engine.synthesize(asked)
    back = engine.synthesize(asked[::-1])[::-1]
    for one, other in zip(forth, back, strict=True):
        if isinstance(one, Reject):
            assert one == other
        else:
            assert isinstance(other, torch.Tensor)
            assert torch.equal(one, other)


def test_voice_rate_and_pitch_each_change_the_sound(
    engine: EspeakEngine, resolved: dict[str, object]
) -> None:
    waves = [spoken(engine, TEXTS[2], voice) for voice in SECTION.voices]
    for change in ({"rate": 260}, {"pitch": 80}):
        other = EspeakEngine(SECTION.model_copy(update=change), resolved, "cpu")
        waves.append(spoken(other, TEXTS[2]))
        other.close()
    assert len({wave.numpy().tobytes() for wave in waves}) == len(waves)
    assert len(waves[3]) < 0.8 * len(waves[0])  # 260 words a minute instead of 175


# --- what cannot be spoken --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " \n\t ", ".", "...!!!", "—", "“”", "\x01\x7f\x1b", "\u200b\u200d\ufeff", "\0"]
)
def test_what_makes_no_sound_is_silence(engine: EspeakEngine, text: str) -> None:
    assert rejected(engine, text).reason == "silence"


@pytest.mark.parametrize("text", ["a", "I", "s", "psst", "7", "你好", "😀", "%", "!!!"])
def test_what_makes_a_sound_is_not_silence(engine: EspeakEngine, text: str) -> None:
    spoken(engine, text)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_no_text_raises_or_disturbs_the_next(engine: EspeakEngine, text: str) -> None:
    hostile, after = engine.synthesize([utterance(text), utterance("Hi!")])
    assert isinstance(hostile, torch.Tensor) or hostile.reason == "silence"
    assert isinstance(after, torch.Tensor)


@pytest.mark.parametrize(
    "text", ["go\0on", "\ud800 lost \udfff", "1" * 3000, "a" * 20_000, '{}\n\\"%s', "\r\nA\r\n"]
)
def test_hostile_texts_are_spoken_to_their_end(engine: EspeakEngine, text: str) -> None:
    assert len(spoken(engine, text + " and the last words")) > len(spoken(engine, text))


# --- voices -----------------------------------------------------------------------------------


def error(voice: str) -> str:
    with pytest.raises(UnitcorpusError) as caught:
        EspeakEngine.resolve(EspeakSpeech(voices=("en-us", voice)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_resolved_is_what_the_library_reports(resolved: dict[str, object]) -> None:
    assert resolved.keys() == {"engine", "version", "sample_rate"}
    assert (resolved["engine"], resolved["sample_rate"]) == ("espeak", 22_050)
    assert str(resolved["version"])[0].isdigit()


def test_unknown_voice_names_the_nearest_and_those_of_its_language() -> None:
    message = error("en-uss")
    assert "speech.voices" in message
    assert "'en-uss' (did you mean 'en-us'?)" in message
    assert "there are en, en-029, en-gb," in message
    assert message.endswith("more")
    assert len(message) < 300


def test_unknown_voice_is_matched_whatever_its_case() -> None:
    assert "did you mean 'pt-br'?" in error("PT-BR")


def test_unknown_variant_is_refused_though_the_library_ignores_it() -> None:
    assert "no variant 'f33' of 'en-us' (did you mean 'f3'?)" in error("en-us+f33")
    assert "no variant ''" in error("en-us+")


def test_voice_without_its_dictionary_is_refused() -> None:
    assert "'fo'" in error("fo")  # listed, but the package ships no fo_dict


def test_another_library_than_the_planned_one_is_refused(resolved: dict[str, object]) -> None:
    with pytest.raises(UnitcorpusError, match=r"planned with espeak-ng 1\.0, but here it is"):
        EspeakEngine(SECTION, {**resolved, "version": "1.0"}, "cpu")
