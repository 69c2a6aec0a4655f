"""Runs of equal units: `collapse` writes a sequence as (units, run lengths), `expand` undoes it.

The pair is lossless: `expand(*collapse(units))` is `units`, and no two neighbours of collapsed
units are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = int(np.iinfo(np.uint16).max)


def collapse(units: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Units of frames, integers [frames], as (units uint16 [runs], lengths uint32 [runs]).

    The lengths are in frames and sum to `frames`. Raises ValueError for a unit outside 0..65535.
    """
    if units.size == 0:
        return np.empty(0, np.uint16), np.empty(0, np.uint32)
    if units.min() < 0 or units.max() > LARGEST:
        raise ValueError(f"units reach from {units.min()} to {units.max()}: they must fit uint16")
    starts = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    lengths = np.diff(starts, append=len(units))
    return units[starts].astype(np.uint16), lengths.astype(np.uint32)


def expand(units: NDArray[Any], durations: NDArray[Any]) -> NDArray[np.uint16]:
    """The unit of every frame, uint16 [sum of durations], from units and run lengths [runs].

    Raises ValueError where the two differ in length.
    """
    if len(units) != len(durations):
        raise ValueError(f"{len(units)} units with {len(durations)} durations")
    return np.repeat(units.astype(np.uint16), durations)
