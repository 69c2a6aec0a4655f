"""The espeak engine under kills and hangs: they cost one text at most, and nothing outlives it.

Everything is done from outside, to the processes that /proc shows.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from unitcorpus.errors import Reject
from unitcorpus.recipe.models import EspeakSpeech
from unitcorpus.speech import espeak
from unitcorpus.speech.base import Utterance
from unitcorpus.speech.espeak import EspeakEngine

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

SECTION = EspeakSpeech()
SHORT = Utterance("short", "Once upon a time there was a fox.", "en-us", 0)
LONG = Utterance("long", "wander " * 3_000, "en-us", 0)  # about a second of work
ENDLESS = Utterance("endless", "wander " * 40_000, "en-us", 0)  # many seconds of it


def parents() -> dict[int, int]:
    """The parent of each process that runs (one that has ended may still be listed by /proc)."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(place.name)] = int(parent)
    return found


def children(pid: int) -> list[int]:
    return sorted(child for child, parent in parents().items() if parent == pid)


def servers(pid: int) -> list[int]:
    """The helper processes of a process."""
    command = "/proc/{}/cmdline"
    return [c for c in children(pid) if b"espeak_server" in Path(command.format(c)).read_bytes()]


def wait_for(found: Callable[[], list[int]]) -> int:
    """The first of what `found` returns, once there is one."""
    deadline = time.monotonic() + 20
    while not (result := found()):
        assert time.monotonic() < deadline, "nothing found in time"
        time.sleep(0.005)
    return result[0]


def all_end(pids: list[int]) -> bool:
    """Whether none of these processes runs, within five seconds."""
    deadline = time.monotonic() + 5
    while parents().keys() & set(pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Runs `act` on another thread beside the body."""
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def engine() -> Iterator[EspeakEngine]:
    assert servers(os.getpid()) == []
    others = children(os.getpid())  # such as multiprocessing's own, of other tests
    engine = EspeakEngine(SECTION, EspeakEngine.resolve(SECTION), "cpu")
    yield engine
    engine.close()
    assert set(children(os.getpid())) <= set(others)


def tensor(entry: torch.Tensor | Reject) -> torch.Tensor:
    assert isinstance(entry, torch.Tensor), entry
    return entry


def test_child_that_crashes_costs_only_its_text(engine: EspeakEngine) -> None:
    (expected,) = engine.synthesize([SHORT])
    (server,) = servers(os.getpid())

    def crash_child() -> None:
        os.kill(wait_for(lambda: children(server)), signal.SIGSEGV)

    with meanwhile(crash_child):
        crashed, after = engine.synthesize([ENDLESS, SHORT])
    assert crashed == Reject("engine_error", "espeak-ng died of SIGSEGV")
    assert torch.equal(tensor(after), tensor(expected))
    assert servers(os.getpid()) == [server]


def test_text_beyond_its_time_limit_costs_only_itself(
    engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "SECONDS", 0.3)
    monkeypatch.setattr(espeak, "SECONDS_PER_CHARACTER", 0.0)
    (server,) = servers(os.getpid())
    began = time.monotonic()
    (late,) = engine.synthesize([ENDLESS])
    assert time.monotonic() - began < 3
    assert isinstance(late, Reject)
    assert late.reason == "engine_error"
    assert children(server) == []
    monkeypatch.undo()
    tensor(engine.synthesize([SHORT])[0])


def test_text_is_spoken_again_when_the_server_is_killed(engine: EspeakEngine) -> None:
    (expected,) = engine.synthesize([LONG])
    (server,) = servers(os.getpid())
    orphan: list[int] = []

    def kill_server() -> None:
        orphan.append(wait_for(lambda: children(server)))
        os.kill(server, signal.SIGKILL)

    with meanwhile(kill_server):
        (again,) = engine.synthesize([LONG])
    assert torch.equal(tensor(again), tensor(expected))
    assert servers(os.getpid()) != [server]
    assert all_end(orphan)


def test_server_killed_between_texts_is_started_again(engine: EspeakEngine) -> None:
    (expected,) = engine.synthesize([SHORT])
    os.kill(servers(os.getpid())[0], signal.SIGKILL)
    assert torch.equal(tensor(engine.synthesize([SHORT])[0]), tensor(expected))


def test_server_killed_twice_over_one_text_raises_and_the_engine_recovers(
    engine: EspeakEngine,
) -> None:
    def kill_two() -> None:
        for _ in range(2):
            server = wait_for(lambda: servers(os.getpid()))
            wait_for(lambda server=server: children(server))  # type: ignore[misc]
            os.kill(server, signal.SIGKILL)
            assert all_end([server])

    with (
        meanwhile(kill_two),
        pytest.raises(RuntimeError, match="espeak-ng process ended with status -9"),
    ):
        engine.synthesize([ENDLESS])
    tensor(engine.synthesize([SHORT])[0])


def test_interrupt_from_the_terminal_leaves_the_server_alone(engine: EspeakEngine) -> None:
    (server,) = servers(os.getpid())
    os.kill(server, signal.SIGINT)
    tensor(engine.synthesize([SHORT])[0])
    assert servers(os.getpid()) == [server]


def test_nothing_is_left_after_close_and_closing_again_is_allowed() -> None:
    others = children(os.getpid())
    engine = EspeakEngine(SECTION, EspeakEngine.resolve(SECTION), "cpu")
    engine.synthesize([SHORT])
    engine.close()
    assert set(children(os.getpid())) <= set(others)
    engine.close()


WORKER = """
    from unitcorpus.recipe.models import EspeakSpeech
    from unitcorpus.speech.base import Utterance
    from unitcorpus.speech.espeak import EspeakEngine
    engine = EspeakEngine(EspeakSpeech(), EspeakEngine.resolve(EspeakSpeech()), "cpu")
    print("ready", flush=True)
    engine.synthesize([Utterance("u", "wander " * {words}, "en-us", 0)])
    input()
"""


@contextlib.contextmanager
def worker(words: int) -> Iterator[subprocess.Popen[str]]:
    """A process whose engine is loaded and is about to speak, then waits."""
    code = textwrap.dedent(WORKER).format(words=words)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "ready\n"
        yield it
        it.kill()


def test_nothing_is_left_when_the_worker_is_killed_while_speaking() -> None:
    with worker(words=40_000) as busy:
        speaker = wait_for(lambda: [c for s in servers(busy.pid) for c in children(s)])
        server = parents()[speaker]
        busy.kill()
        assert all_end([server, speaker])


def test_nothing_is_left_when_the_worker_is_killed_while_idle() -> None:
    with worker(words=1) as idle:
        (server,) = servers(idle.pid)
        wait_for(lambda: [] if children(server) else [server])
        idle.kill()
        assert all_end([server])
