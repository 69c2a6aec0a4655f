"""Runs `unitcorpus` commands in forks of one process that has imported everything: as separate as
processes of their own, and killed as easily, but quick to start.

    python pusher.py          reads one JSON object a line: {"words", "env", "out", "err"}
                              answers two lines each: the fork's pid, and how it ended

Waits are short and commits small here, so that there are many of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

import pyarrow.dataset  # noqa: F401 - what a push imports on its way is imported once, here
from huggingface_hub import CommitOperationAdd, HfApi, RepoFile  # noqa: F401

from unitcorpus.cli import main
from unitcorpus.hub import contents, push

asleep = time.sleep
time.sleep = lambda seconds: asleep(min(float(seconds), 0.05))
push.WAITS, push.PATIENCE = (0.05,) * 4, 1.0
contents.FILES = 3


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
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
