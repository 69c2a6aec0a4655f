"""Speech engines by the name in a recipe's `speech.engine`. A new one is a class and a line."""

from __future__ import annotations

from unitcorpus.speech.base import Engine
from unitcorpus.speech.espeak import EspeakEngine
from unitcorpus.speech.kokoro import KokoroEngine

ENGINES: dict[str, Engine] = {"espeak": EspeakEngine, "kokoro": KokoroEngine}
