"""Where faults are injected: commands whose bytes are promised, what an undisturbed run of each
gives, and runs that can be killed at an exact point.

    with Scene(home) as scene:
        root = scene.place("build")
        scene.broken("build", root, r"receipts/", nth=2)     # killed before the second receipt
        assert scene.recovered("build", root) == Loss()
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from forks import Ended, Forks
from nodes import Nodes
from server import State, serve
from unitcorpus.shards.verify import verify

HERE = Path(__file__).parent
REPO = "user/demo"
UNPROMISED = (".lock", ".recipe.json")
MODULES = (
    "faiss",
    "torch",
    "pyarrow.dataset",
    "silero_vad",
    "huggingface_hub",
    "ray",
    "nltk",
    "unitcorpus.pairs.auto_bleu",
    "unitcorpus.build.run",
    "unitcorpus.build.clean",
    "unitcorpus.dedup.search",
    "unitcorpus.speech.espeak",
    "unitcorpus.units.mfcc",
    "unitcorpus.hub.push",
    "unitcorpus.cli.summary",
)
"""What a command imports on its way is imported once, by what it is forked from."""

Content = dict[str, bytes]


@dataclass(frozen=True)
class Loss:
    """What a recovered run is short of: bytes that are missing and bytes that differ, against an
    undisturbed run; names left over, and problems that `unitcorpus verify` finds."""

    lost: int = 0
    different: int = 0
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Scene:
    """Sources, calm corpora and a process to fork from, in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.rows = home / "rows.jsonl"
        self.rows.write_text(source())
        self.state = State()
        self._fault = home / "fault"
        self._places = 0
        self._calm: dict[str, Content] = {}
        self._nodes: Nodes | None = None
        self.hits = 0
        self._events: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            url = stack.enter_context(serve(self.state))
            self.environ = {
                **os.environ,
                "HF_ENDPOINT": url,
                "HF_HOME": str(self.home / "hub"),
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1",
                "HF_TOKEN": self.state.token,
                "FAULT": str(self._fault),
                "POISON": "1",
                "PYTHONPATH": os.pathsep.join([str(HERE / "hooks"), *sys.path]),
                "XDG_CACHE_HOME": str(self.home / "cache"),
            }
            self.forks = stack.enter_context(Forks(self.home, self.environ, MODULES))
            self.cleanup = stack.pop_all()
        for task in ("build", "pairs", "dedup", "push"):
            done = self.run(task, self.home / f"calm-{task}")
            assert done.returncode == 0, done.stderr
            self._calm[task] = self._content(task, self.home / f"calm-{task}")
        assert b"empty_text" in self._calm["build"]["plan/rejects.jsonl"]
        assert any(b"silence" in data for data in self._calm["build"].values())
        return self

    def __exit__(self, *error: object) -> None:
        self.cleanup.close()

    # --- commands ---------------------------------------------------------------------------------

    def words(self, task: str, root: Path) -> list[str]:
        """The command of a task with its output in `root`."""
        settings = {
            "build": ("validation=0.2", "shards.samples=3", "dedup.near={}"),
            "pairs": ("source.count=8", "shards.samples=3"),
        }
        more = [word for setting in settings.get(task, ()) for word in ("--set", setting)]
        if task == "build":
            more = [*more, "--set", f"source.path={self.rows}", "--out", str(root)]
            return ["build", "demo/stinystories", *more]
        if task == "pairs":
            return ["pairs", "demo/spokenswag", *more, "--out", str(root)]
        calm = str(self.home / "calm-build")
        return (
            ["push", calm, REPO]
            if task == "push"
            else [*("dedup", calm, "--threshold", "0.3", "--out", str(root))]
        )

    def place(self, task: str) -> Path:
        """A folder to run a task in that nobody used."""
        if task == "push":
            self.state.clear()
        self._places += 1
        return self.home / str(self._places) / task

    def run(self, task: str, root: Path, *more: str, **env: str) -> Ended:
        pid = self.forks.start([*self.words(task, root), *more], **env)
        self.state.victim = pid
        return self.forks.wait()

    def broken(
        self,
        task: str,
        root: Path,
        match: str,
        *more: str,
        nth: int = 1,
        action: str = "SIGKILL",
        event: str = "os.rename",
    ) -> Ended:
        """Runs a task in which the process at the nth matching event gets a signal."""
        self.order(match, nth, action, event)
        try:
            return self.run(task, root, *more)
        finally:
            self.hits = self.calm_down()

    def killed_after(self, task: str, root: Path, seconds: float) -> Ended:
        """Runs a task that is killed at some moment, with all that it started, if it is not done
        by then."""
        pid = self.forks.start(self.words(task, root))
        self.state.victim = pid
        timer = threading.Timer(seconds, kill_tree, [pid])
        timer.start()
        done = self.forks.wait()
        timer.cancel()
        timer.join()
        return done

    def events(self, task: str, match: str) -> int:
        """How many matching moments an undisturbed run has."""
        if (task, match) not in self._events:
            done = self.broken(task, self.place(task), match, nth=1_000_000)
            assert done.returncode == 0, done.stderr
            self._events[task, match] = self.hits
        return self._events[task, match]

    def order(self, match: str, nth: int, action: str, event: str = "os.rename") -> None:
        """From now on, whoever comes to the nth matching event gets a signal."""
        order = {"event": event, "match": match, "nth": nth, "action": action}
        self._fault.write_text(json.dumps(order))

    def calm_down(self) -> int:
        """Takes back what was ordered; how many matching events there were."""
        self._fault.unlink()
        marks = list(self.home.glob("fault.*"))
        for mark in marks:
            mark.unlink()
        return len(marks)

    def nodes(self) -> Nodes:
        """A cluster of two nodes, started when it is first wanted."""
        if self._nodes is None:
            self._nodes = Nodes(self.environ)
            self.cleanup.callback(self._nodes.close)
        return self._nodes

    # --- what came of it ------------------------------------------------------------------------

    def recovered(self, task: str, root: Path) -> Loss:
        """Runs the same command again, to its end, and looks what is missing."""
        done = self.run(task, root)
        assert done.returncode == 0, done.stderr
        return self.loss(task, root)

    def loss(self, task: str, root: Path) -> Loss:
        due, found = self._calm[task], self._content(task, root)
        lost = sum(len(data) for name, data in due.items() if name not in found)
        both = [(due[name], found[name]) for name in due if name in found]
        left = sorted(found.keys() - due.keys())
        problems = [] if task == "push" else verify(root)
        return Loss(lost, sum(unequal(*pair) for pair in both), left, problems)

    def _content(self, task: str, root: Path) -> Content:
        """Everything that a run leaves, in its folder or on the Hub."""
        return dict(self.state.repos[REPO].files()) if task == "push" else self.content(root)

    @staticmethod
    def content(root: Path) -> Content:
        """The bytes of a folder, but for receipts (timings), the lock and this machine's paths."""
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and path.parent.name != "receipts" and path.name not in UNPROMISED
        }


def source() -> str:
    """Stories; one empty, one twice, one that nothing is heard of."""
    texts = [
        f"The {animal} ran {where}, and {number} things happened."
        for animal in ("dog", "cat", "fox")
        for where, number in (("home", "two"), ("away", "six"), ("up", "ten"), ("by", "no"))
    ]
    texts[3], texts[8] = "...!!!", texts[1]
    rows = [{"id": f"r{n}", "text": text} for n, text in enumerate([*texts, ""])]
    return "".join(json.dumps(row) + "\n" for row in rows)


def unequal(one: bytes, other: bytes) -> int:
    """How many bytes differ."""
    if one == other:
        return 0
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def kill_tree(pid: int) -> None:
    """SIGKILL for a process and all that it started."""
    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        process.kill()
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
