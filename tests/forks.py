"""Runs `unitcorpus` commands in forks of one process that has imported everything: as separate as
processes of their own, and killed as easily, but quick to start.

    python forks.py MODULE…   imports them, reads one JSON object a line: {"words", "env", "out",
                              "err"}, answers two lines each: the fork's pid, and how it ended

    with Forks(home, environ, modules) as forks: forks.run(["build", …])
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

from unitcorpus.cli import main

Ended = subprocess.CompletedProcess[str]


class Forks:
    """The forking process, from outside. One command at a time; `environ` is what it starts with,
    `script` what runs instead of this file."""

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        modules: Sequence[str] = (),
        script: Path = Path(__file__),
    ) -> None:
        self._out, self._errors = home / "out", home / "err"
        self.process = subprocess.Popen(
            [sys.executable, str(script), *modules],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, words: Sequence[str], **env: str) -> int:
        """Begins a command; its pid."""
        files = {"out": str(self._out), "err": str(self._errors)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(
            json.dumps({"words": words, "env": env, **files}), file=self.process.stdin, flush=True
        )
        return int(self.process.stdout.readline())

    def wait(self) -> Ended:
        """How the command begun last ends."""
        assert self.process.stdout is not None
        code = int(self.process.stdout.readline())
        return Ended([], code, self._out.read_text(), self._errors.read_text())

    def run(self, words: Sequence[str], **env: str) -> Ended:
        self.start(words, **env)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.communicate()


def serve() -> None:
    """Carries out the orders on stdin."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(order: dict[str, object]) -> None:
    """The command of an order, in this process, with its output to files."""
    for stream, key in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(order[key]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(order["env"])  # type: ignore[call-overload]
    sys.argv = ["unitcorpus", *order["words"]]  # type: ignore[misc]
    try:
        main()
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        import_module(name)
    serve()
