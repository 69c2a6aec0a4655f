"""Changed inputs for the fuzz tests, and the bounds that every reader keeps with them.

@given(data=mutated(SEEDS))
def test(data): bounded(lambda: read(data), most=1 << 26)
"""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from unitcorpus.errors import UnitcorpusError

SECONDS = 5.0
"""Of one input; one that takes longer hangs."""

WORDS = [
    *(b"\x00" * 8, b"\xff" * 8, b"-0000000001\x00", b"77777777777\x00", b"999999999999", b"1e999"),
    *(b"../../x", b"/etc/passwd", b"nan", b"null", b"{}", b"[", b"]" * 9, b'"', b"&a [*a]", b"!!x"),
    *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\n", b"\r\n", b":", b"-" * 9, b"0x", b"1_0", b"\\u0000"),
]
"""What readers stumble over."""

Change = tuple[str, float, float, bytes]


def mutated(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the seeds with a few changes, or none."""
    change = st.tuples(
        st.sampled_from(["flip", "put", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(WORDS) | st.binary(max_size=12),
    )
    return st.builds(_apply, st.sampled_from(list(seeds)), st.lists(change, max_size=6))


def _apply(data: bytes, changes: list[Change]) -> bytes:
    for kind, where, length, word in changes:
        at = int(where * (len(data) + 1))
        stop = min(at + 1 + int(length**4 * 600), len(data))
        match kind:
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << int(8 * length)]) + data[at + 1 :]
            case "put":
                data = data[:at] + word + data[at + len(word) :]
            case "insert":
                data = data[:at] + word + data[at:]
            case "delete":
                data = data[:at] + data[stop:]
            case "repeat":
                data = data[:stop] + data[at:stop] * (1 + int(length * 20)) + data[stop:]
            case "cut":
                data = data[:at]
    return data


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "../../x", "/etc/passwd", "\x00", "\ud800", "train-000000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=4,
)
"""Any value of JSON."""


@st.composite
def changed(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with one to three of its values, somewhere inside, replaced or left out."""
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value) if value else value
    return value


def _changed(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _changed(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _changed(draw, value[at]), *value[at + 1 :]]
    return draw(JSON)


def examples(number: int) -> settings:
    """So many, the same every time."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Hangs(BaseException):
    """An input took too long; no reader catches this."""


def bounded(read: Callable[[], Any], most: int | None) -> bool:
    """Whether `read` returned rather than refused. Fails where it hangs, takes more than `most`
    bytes at once (None: that is not looked at), or raises anything but our own error."""

    def ring(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    if most is not None:
        tracemalloc.start(1)
    try:
        read()
    except UnitcorpusError as error:
        refusal = str(error)
    else:
        refusal = ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most is None or peak < most, f"{peak} bytes"
    assert "\n" not in refusal
    return not refusal
