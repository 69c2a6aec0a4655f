"""Sealed JSON and .npy members: any changed byte is found, numpy reads what is written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unitcorpus.shards.format import (
    DamagedError,
    npy_bytes,
    read_npy,
    sample_key,
    seal,
    shard_name,
    shard_of,
    unseal,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=4).filter(
        lambda d: "digest" not in d
    )
)
def test_unseal_gives_back_what_was_sealed(value: dict[str, object]) -> None:
    assert unseal(seal(value), "x.json") == value


@given(st.data())
def test_any_changed_byte_of_a_sealed_file_is_found(data: st.DataObject) -> None:
    sealed = seal({"shards": [1, 2], "name": "stories", "ratio": 0.5})
    at = data.draw(st.integers(0, len(sealed) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != sealed[at]))
    with pytest.raises(DamagedError, match=r"x\.json"):
        unseal(sealed[:at] + bytes([byte]) + sealed[at + 1 :], "x.json")


@pytest.mark.parametrize(
    "change", [b"", b"{}", b"[]", b"null", b"{", b'{"digest": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_not_sealed_is_refused(change: bytes) -> None:
    with pytest.raises(DamagedError):
        unseal(change, "x.json")


@given(hnp.arrays(np.dtype("<u2"), st.integers(0, 300)))
def test_numpy_reads_our_npy_and_we_read_it_back(array: np.ndarray) -> None:
    data = npy_bytes(array)
    np.testing.assert_array_equal(np.load(io.BytesIO(data), allow_pickle=False), array)
    np.testing.assert_array_equal(read_npy(data, "<u2"), array)


def test_we_read_what_numpy_writes() -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(5, dtype=np.uint32))
    np.testing.assert_array_equal(read_npy(stream.getvalue(), "<u4"), np.arange(5))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy_bytes(np.arange(3, dtype=np.uint32)),
        npy_bytes(np.arange(3, dtype=np.uint16))[:-1],
        npy_bytes(np.arange(3, dtype=np.uint16)).replace(b"(3,)", b"(9,)"),
        npy_bytes(np.arange(3, dtype=np.uint16)).replace(b"(3,)", b"(99999999999,)"),
        npy_bytes(np.arange(3, dtype=np.uint16)).replace(b"'<u2'", b"'|O' "),
    ],
)
def test_a_npy_member_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        read_npy(data, "<u2")


@given(st.integers(0, 999_999), st.integers(0, 999_999))
def test_a_key_tells_its_shard(shard: int, row: int) -> None:
    name = shard_name("train", shard)
    assert shard_of(sample_key(name, row)) == name
    assert "." not in sample_key(name, row)
