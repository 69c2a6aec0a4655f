"""Transcripts by Whisper, and how far they are from what should have been said.

    asr = Transcriber(rule, resolve(rule), "en", "cuda")
    errors, words = word_errors("Three cats.", asr(wave, 16_000), asr.normalise)

One utterance at a time, greedily, in float32: a transcript depends on nothing else. Both texts go
through Whisper's own normaliser (case, punctuation and, in English, numbers and spellings), and
jiwer counts.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.filters import WordErrorFilter
from unitcorpus.recipe.models import is_local
from unitcorpus.units.resample import resample

if TYPE_CHECKING:
    import torch

FILES = ("*.json", "*.txt", "*.safetensors", "*.bin")
"""Of a folder, what decides a transcript."""


def resolve(rule: WordErrorFilter) -> dict[str, str]:
    """The model and its revision, for the plan: a commit, or a digest of a folder's files. Loads no
    weights. Raises UnitcorpusError where there is no such model."""
    if not is_local(rule.model):
        return {"model": rule.model, "revision": _commit(rule)}
    folder = Path(rule.model).expanduser()
    if not (folder / "config.json").is_file():
        raise UnitcorpusError(f"the model {rule.model} of a filter: it has no config.json")
    digest = sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        with path.open("rb") as stream:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            while block := stream.read(1 << 20):
                digest.update(block)
    return {"model": folder.resolve().name, "revision": f"sha256:{digest.hexdigest()}"}


def _commit(rule: WordErrorFilter) -> str:
    from huggingface_hub import hf_hub_download

    try:
        config = hf_hub_download(rule.model, "config.json", revision=rule.revision)
    except (OSError, ValueError) as error:
        raise UnitcorpusError(
            f"the model {rule.model} of a filter cannot be had from the Hugging Face Hub "
            f"({type(error).__name__}); check the name, download it while online, or give a folder"
        ) from error
    return Path(config).parent.name


class Transcriber:
    """A Whisper with its processor. `language` is a recipe's; Whisper is told it where it knows
    several. Raises UnitcorpusError where the model cannot be loaded."""

    def __init__(
        self, rule: WordErrorFilter, resolved: dict[str, str], language: str, device: str
    ) -> None:
        import torch
        from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

        local = is_local(rule.model)
        name = str(Path(rule.model).expanduser()) if local else rule.model
        how = {} if local else {"revision": resolved["revision"]}
        model: Any = _load(
            AutoModelForSpeechSeq2Seq.from_pretrained, name, dtype=torch.float32, **how
        )
        self._model = model.to(device).eval()
        self._processor: Any = _load(AutoProcessor.from_pretrained, name, **how)
        self._told = _languages(model.generation_config, language)
        english = language == "en" and self._processor.tokenizer.english_spelling_normalizer
        self.normalise: Callable[[str], str] = (
            self._processor.tokenizer.normalize
            if english
            else self._processor.tokenizer.basic_normalize
        )

    def __call__(self, wave: torch.Tensor, rate: int) -> str:
        """What Whisper hears in a waveform [samples] at `rate` Hz. It hears 30 seconds at a time,
        and a longer one by itself, in its own windows."""
        import torch

        extractor = self._processor.feature_extractor
        heard = resample(wave.float(), rate, extractor.sampling_rate)
        long = len(heard) > extractor.n_samples
        whole = {"truncation": False, "padding": "longest", "return_attention_mask": True}
        inputs = extractor(
            [heard.cpu().numpy()],
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
            **(whole if long else {}),
        ).to(self._model.device)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, **self._told, num_beams=1, do_sample=False, return_timestamps=long
            )
        [text] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return str(text).strip()


def word_errors(text: str, heard: str, normalise: Callable[[str], str]) -> tuple[int, int]:
    """(substitutions, deletions and insertions; words of the text), both normalised."""
    import jiwer

    said, found = normalise(text), normalise(heard)
    if not said.split():
        return len(found.split()), 0
    counts = jiwer.process_words(said, found)
    errors = counts.substitutions + counts.deletions + counts.insertions
    return errors, counts.hits + counts.substitutions + counts.deletions


def _languages(config: Any, language: str) -> dict[str, str]:
    """What a Whisper of several languages is told. Raises UnitcorpusError for one it cannot."""
    if not getattr(config, "is_multilingual", False):
        return {}
    if f"<|{language}|>" not in config.lang_to_id:
        raise UnitcorpusError(f"the model of a filter knows no language '{language}'")
    return {"language": language, "task": "transcribe"}


def _load(load: Callable[..., Any], name: str, **how: Any) -> Any:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        return load(name, **how)
    except Exception as error:  # transformers raises what it likes for a damaged folder
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise UnitcorpusError(
            f"cannot load {name}, the model of a filter: {reason}; give a folder that holds a "
            "Whisper, or its name on the Hub"
        ) from error
