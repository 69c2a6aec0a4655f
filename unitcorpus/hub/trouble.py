"""What went wrong with the Hub, in one line, and whether trying again may help.

A line never holds a token: it is made of the status, the server's own words and our advice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PASSING = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed; 409 and 412: someone else committed."""

FULL = frozenset({402, 413, 507})


@dataclass(frozen=True)
class Trouble:
    """`passing`: trying again may help. `network`: no answer came at all."""

    text: str
    passing: bool = False
    network: bool = False


def explain(error: BaseException, repo: str) -> Trouble | None:
    """What `error`, raised by huggingface_hub, means for `repo`; None where it is not the Hub's."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    for cause in _chain(error):
        if isinstance(cause, OfflineModeIsEnabled):
            return Trouble("HF_HUB_OFFLINE is set: unset it to reach the Hub")
        if isinstance(cause, HfHubHTTPError):
            return _status(cause.response.status_code, _said(cause), repo)
        # The client's transport library changed its name once; its errors are known by it.
        if type(cause).__module__.partition(".")[0] in ("httpx", "httpx2"):
            said = " ".join(str(cause).split()) or type(cause).__name__
            return Trouble(f"cannot reach {constants.ENDPOINT}: {said}", True, True)
        if isinstance(cause, HFValidationError):
            return Trouble(f"'{repo}' is not a name the Hub allows: {_first_line(str(cause))}")
    if isinstance(error, ValueError) and "README.md" in str(error):
        return Trouble(f"the Hub refuses the card: {' '.join(str(error).split())}")
    return None


def _status(status: int, said: str, repo: str) -> Trouble:
    words = f" ({said})" if said else ""
    limits = any(word in said.lower() for word in ("storage", "quota", "too large"))
    if status in FULL or (status == 403 and limits):
        return Trouble(
            f"the Hub takes no more data for {repo}{words}: free some storage, or push it with "
            "--public, which has other limits"
        )
    if status == 401:
        return Trouble(
            f"the Hub does not accept the token{words}: run `hf auth login`, or set HF_TOKEN to "
            "one with write access"
        )
    if status == 403:
        return Trouble(f"no permission to write to {repo}{words}: use a token with write access")
    if status == 404:
        return Trouble(f"{repo} is not there, or the token may not see it{words}")
    return Trouble(f"the Hub answered {status}{words}", status in PASSING)


def _said(error: BaseException) -> str:
    """The server's own words, if it had any."""
    return _first_line(getattr(error, "server_message", None) or "")


def _first_line(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(".")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
