"""The command line in the process of a test, where starting another for each is too slow."""

from __future__ import annotations

import pytest

from unitcorpus.cli import main


class Commands:
    """`run` gives the exit code, and what was printed to both streams together."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture
        patch.setattr("signal.signal", lambda *_: None)  # the test's own handlers stay

    def run(self, *words: str) -> tuple[int, str]:
        self._patch.setattr("sys.argv", ["unitcorpus", *words])
        self._capture.readouterr()
        with pytest.raises(SystemExit) as leave:
            main()
        assert isinstance(leave.value.code, int)
        return leave.value.code, "".join(self._capture.readouterr())
