"""What Python runs first in every process that has this folder on its path: ends or stops that
process at an exact point of its work, without a line for it in the product.

FAULT names a file that holds {"event", "match", "nth", "action"}: at the nth event (of all
processes together, counted by files beside it) of that audit name of which the last path matches,
this process gets the signal, before the event happens. `os.rename` is the moment before a file
appears; `open` of a folder is after that, when it is synced. Without the file nothing happens.

POISON=1 makes texts deadly to who speaks them: ABORT ends the process, HANG never comes back.
SILENCE=n has workers taken for lost after n seconds without a word.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

NODE = {"NODE": "SIGKILL"}
EVENTS = ("os.rename", "open")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook."""
    if event not in EVENTS or busy:
        return
    where = arguments[1] if event == "os.rename" else arguments[0]
    if not isinstance(where, str | os.PathLike):
        return
    busy.append(True)  # what follows opens files itself
    try:
        fault = read_fault()
        if not fault or fault["event"] != event or not re.search(fault["match"], os.fspath(where)):
            return
        if count() == fault["nth"]:
            if fault["action"] == "NODE":  # the daemon that started this worker goes with it
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.Signals[NODE.get(fault["action"], fault["action"])])
    finally:
        busy.clear()


def read_fault() -> dict[str, Any]:
    """The fault that is ordered; nothing if none is."""
    try:
        found: dict[str, Any] = json.loads(PLACE.read_text())
    except OSError:
        return {}
    return found


def count() -> int:
    """How many matching events there were, in all processes, this one included."""
    number = 1
    while True:
        try:
            os.close(os.open(f"{PLACE}.{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            number += 1
        else:
            return number


def poison(module: Any) -> None:
    """Makes the texts of an engine's module deadly."""
    speak = module.EspeakEngine.synthesize

    def deadly(self: Any, utterances: Any) -> Any:
        for utterance in utterances:
            if "ABORT" in utterance.text:
                os.abort()
            while "HANG" in utterance.text:
                time.sleep(1)
        return speak(self, utterances)

    module.EspeakEngine.synthesize = deadly


def hasten(module: Any) -> None:
    module.SILENCE, module.SLOWEST = float(os.environ["SILENCE"]), 0.0


CHANGES = {
    "POISON": ("unitcorpus.speech.espeak", poison),
    "SILENCE": ("unitcorpus.build.deadline", hasten),
}


class Changer:
    """Finds a module as ever, and changes it once it has run."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        wanted = [
            change for key, (of, change) in CHANGES.items() if of == name and os.environ.get(key)
        ]
        if not wanted:
            return None
        spec: Any = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def run_and_change(module: Any) -> None:
            run(module)
            wanted[0](module)

        spec.loader.exec_module = run_and_change
        return spec


busy: list[bool] = []
if "FAULT" in os.environ:
    PLACE = Path(os.environ["FAULT"])
    sys.addaudithook(watch)
sys.meta_path.insert(0, Changer)
