"""GenPPL and Auto-BLEU: what is generated, spoken, transcribed, and read by a text model.

    python -m slam_model.eval CHECKPOINT --data CORPUS --generate --vocoder FOLDER
    scores = score(waves, vocoder.sample_rate, load_readers(ASR, LM, "cuda"))

GenPPL is exp of the mean over samples of the mean −log p per token of the transcript, under a text
model (Lakhotia et al. 2021; Maimon et al. 2025). Auto-BLEU is the mean over samples of the share of
repeated bigrams among a transcript's words, × 100. A transcript with nothing to score, such as an
empty one, counts in `empty` and in neither mean. Either model can be a folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from slam_model.generate import PROMPT_SECONDS, find_vocoder, generate, sampling_of
from slam_model.prompts import corpus_prompts
from unitcorpus.errors import UnitcorpusError
from unitcorpus.pairs.auto_bleu import auto_bleu_text
from unitcorpus.units.resample import resample

ASR = "openai/whisper-large-v3-turbo"
LM = "meta-llama/Llama-3.2-1B"
ORDER = 2
"""Of Auto-BLEU, by the definition of the paper (`slam`)."""


@dataclass(frozen=True)
class Readers:
    """A Whisper with its processor, and a text model with its tokenizer, on one device."""

    asr: Any
    processor: Any
    lm: Any
    tokenizer: Any

    def settings(self) -> dict[str, str]:
        """What of them decides a score, beside their names."""
        dtypes = {"asr_dtype": self.asr.dtype, "lm_dtype": self.lm.dtype}
        return {name: str(dtype).removeprefix("torch.") for name, dtype in dtypes.items()}


class Spoken:
    """What it takes to score the continuations of models, loaded once: `--generate` of eval.

    Raises UnitcorpusError where a model cannot be loaded, or the vocoder is for other units.
    """

    def __init__(self, options: argparse.Namespace, vocabulary: int) -> None:
        vocoder = find_vocoder(options.vocoder, vocabulary, options.device)
        if vocoder is None:
            raise UnitcorpusError("--generate needs --vocoder FOLDER, which speaks what it scores")
        self._options, self._sampling, self._vocoder = options, sampling_of(options), vocoder
        self._readers = load_readers(options.asr, options.lm, options.device)
        self._seconds = options.prompt_seconds or PROMPT_SECONDS

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that decides the scores."""
        return {
            **asdict(self._sampling),
            "prompt_seconds": self._seconds,
            "prompt_included": self._options.prompt_included,
            "limit": self._options.limit or "all",
            "vocoder": self._options.vocoder,
            "durations": "predicted",
            "asr": self._options.asr,
            "lm": self._options.lm,
            **self._readers.settings(),
            "asr_language": "detected",
            "asr_beams": 1,
            "auto_bleu": f"slam, order {ORDER}",
        }

    def measure(self, model: PreTrainedModel, location: str, split: str) -> Scores:
        """The scores of a model's continuations of the samples of a corpus. The model has
        transformers' own attention afterwards, and takes no packs."""
        prompts = corpus_prompts(location, split, self._seconds, self._options.limit)
        model.set_attn_implementation("sdpa")
        found = generate(model, prompts, self._sampling, self._options.batch)
        waves = [self._vocoder(one.units(self._options.prompt_included)) for one in found]
        return score(waves, self._vocoder.sample_rate, self._readers, self._options.batch)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--generate and its settings, but for those of `add_sampling_options`."""
    parser.add_argument("--generate", action="store_true", help="adds GenPPL and Auto-BLEU")
    parser.add_argument("--asr", default=ASR, help="a Whisper: a folder, or a name on the Hub")
    parser.add_argument("--lm", default=LM, help="a text model: a folder, or a name on the Hub")
    parser.add_argument(
        "--prompt-included",
        action="store_true",
        default=True,
        help="scores the prompt with what follows, as the paper does (default)",
    )
    parser.add_argument("--no-prompt", dest="prompt_included", action="store_false")


@dataclass(frozen=True)
class Scores:
    """`count` samples were scored, `empty` had nothing to score; `transcripts` are of all."""

    genppl: float
    auto_bleu: float
    count: int
    empty: int
    transcripts: list[str]


def load_readers(asr: str, lm: str, device: str) -> Readers:
    """Folders or names on the Hub. The ASR is in half precision on a GPU, as the paper has it, the
    text model in float32. Raises UnitcorpusError."""
    half = torch.float16 if torch.device(device).type == "cuda" else torch.float32
    heard = _load(AutoModelForSpeechSeq2Seq.from_pretrained, asr, dtype=half)
    read = _load(AutoModelForCausalLM.from_pretrained, lm, dtype=torch.float32)
    return Readers(
        heard.to(device).eval(),
        _load(AutoProcessor.from_pretrained, asr),
        read.to(device).eval(),
        _load(AutoTokenizer.from_pretrained, lm),
    )


def score(
    waves: Sequence[torch.Tensor], sample_rate: int, readers: Readers, batch: int = 16
) -> Scores:
    """The scores of waveforms float32 [samples]; UnitcorpusError where none can be scored."""
    texts = transcribe(waves, sample_rate, readers, batch)
    found = [text_nll(text, readers) for text in texts]
    scored = [(text, nll) for text, nll in zip(texts, found, strict=True) if nll is not None]
    if not scored:
        raise UnitcorpusError(
            f"all {len(texts)} transcripts are empty: there is nothing to score; listen to what "
            "is generated, and check that the vocoder is for these units"
        )
    return Scores(
        genppl=float(np.exp(np.mean([nll for _, nll in scored]))),
        auto_bleu=100 * float(np.mean([auto_bleu_text(text, ORDER) for text, _ in scored])),
        count=len(scored),
        empty=len(texts) - len(scored),
        transcripts=texts,
    )


@torch.inference_mode()
def transcribe(
    waves: Sequence[torch.Tensor], sample_rate: int, readers: Readers, batch: int = 16
) -> list[str]:
    """What Whisper hears in each waveform; "" for one without samples. The language is detected.

    It hears 30 seconds at a time, and a longer waveform by itself, in its own windows.
    """
    extractor = readers.processor.feature_extractor
    heard = [resample(wave, sample_rate, extractor.sampling_rate) for wave in waves]
    short = [i for i, wave in enumerate(heard) if 0 < len(wave) <= extractor.n_samples]
    long = [i for i, wave in enumerate(heard) if len(wave) > extractor.n_samples]
    texts = [""] * len(heard)
    for rows in [short[at : at + batch] for at in range(0, len(short), batch)]:
        inputs = _features([heard[i] for i in rows], readers)
        for i, text in zip(rows, _words(inputs, readers), strict=True):
            texts[i] = text
    whole = {"truncation": False, "padding": "longest", "return_attention_mask": True}
    for i in long:
        inputs = _features([heard[i]], readers, **whole)
        [texts[i]] = _words(inputs, readers, return_timestamps=True)
    return texts


@torch.inference_mode()
def text_nll(text: str, readers: Readers) -> float | None:
    """The mean −log p per token of a text, given the tokens that the tokenizer puts before it, or
    None where there is no token to predict."""
    if not text.strip():
        return None
    tokens = readers.tokenizer(text, return_tensors="pt")["input_ids"].to(readers.lm.device)
    if tokens.shape[1] < 2:
        return None
    logits = readers.lm(input_ids=tokens, use_cache=False).logits[0, :-1]
    return float(cross_entropy(logits.float(), tokens[0, 1:]))


def _features(waves: Sequence[torch.Tensor], readers: Readers, **how: Any) -> Any:
    extractor = readers.processor.feature_extractor
    arrays = [wave.float().cpu().numpy() for wave in waves]
    inputs = extractor(arrays, sampling_rate=extractor.sampling_rate, return_tensors="pt", **how)
    return inputs.to(readers.asr.device, dtype=readers.asr.dtype)


def _words(inputs: Any, readers: Readers, **how: Any) -> list[str]:
    tokens = readers.asr.generate(**inputs, num_beams=1, do_sample=False, **how)
    return list(readers.processor.batch_decode(tokens, skip_special_tokens=True))


def _load(load: Callable[..., Any], name: str, **how: Any) -> Any:
    try:
        return load(name, trust_remote_code=False, **how)
    except Exception as error:  # transformers raises what it likes for a damaged folder
        reason = str(error).strip().splitlines()[0][:300]
        raise UnitcorpusError(
            f"cannot load {name}: {reason}; give a folder that holds it, or a name on the Hub"
        ) from error
