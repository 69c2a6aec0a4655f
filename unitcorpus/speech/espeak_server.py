"""The process that speaks for `EspeakEngine`: one fork per text, so that no text hears another.

espeak-ng keeps state between texts. This process initialises the library once and never speaks
itself; a child that is forked for each text does, and ends. So a text's samples are a function of
the request alone, and a text that crashes or hangs the library costs that text only.

Run by path, `python -I -S espeak_server.py LIBRARY DATA`; it needs the standard library alone and
starts in milliseconds. It ends when stdin does, and a child ends with it.

- Request, on stdin: one line of ASCII JSON, {"voice", "rate", "pitch", "seed", "text",
  "seconds"}: an identifier of espeak-ng's such as "gmw/en-US+f3", words a minute, 0-100, the
  number whose low 32 bits start its noise (else the clock does), any string, time limit.
- Answer, on stdout: kind (1 byte), length (uint32, little endian), then that many bytes:
  H (once, at the start) JSON: {"version", "sample_rate", "voices": {code: identifier}, "variants"};
  S the samples, int16 in the machine's byte order; E why there are none, UTF-8.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

HEADER = struct.Struct("<cI")

# From speak_lib.h. SSML and phoneme markup stay off: "<b>" and "[[" are text. The end pause is what
# espeak-ng's own command writes. The buffer length stays at its default, since another one can
# change the samples.
SYNCHRONOUS, DEFAULT_BUFFER, DONT_EXIT = 2, 0, 0x8000
RATE, PITCH, FROM_CHARACTER = 1, 3, 1
UTF8, END_PAUSE = 1, 0x1000
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

NO_VOICE, NOT_SPOKEN = 3, 4  # exit statuses of a child
PR_SET_PDEATHSIG = 1
PIPE_BYTES = 1 << 20


class Voice(ctypes.Structure):
    """espeak_VOICE. `languages` points to (priority byte, code, NUL)…, closed by a zero byte."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def main(library: str, data: str) -> None:
    """Answer requests until stdin ends. Ctrl-C is left to the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    widen(1)
    espeak = ctypes.CDLL(library)
    send(b"H", [json.dumps(start(espeak, data)).encode()])
    while line := sys.stdin.buffer.readline():
        send(*answer(espeak, json.loads(line)))


def send(kind: bytes, chunks: list[bytes]) -> None:
    """Write one frame."""
    for chunk in (HEADER.pack(kind, sum(map(len, chunks))), *chunks):
        write_all(1, chunk)


def write_all(file: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def widen(pipe: int) -> None:
    """Spare both ends a switch of process every 64 KB: a tenth of the time of a story."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # beyond what one user may have
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# --- the library ------------------------------------------------------------------------------


def start(espeak: ctypes.CDLL, data: str) -> dict[str, Any]:
    """Initialise the library; what the first frame says."""
    rate = espeak.espeak_Initialize(SYNCHRONOUS, DEFAULT_BUFFER, data.encode(), DONT_EXIT)
    if rate <= 0:
        raise SystemExit(f"espeak-ng cannot read its data in {data}")
    espeak.espeak_Info.restype = ctypes.c_char_p
    return {
        "version": espeak.espeak_Info(None).decode(),
        "sample_rate": rate,
        "voices": voices(espeak),
        "variants": sorted(file.name for file in Path(data, "voices", "!v").iterdir()),
    }


def voices(espeak: ctypes.CDLL) -> dict[str, str]:
    """The identifier of the best voice of each language code.

    The library caches its list of voices here, which saves every child 3 ms. Variants are not
    asked of it: that would replace the cached list.
    """
    espeak.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
    listed = espeak.espeak_ListVoices(None)
    best: dict[str, tuple[int, str]] = {}
    index = 0
    while listed[index]:
        voice = listed[index].contents
        for priority, code in languages(voice.languages):
            candidate = (priority, voice.identifier.decode())
            best[code] = min(best.get(code, candidate), candidate)
        index += 1
    return {code: identifier for code, (_, identifier) in sorted(best.items())}


def languages(address: int) -> list[tuple[int, str]]:
    """The (priority, code) of each language of a voice; priority 1 is best."""
    found = []
    while priority := ctypes.string_at(address, 1)[0]:
        code = ctypes.string_at(address + 1)
        found.append((priority, code.decode()))
        address += len(code) + 2
    return found


# --- one text ---------------------------------------------------------------------------------


def answer(espeak: ctypes.CDLL, request: dict[str, Any]) -> tuple[bytes, list[bytes]]:
    """Fork a child that speaks; its samples, or why there are none."""
    server = os.getpid()
    source, sink = os.pipe()
    widen(sink)
    child = os.fork()
    if child == 0:
        run_child(espeak, request, sink, server)
    os.close(sink)
    samples = collect(source, request["seconds"])
    os.close(source)
    if samples is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if samples is None:
        return b"E", [f"espeak-ng has not ended after {request['seconds']:.0f} s".encode()]
    if status:
        return b"E", [failure(os.waitstatus_to_exitcode(status), request["voice"]).encode()]
    return b"S", samples


def collect(source: int, seconds: float) -> list[bytes] | None:
    """All that the child sends, or None after `seconds`. Ends the process where stdin has ended."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(0, 0)  # no requests are due now, but a hang-up is always reported
    chunks: list[bytes] = []
    while events := poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if any(file == 0 for file, _ in events):
            raise SystemExit("nobody waits for this text any more")
        if not (chunk := os.read(source, PIPE_BYTES)):
            return chunks
        chunks.append(chunk)
    return None


def failure(code: int, voice: str) -> str:
    if code < 0:
        return f"espeak-ng died of {signal.Signals(-code).name}"
    if code == NO_VOICE:
        return f"espeak-ng cannot load the voice {voice}"
    return f"espeak-ng failed with status {code}"


def run_child(espeak: ctypes.CDLL, request: dict[str, Any], sink: int, server: int) -> NoReturn:
    """Speak and end, whatever happens; hold none of the server's pipes, and do not outlive it."""
    code = 1
    try:
        os.close(0)
        os.close(1)
        end_with(server)
        samples = bytearray()
        code = speak(espeak, request, samples)
        write_all(sink, samples)
    finally:
        os._exit(code)


def end_with(server: int) -> None:
    """Have the kernel end this process when the server does, for a child deep in the library."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def speak(espeak: ctypes.CDLL, request: dict[str, Any], samples: bytearray) -> int:
    """Append the request's samples; the exit status."""

    def take(wave: int | None, count: int, _events: int | None) -> int:
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        return 0

    callback = CALLBACK(take)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(request["voice"].encode()):
        return NO_VOICE
    espeak.espeak_SetParameter(RATE, request["rate"], 0)
    espeak.espeak_SetParameter(PITCH, request["pitch"], 0)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
    # A NUL would end the text, and a lone surrogate is no text.
    text = request["text"].encode("utf-8", "replace").replace(b"\0", b" ")
    size = ctypes.c_size_t(len(text) + 1)
    flags = UTF8 | END_PAUSE
    status = espeak.espeak_Synth(text, size, 0, FROM_CHARACTER, 0, flags, None, None)
    return NOT_SPOKEN if status else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
