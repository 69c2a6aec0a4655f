"""A second language, end to end: Spanish texts with espeak-ng, and through Kokoro's code 'e'."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

import unitcorpus
from checkpoints import make_kokoro
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.shards.verify import verify

SENTENCES = (
    "La niña encontró un pequeño zorro junto al río y le dio un trozo de pan.",
    "¿Dónde está mi abuela?, preguntó el niño, y nadie supo qué decirle.",
    "¡Qué susto! El cigüeñal del viejo molino ya no giraba.",
    "El pingüino quería volar; por eso subió cada día a la colina más alta.",
)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "cuentos.jsonl"
    # Decomposed, as some systems write accents: a corpus stores them composed.
    rows = [{"text": unicodedata.normalize("NFD", text)} for text in SENTENCES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def built(texts: Path, out: Path, *overrides: str) -> dict[str, list[int]]:
    """Units by text of a corpus that verifies."""
    source = f"source={{path: '{texts}'}}"
    given = (source, "language=es", "validation=0", *overrides)
    assert build_corpus(load_recipe("demo/stinystories", given), out).corpus is not None
    assert verify(out) == []
    return {s.meta["text"]: s.units.tolist() for s in unitcorpus.open(out)}


def test_a_spanish_corpus_is_spoken_by_a_spanish_voice(texts: Path, tmp_path: Path) -> None:
    spanish = built(texts, tmp_path / "es", "speech.voices=[es]")
    assert set(spanish) == set(SENTENCES)
    english = built(texts, tmp_path / "en", "speech.voices=[en-us]")
    assert all(units != english[text] for text, units in spanish.items())
    card = (tmp_path / "es/README.md").read_text()
    assert "- es" in card
    assert "- en" not in card.split("---")[1]


def test_a_spanish_voice_of_kokoro_reads_spanish(texts: Path, tmp_path: Path) -> None:
    """By the voice's first letter; another code for the same voice is heard."""
    model = make_kokoro(tmp_path / "Kokoro-82M")
    speech = f"engine: kokoro, model: '{model}', voices: [ef_dora]"
    spanish = built(texts, tmp_path / "c", f"speech={{{speech}}}")
    assert set(spanish) == set(SENTENCES)
    same = built(texts, tmp_path / "d", f"speech={{{speech}, language: e}}")
    assert same == spanish
    italian = built(texts, tmp_path / "e", f"speech={{{speech}, language: i}}")
    assert all(units != italian[text] for text, units in spanish.items())
