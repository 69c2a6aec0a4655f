"""How long a worker may be silent before it is taken for lost.

A stopped process, a hung driver or a dead network say nothing; a slow model does, after each chunk
of utterances. So the time allowed grows with the audio of the chunk: minutes on top of several
times what the slowest machine takes. To wait too long costs that once; to give up too early would
cost a healthy shard its tries.
"""

from __future__ import annotations

SILENCE = 600.0
"""Seconds that nobody needs to explain."""

SLOWEST = 5.0
"""Seconds of work on a second of audio."""


def patience(due: float) -> float:
    """Seconds of silence allowed to who began with `due` seconds of audio."""
    return SILENCE + SLOWEST * due
