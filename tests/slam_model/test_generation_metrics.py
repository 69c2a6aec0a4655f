"""GenPPL and Auto-BLEU: transcripts and losses as transformers has them; nothing is ever NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from readers import make_llama, make_whisper
from slam_model.eval import main
from slam_model.generation_metrics import Readers, load_readers, score, text_nll, transcribe
from slam_model.model import load_model
from tiny import FAMILIES, random_units, write_corpus
from unitcorpus.errors import UnitcorpusError
from unitcorpus.pairs.auto_bleu import auto_bleu_text
from vocoders import make_vocoder

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whisper/, silent/ (hears nothing), llama/, vocoder/."""
    root: Path = tmp_path_factory.mktemp("models")
    make_whisper(root / "whisper")
    make_whisper(root / "silent", silent=True)
    make_llama(root / "llama")
    (root / "vocoder").mkdir()
    make_vocoder(root / "vocoder")
    return root


@pytest.fixture(scope="module")
def readers(folder: Path) -> Readers:
    return load_readers(str(folder / "whisper"), str(folder / "llama"), "cpu")


def noise(seconds: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * RATE)
    tones = torch.sin(torch.arange(count) * (0.02 + 0.05 * seed))
    return 0.2 * tones + 0.1 * seed / 4 * torch.randn(count, generator=generator)


def waves() -> list[torch.Tensor]:
    return [noise(0.5 + 0.7 * n, n) for n in range(5)]


# --- transcripts ------------------------------------------------------------------------------


def test_transcripts_are_those_of_transformers_own_pipeline(folder: Path, readers: Readers) -> None:
    plain = pipeline("automatic-speech-recognition", str(folder / "whisper"), dtype=torch.float32)
    greedy = {"num_beams": 1}  # its own default is 5
    theirs = [plain(wave.numpy(), generate_kwargs=greedy)["text"] for wave in waves()]
    ours = transcribe(waves(), RATE, readers, batch=2)
    assert ours == theirs
    assert len(set(ours)) > 1


def test_what_shares_a_batch_changes_no_transcript(readers: Readers) -> None:
    alone = transcribe(waves(), RATE, readers, batch=1)
    assert transcribe(waves(), RATE, readers, batch=5) == alone


def test_no_samples_are_no_words(readers: Readers) -> None:
    texts = transcribe([torch.zeros(0), waves()[1]], RATE, readers)
    assert texts[0] == ""
    assert texts[1]


def test_longer_than_whisper_hears_at_once_is_heard_whole(readers: Readers) -> None:
    long = torch.cat([noise(29, 1), noise(8, 3)])
    [text, short] = transcribe([long, waves()[2]], RATE, readers)
    assert short == transcribe([waves()[2]], RATE, readers)[0]
    assert len(text) > len(transcribe([long[: 30 * RATE]], RATE, readers)[0])


# --- losses -----------------------------------------------------------------------------------


def test_a_texts_nll_is_the_loss_of_transformers(folder: Path, readers: Readers) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder / "llama")
    for text in ("The cat sat.", " x", "¿Qué? 𝄞"):
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        assert tokens[0, 0] == tokenizer.bos_token_id
        with torch.no_grad():
            loss = float(model(tokens, labels=tokens).loss)
        assert text_nll(text, readers) == pytest.approx(loss, rel=1e-6)


def test_scores_are_the_definitions(folder: Path, readers: Readers) -> None:
    found = score(waves(), RATE, readers)
    losses = [text_nll(text, readers) for text in found.transcripts]
    known = [loss for loss in losses if loss is not None]
    assert len(known) == len(losses)
    assert found.genppl == pytest.approx(math.exp(sum(known) / len(known)))
    bleus = [auto_bleu_text(text) for text in found.transcripts]
    assert found.auto_bleu == pytest.approx(100 * sum(bleus) / len(bleus))
    assert (found.count, found.empty) == (5, 0)


def test_empty_transcripts_are_counted_and_left_out(readers: Readers) -> None:
    with_empty = score([torch.zeros(0), *waves(), torch.zeros(0)], RATE, readers)
    without = score(waves(), RATE, readers)
    assert (with_empty.count, with_empty.empty) == (5, 2)
    assert with_empty.genppl == pytest.approx(without.genppl)
    assert with_empty.auto_bleu == without.auto_bleu


def test_where_all_are_empty_there_is_no_score_and_no_nan(folder: Path) -> None:
    silent = load_readers(str(folder / "silent"), str(folder / "llama"), "cpu")
    with pytest.raises(UnitcorpusError, match="all 5 transcripts are empty"):
        score(waves(), RATE, silent)


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("checkpoint")
    load_model(FAMILIES["qwen2"], vocab=62, context=64).save_pretrained(path)
    return path


@pytest.fixture
def words(folder: Path, checkpoint: Path, tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [{side: random_units(rng, 20, 60) for side in ("right", "wrong")} for _ in range(4)]
    corpus = write_corpus(tmp_path / "sets", {"test": rows}, size=60)
    given = {
        "--data": corpus,
        "--asr": folder / "whisper",
        "--lm": folder / "llama",
        "--vocoder": folder / "vocoder",
        "--tokens": 6,
        "--prompt-seconds": 0.2,
    }
    return [str(checkpoint), "--generate", *(str(word) for pair in given.items() for word in pair)]


def run(words: list[str], out: Path, *more: str) -> dict[str, Any]:
    assert main([*words, "--json", str(out), *more]) == 0
    records = json.loads(out.read_text())["results"]
    return {record["metric"]: record for record in records}


def test_the_command_gives_every_score_with_every_setting(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(words, tmp_path / "out.json", "--limit", "3", "--repetition-penalty", "1.1")
    assert set(found) == {"accuracy", "GenPPL", "Auto-BLEU-2", "empty transcripts"}
    genppl = found["GenPPL"]
    assert genppl["count"] == 3
    assert math.isfinite(genppl["mean"])
    assert found["accuracy"]["count"] == 4
    settings = genppl["settings"]
    assert settings["repetition_penalty"] == 1.1
    assert (settings["temperature"], settings["top_k"], settings["tokens"]) == (0.8, 25, 6)
    assert (settings["limit"], settings["prompt_included"]) == (3, True)
    printed = capsys.readouterr().out
    assert all(f"{name}={value}" in printed for name, value in settings.items())


def test_without_the_prompt_only_what_follows_is_scored(words: list[str], tmp_path: Path) -> None:
    whole = run(words, tmp_path / "a.json")["GenPPL"]
    rest = run(words, tmp_path / "b.json", "--no-prompt")["GenPPL"]
    assert rest["settings"]["prompt_included"] is False
    assert rest["mean"] != whole["mean"]
    assert run(words, tmp_path / "c.json", "--prompt-included", "--batch", "1")["GenPPL"][
        "mean"
    ] == pytest.approx(whole["mean"])


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("--asr", "nowhere/whisper", "cannot load nowhere/whisper: .*; give a folder"),
        ("--lm", "nowhere/llama", "cannot load nowhere/llama: .*; give a folder"),
        ("--vocoder", "nowhere", "nowhere holds 0 .pt files"),
        ("--tokens", "0", "--tokens is 0: it must be 1 or more"),
    ],
)
def test_wrong_models_and_settings_are_one_line(
    words: list[str], option: str, value: str, match: str
) -> None:
    with pytest.raises(UnitcorpusError, match=match) as caught:
        main([*words, option, value])
    assert "\n" not in str(caught.value)


def test_a_vocoder_is_needed(words: list[str]) -> None:
    at = words.index("--vocoder")
    with pytest.raises(UnitcorpusError, match="needs --vocoder"):
        main(words[:at] + words[at + 2 :])
