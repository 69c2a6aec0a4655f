"""Randomness that depends on (seed, id) alone: never on order, time or worker."""

from __future__ import annotations

from hashlib import blake2b


def seed_of(seed: int, *names: str) -> int:
    """A 63-bit seed for the thing that `names` identify, e.g. `seed_of(0, "noise", sample_id)`.

    Unequal name tuples give independent seeds: ("a", "b") and ("ab",) differ.
    """
    h = blake2b(str(seed).encode(), digest_size=8)
    for name in names:
        h.update(b"\x00" + name.encode("utf-8", "surrogatepass"))
    return int.from_bytes(h.digest(), "big") >> 1


def pick(seed: int, choices: tuple[str, ...], *names: str) -> str:
    """One of `choices`, uniformly, by a hash of (seed, names)."""
    return choices[seed_of(seed, *names) % len(choices)]


def fraction(seed: int, *names: str) -> float:
    """A number in [0, 1), uniform over names."""
    return seed_of(seed, *names) / 2**63
