"""Kokoro, an open neural engine of 82M parameters: natural voices, at 24 kHz.

Phonemes come from `phonemes.py`, audio from the model of the kokoro package. Invariant: the
waveform of an utterance is a function of its text, voice and seed: the noise that the model draws
is seeded per piece, so neither the list an utterance comes in nor what was spoken before matters:
on a CPU to the bit, on a GPU up to the rounding of `kokoro_batch.py`. The pieces of a text are
concatenated in order, with nothing between.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

from unitcorpus.errors import NO_MEMORY, Reject, UnitcorpusError
from unitcorpus.recipe.models import KokoroSpeech
from unitcorpus.seeds import seed_of
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.kokoro_batch import BatchedKokoro, Request, batches
from unitcorpus.speech.kokoro_files import Checkpoint
from unitcorpus.speech.kokoro_kernels import kernels
from unitcorpus.speech.phonemes import ENGLISH, LANGUAGES, SPACY_MODEL, Phonemizer, choose
from unitcorpus.speech.silence import silence

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 24_000
HALF = ("bfloat16", "float16")
FRAME_RATE = 40
PHONEME_RATE = 60
"""Phonemes of four seconds: through BERT and predictor, which take little memory, go at a time as
many as four batches of the decoder may need."""


class KokoroEngine:
    """A Kokoro checkpoint on one device, with the voices of the recipe.

    A batch of the decoder is at most `batch_seconds` of speech, padding included; what is longer is
    spoken alone. On a CPU it takes one piece at a time whatever the batch (see `BatchedKokoro`).
    Raises UnitcorpusError where the checkpoint or a package is not what was planned with.
    """

    sample_rate = SAMPLE_RATE

    batch_seconds: float = 0

    def __init__(self, section: KokoroSpeech, resolved: dict[str, Any], device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._speed = section.speed
        planned = {key: resolved[key] for key in ("revision", "g2p")}
        here = self.resolve(section.model_copy(update=planned))
        for key in resolved:
            if here.get(key) != resolved[key]:
                raise UnitcorpusError(
                    f"speech: planned with {key} {resolved[key]}, but here it is {here.get(key)}: "
                    "put back what was planned with, or build from the start"
                )
        files = Checkpoint(section.model, resolved["revision"])
        self._model = files.model(device, section.precision == "float64")
        half = getattr(torch, section.precision) if section.precision in HALF else None
        self._batched = BatchedKokoro(self._model, kernels=kernels(half, section.compile))
        self._packs = {voice: files.pack(voice) for voice in section.voices}
        languages = {voice: language_of(section, voice) for voice in section.voices}
        phonemizers = {
            language: Phonemizer(language, resolved["g2p"], self._model.vocab)
            for language in sorted(set(languages.values()))
        }
        self._phonemizers = {voice: phonemizers[code] for voice, code in languages.items()}
        self._thread = ThreadPoolExecutor(1, "phonemes")
        self._begun: dict[Utterance, Future[list[Request] | Reject]] = {}

    @staticmethod
    def resolve(section: KokoroSpeech) -> dict[str, Any]:
        """Versions, the checkpoint's revision (a commit, or a digest of a folder's files) and the
        G2P. Looks up every voice; loads no weights, but hashes those of a folder."""
        languages = {language_of(section, voice) for voice in section.voices}
        g2p = choose(section.g2p, languages)
        resolved = {
            "engine": "kokoro",
            "package": version("kokoro"),
            "misaki": version("misaki"),
            "espeak": version("espeakng-loader"),
            "revision": Checkpoint(section.model, section.revision).revision(section.voices),
            "g2p": g2p,
            "sample_rate": SAMPLE_RATE,
        }
        if g2p == "misaki" and ENGLISH.intersection(languages):
            resolved[SPACY_MODEL] = version(SPACY_MODEL)
        return resolved

    def ahead(self, utterances: Sequence[Utterance]) -> None:
        """Begin to phonemise, in the one thread in which phonemisers run."""
        for utterance in utterances:
            if utterance not in self._begun:
                self._begun[utterance] = self._thread.submit(self._requests, utterance)

    def synthesize(self, utterances: Sequence[Utterance]) -> list[torch.Tensor | Reject]:
        """One float32 waveform [samples] in [-1, 1] each, on the device, or its Reject:
        `no_phonemes`, `engine_error` or `silence`. Running out of memory raises."""
        self.ahead(utterances)
        begun = [self._begun[utterance] for utterance in utterances]
        for utterance in set(utterances):
            del self._begun[utterance]
        asked = [requests.result() for requests in begun]
        requests = [request for each in asked if not isinstance(each, Reject) for request in each]
        waves = iter(self._speak(requests))
        return [
            each if isinstance(each, Reject) else _join(list(islice(waves, len(each))))
            for each in asked
        ]

    def close(self) -> None:
        """Let go of the model and its memory."""
        self._thread.shutdown(cancel_futures=True)
        del self._model, self._batched

    def _requests(self, utterance: Utterance) -> list[Request] | Reject:
        try:
            pieces = self._phonemizers[utterance.voice](utterance.text)
        except MemoryError:
            raise
        except Exception as error:  # misaki fails in many ways on odd texts
            return Reject("engine_error", f"phonemes: {_brief(error)}")
        if not pieces:
            return Reject("no_phonemes", f"nothing to speak in {utterance.text[:40]!r}")
        pack = self._packs[utterance.voice]
        return [
            Request(
                piece.phonemes,
                pack[len(piece.phonemes) - 1, 0],
                self._speed,
                seed_of(utterance.seed, "piece", str(i)),
            )
            for i, piece in enumerate(pieces)
        ]

    def _speak(self, requests: list[Request]) -> list[torch.Tensor | Reject]:
        """A waveform [samples] for each request, or its Reject."""
        spoken: dict[int, torch.Tensor | Reject] = {}
        lengths = [len(request.phonemes) for request in requests]
        if self._device.type != "cpu":
            self._batched.frames = max(1, int(self.batch_seconds * FRAME_RATE))
        for items in batches(lengths, int(self.batch_seconds * PHONEME_RATE)):
            spoken |= zip(items, self._together([requests[i] for i in items]), strict=True)
        return [spoken[i] for i in range(len(requests))]

    def _together(self, requests: list[Request]) -> list[torch.Tensor | Reject]:
        """As one batch, or one by one where that fails: then one of them is at fault."""
        try:
            return _checked([spoken.wave for spoken in self._batched(requests)])
        except RuntimeError as error:
            if machine_failed(error):
                raise
            if len(requests) == 1:
                return [Reject("engine_error", f"model: {_brief(error)}")]
        return [self._together([request])[0] for request in requests]


def machine_failed(error: RuntimeError) -> bool:
    """Whether memory or the device failed, rather than the text: others would fail as well."""
    import torch

    failures = (torch.OutOfMemoryError, torch.AcceleratorError)
    return isinstance(error, failures) or any(sign in str(error) for sign in NO_MEMORY)


def language_of(section: KokoroSpeech, voice: str) -> str:
    """Kokoro's one-letter code of the language that `voice` speaks. Raises UnitcorpusError."""
    code = section.language or voice[:1]
    if code in LANGUAGES:
        return code
    known = ", ".join(LANGUAGES)
    if section.language:
        raise UnitcorpusError(f"speech.language: Kokoro has no '{code}'; its codes are {known}")
    raise UnitcorpusError(
        f"speech.voices: the first letter of '{voice}' is none of Kokoro's languages ({known}); "
        "set speech.language"
    )


def _checked(waves: list[torch.Tensor]) -> list[torch.Tensor | Reject]:
    import torch

    fine = torch.stack([wave.isfinite().all() for wave in waves]).tolist()
    wrong = Reject("engine_error", "model: samples that are not finite")
    return [w.float().clamp(-1, 1) if good else wrong for w, good in zip(waves, fine, strict=True)]


def _join(waves: list[torch.Tensor | Reject]) -> torch.Tensor | Reject:
    """The pieces of one text as one waveform, or the first Reject among them."""
    import torch

    parts = []
    for wave in waves:
        if isinstance(wave, Reject):
            return wave
        parts.append(wave)
    whole = torch.cat(parts)
    return silence(whole) or whole


def _brief(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
