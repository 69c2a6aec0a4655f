"""espeak-ng, the built-in engine: offline, hundreds of times faster than real time.

The library is the one of the espeakng-loader package, run by `espeak_server.py` in a small process
of its own, since it keeps state between texts and can crash. Invariant: an utterance (its seed too:
some variants breathe), a rate and a pitch give the same samples whatever was spoken before, in
every process and at any time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitcorpus.errors import Reject, UnitcorpusError, nearest
from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak_server import HEADER
from unitcorpus.speech.silence import silence

if TYPE_CHECKING:
    import torch

# 500 times what speaking takes: only a hang reaches it.
SECONDS, SECONDS_PER_CHARACTER = 30.0, 0.05
LISTED = 12  # voices or variants that an error names


class EspeakEngine:
    """espeak-ng with one rate and pitch and any of its voices, `CODE` or `CODE+VARIANT`.

    Raises UnitcorpusError where a voice is unknown or the library is not the planned version.
    """

    batch_seconds: float = 0  # it speaks one text at a time whatever it is

    def __init__(self, section: EspeakSpeech, resolved: dict[str, Any], device: str) -> None:
        self._section = section
        self._server = Server()
        if self._server.hello["version"] != resolved["version"]:
            version = self._server.hello["version"]
            self.close()
            raise UnitcorpusError(
                f"speech: planned with espeak-ng {resolved['version']}, but here it is {version}: "
                "install the planned version of espeakng-loader, or build from the start"
            )
        self.sample_rate = int(self._server.hello["sample_rate"])

    @staticmethod
    def resolve(section: EspeakSpeech) -> dict[str, Any]:
        """The library's version and rate, after it has spoken a word in every voice."""
        server = Server()
        try:
            for voice in section.voices:
                wave = server.speak(section, Utterance("", "1", voice, 0))
                if isinstance(wave, Reject) or silence(wave):
                    raise UnitcorpusError(
                        f"speech.voices: espeak-ng lists '{voice}' but says nothing in it; "
                        "choose another voice"
                    )
            hello = server.hello
        finally:
            server.close()
        return {
            "engine": "espeak",
            "version": hello["version"],
            "sample_rate": hello["sample_rate"],
        }

    def ahead(self, utterances: Sequence[Utterance]) -> None:
        """Nothing: all that it does, it does on the CPU."""

    def synthesize(self, utterances: Sequence[Utterance]) -> list[torch.Tensor | Reject]:
        """One float32 waveform [samples] in [-1, 1) each, or its Reject: `engine_error` or
        `silence`. Raises RuntimeError where the helper process dies twice over one text."""
        return [self._speak(utterance) for utterance in utterances]

    def _speak(self, utterance: Utterance) -> torch.Tensor | Reject:
        try:
            wave = self._server.speak(self._section, utterance)
        except ServerDiedError:
            self._server.close()
            self._server = Server()
            wave = self._server.speak(self._section, utterance)
        return wave if isinstance(wave, Reject) else silence(wave) or wave

    def close(self) -> None:
        """End the helper process."""
        self._server.close()


class ServerDiedError(RuntimeError):
    """The helper process ended, which no text can cause: killed, or out of memory."""


class Server:
    """`espeak_server.py` running; `hello` is what its first frame says."""

    def __init__(self) -> None:
        import espeakng_loader

        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        script = str(Path(__file__).with_name("espeak_server.py"))
        places = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        self._process = subprocess.Popen(
            # -I and -S: neither the user's environment nor site-packages, for a fast start.
            [sys.executable, "-I", "-S", script, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        _, payload = self._read()
        self.hello: dict[str, Any] = json.loads(payload)

    def speak(self, section: EspeakSpeech, utterance: Utterance) -> torch.Tensor | Reject:
        """A float32 waveform [samples], silent ones too, or why there is none."""
        import torch

        request = {
            "voice": identifier(utterance.voice, self.hello),
            "rate": section.rate,
            "pitch": section.pitch,
            "seed": utterance.seed,
            "text": utterance.text,
            "seconds": SECONDS + SECONDS_PER_CHARACTER * len(utterance.text),
        }
        kind, payload = self._ask(json.dumps(request).encode() + b"\n")
        if kind == b"E":
            return Reject("engine_error", payload.decode())
        return torch.from_numpy(np.frombuffer(payload, np.int16)).float().div_(32768)

    def close(self) -> None:
        """End the process and whatever it is speaking; again is allowed."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, line: bytes) -> tuple[bytes, bytearray]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._read()

    def _read(self) -> tuple[bytes, bytearray]:
        """The kind and payload of the next frame."""
        assert self._process.stdout is not None
        header = self._process.stdout.read(HEADER.size)
        if len(header) < HEADER.size:
            raise self._died()
        kind, length = HEADER.unpack(header)
        payload = bytearray(length)
        if self._process.stdout.readinto(payload) < length:  # type: ignore[attr-defined]
            raise self._died()
        return kind, payload

    def _died(self) -> ServerDiedError:
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        message = f"the espeak-ng process ended with status {status}: {last}"
        return ServerDiedError(message.rstrip(": "))


def identifier(voice: str, hello: dict[str, Any]) -> str:
    """espeak-ng's own name of a voice, "en-us+f3" -> "gmw/en-US+f3". Raises UnitcorpusError.

    The library itself takes an unknown variant for none.
    """
    code, plus, variant = voice.partition("+")
    if code not in hello["voices"]:
        language = code.lower().partition("-")[0]
        known = sorted(hello["voices"], key=lambda name: name.partition("-")[0] != language)
        raise unknown(f"has no voice '{code}'", code.lower(), known)
    if plus and variant not in hello["variants"]:
        raise unknown(f"has no variant '{variant}' of '{code}'", variant, hello["variants"])
    return str(hello["voices"][code]) + plus + variant


def unknown(what: str, name: str, known: Sequence[str]) -> UnitcorpusError:
    """The error for a name that is not among `known`, which come in the order to show them."""
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return UnitcorpusError(
        f"speech.voices: espeak-ng {what}{nearest(name, known)}; "
        f"there are {', '.join(known[:LISTED])}{more}"
    )
