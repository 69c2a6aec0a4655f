"""Pushes in forks of one process (`forks`). Waits are short and commits small here, so that there
are many of them."""

from __future__ import annotations

import time

import pyarrow.dataset  # noqa: F401 - what a push imports on its way is imported once, here
from huggingface_hub import CommitOperationAdd, HfApi, RepoFile  # noqa: F401

from forks import serve
from unitcorpus.hub import contents, push

asleep = time.sleep
time.sleep = lambda seconds: asleep(min(float(seconds), 0.05))
push.WAITS, push.PATIENCE = (0.05,) * 4, 1.0
contents.FILES = 3

if __name__ == "__main__":
    serve()
