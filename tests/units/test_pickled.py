"""Centroids come out of real k-means pickles; nothing else happens, whatever the pickle says."""

from __future__ import annotations

import builtins
import bz2
import functools
import gzip
import importlib
import lzma
import operator
import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, MiniBatchKMeans

from unitcorpus.errors import UnitcorpusError
from unitcorpus.units.pickled import read_kmeans

ROWS = np.random.default_rng(0).standard_normal((40, 6))


def joblibbed(model: object, **how: Any) -> bytes:
    stream = BytesIO()
    joblib.dump(model, stream, **how)
    return stream.getvalue()


def mini_batch(**options: Any) -> Any:
    return MiniBatchKMeans(5, n_init=1, **options)


MODELS: dict[str, Any] = {
    "KMeans": KMeans(5, n_init=1).fit(ROWS),
    "float32": mini_batch(random_state=0).fit(ROWS.astype(np.float32)),
    "in parts": mini_batch().partial_fit(ROWS),
    "generator": mini_batch(random_state=np.random.RandomState(1)).partial_fit(ROWS),
    "Fortran": KMeans(5, init=np.asfortranarray(ROWS[:5])).fit(ROWS),
}
MODELS["Fortran"].cluster_centers_ = np.asfortranarray(MODELS["Fortran"].cluster_centers_)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5, "joblib"])
def test_centroids_are_those_that_scikit_learn_pickled(kind: str, protocol: int | str) -> None:
    model = MODELS[kind]
    data = joblibbed(model) if isinstance(protocol, str) else pickle.dumps(model, protocol)
    found = read_kmeans(data, "x")
    assert np.array_equal(found, model.cluster_centers_)
    assert found.dtype == model.cluster_centers_.dtype


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "xz", "lzma"])
def test_compressed_centroids_are_those_that_scikit_learn_pickled(kind: str, compress: str) -> None:
    model = MODELS[kind]
    for protocol in (2, 3, 4, 5):
        found = read_kmeans(joblibbed(model, compress=(compress, 3), protocol=protocol), "x")
        assert np.array_equal(found, model.cluster_centers_)
        assert found.dtype == model.cluster_centers_.dtype


def test_the_module_names_of_old_releases_are_known() -> None:
    data = pickle.dumps(MODELS["float32"], 2)
    for new, old in (
        (b"sklearn.cluster._kmeans", b"sklearn.cluster.k_means_"),
        (b"_core", b"core"),
    ):
        assert new in data
        data = data.replace(new, old)
    assert np.array_equal(read_kmeans(data, "x"), MODELS["float32"].cluster_centers_)


def test_big_endian_arrays_keep_their_values() -> None:
    model = KMeans(5, n_init=1).fit(ROWS)
    model.cluster_centers_ = model.cluster_centers_.astype(">f8")
    for data in (pickle.dumps(model), joblibbed(model)):
        assert np.array_equal(read_kmeans(data, "x"), model.cluster_centers_)


def test_neither_scikit_learn_nor_joblib_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "km.bin"
    path.write_bytes(joblibbed(MODELS["KMeans"]))
    code = (
        "import sys; from pathlib import Path; from unitcorpus.units.pickled import read_kmeans;"
        "read_kmeans(Path(sys.argv[1]).read_bytes(), 'x');"
        "sys.exit('sklearn' in sys.modules or 'joblib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


class Call:
    """Pickles as a call, the way every pickle that does harm is made."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attacks(marker: str) -> dict[str, object]:
    """Pickles that create the file `marker`, by what they reach for first."""
    write = f"open({marker!r}, 'w').close()"
    touch = Path(marker).touch
    return {
        "posix.system": Call(os.system, f"touch {marker}"),
        "builtins.eval": Call(eval, write),
        "builtins.exec": Call(exec, write),
        "builtins.open": Call(open, marker, "w"),
        "functools.partial": Call(functools.partial(touch)),
        "operator.methodcaller": Call(operator.methodcaller("touch"), Path(marker)),
        "importlib.import_module": Call(importlib.import_module, "this"),
        "subprocess.check_call": Call(subprocess.check_call, ["touch", marker]),
        "numpy.save": Call(np.save, marker, 1),
        "numpy.load": Call(np.load, marker, None, True),
        "numpy.fromfile": Call(np.fromfile, marker),
        "joblib.numpy_pickle.load": Call(joblib.load, marker),
    }


# importlib, load and fromfile leave no file behind: they are here for the names.
SILENT = {"importlib.import_module", "numpy.load", "numpy.fromfile", "joblib.numpy_pickle.load"}


@pytest.mark.parametrize("name", attacks(""))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_anything_else_is_refused_before_it_does(
    name: str, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "done.npy"
    data = pickle.dumps(attacks(str(marker))[name], protocol)
    with pytest.raises(UnitcorpusError, match="it asks for"):
        read_kmeans(data, "x")
    assert not marker.exists()
    if name not in SILENT:
        pickle.loads(data)
        assert marker.exists(), "the attack itself does not work"


def test_a_method_reached_by_getattr_is_refused_before_it_is_called(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    path = b"(cpathlib\nPosixPath\n(V" + os.fsencode(marker) + b"\ntRVtouch\nt"
    data = b"cbuiltins\ngetattr\n" + path + b"R)R."
    with pytest.raises(UnitcorpusError, match=r"asks for builtins\.getattr"):
        read_kmeans(data, "x")
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the attack itself does not work"


def test_an_attack_inside_a_real_k_means_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    model = KMeans(5, n_init=1).fit(ROWS)
    for hidden in (Call(os.system, f"touch {marker}"), np.array([Call(os.mkdir, str(marker))])):
        model.feature_names_in_ = hidden
        for data in (pickle.dumps(model), joblibbed(model)):
            with pytest.raises(UnitcorpusError, match=r"it asks for|array of type O"):
                read_kmeans(data, "x")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"cbuiltins\neval\n.", "asks for builtins.eval"),
        (b"csklearn.cluster._kmeans\nKMeans.fit\n.", "asks for sklearn.cluster._kmeans.KMeans.fit"),
        (b"cnumpy\nndarray.tofile\n.", "asks for numpy.ndarray.tofile"),
        (b"c_codecs\nencode\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "state of a _Encoder"),
        (b"cnumpy\nndarray\n}b.", "state of a type"),
        (b"}}b.", "state of a dict"),
        (b"\x82\x01.", "extension codes"),
        (b"Pid\n.", "persistent"),
        (b"N.", "no scikit-learn k-means"),
        (b"ZF0x3f   ", "byte 90 is no instruction"),
        (b"", "."),
        (b"cnumpy\nndarray\n)R.", "no scikit-learn k-means"),
        (pickle.dumps(KMeans(3)), "not fitted"),
        (pickle.dumps(MODELS["KMeans"])[:-30], "."),
        (joblibbed(MODELS["KMeans"])[:400], "."),
    ],
)
def test_what_is_no_k_means_is_refused_with_the_reason(code: bytes, reason: str) -> None:
    with pytest.raises(UnitcorpusError, match=reason) as caught:
        read_kmeans(code, "units.bin")
    assert str(caught.value).startswith("units.bin cannot be read as a pickled k-means")


HUGE = (8 << 30).to_bytes(8, "little")


@pytest.mark.parametrize(
    "code",
    [
        b"\x96" + HUGE + b"x.",
        b"\x8e" + HUGE + b"x.",
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\x00\x00\x00\x40\x85Vf8\ntR.",
    ],
    ids=["bytearray", "bytes", "array"],
)
def test_a_claimed_size_reserves_no_memory(code: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnitcorpusError):
            read_kmeans(code, "x")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def refused_within(code: bytes, memory: int, reason: str = ".") -> None:
    """`code` is refused, and meanwhile no more than `memory` bytes are in use at once."""
    tracemalloc.start()
    try:
        with pytest.raises(UnitcorpusError, match=reason) as caught:
            read_kmeans(code, "x")
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


MIB = 1 << 20
ENCODE = b"c_codecs\nencode\nq\x00"
BOMBS: dict[str, tuple[bytes, str]] = {
    # One string of a megabyte, and a thousand calls of some bytes that copy it.
    "copies": (
        ENCODE + b"X" + (1 << 20).to_bytes(4, "little") + b"a" * MIB + b"q\x01"
        b"X\x06\x00\x00\x00latin1q\x02" + b"h\x00h\x01h\x02\x86R" * 1000 + b".",
        "again and again",
    ),
    "empty lists": (b"]" * 5 * MIB + b".", "more than 100,000 instructions"),
    "compressed": (zlib.compress(bytes(60 * MIB), 9), "becomes more than"),
    "gzip": (gzip.compress(b"]" * 100 * MIB), "becomes more than"),
    "bz2": (bz2.compress(b"]" * 100 * MIB), "becomes more than"),
    "xz": (lzma.compress(b"]" * 100 * MIB), "becomes more than"),
    "shape": (
        b"cnumpy\nndarray\n)R(K\x01\x8b" + (MIB // 2).to_bytes(4, "little") + b"\x7f" * (MIB // 2)
        + b"q\x00" + b"h\x00" * 1000 + b"tq\x010(K\x01h\x01NNNtb.",
        "impossible shape",
    ),
    "long name": (b"c" + b"os." * MIB + b"\nx\n.", "asks for os"),
    "lines": (b"\x8c\x04a\nb\n\x8c\x01c\x93.", "asks for a[?]b[?]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_what_would_grow_is_refused_before_it_does(kind: str) -> None:
    code, reason = BOMBS[kind]
    refused_within(code, 60 * MIB, reason)


DEEP = 250_000
NESTED: dict[str, bytes] = {
    "tuple as key": b"})" + b"\x85" * DEEP + b"Ns.",
    "tuple in a dict": b"()" + b"\x85" * DEEP + b"Nd.",
    "tuple in a set": b"\x8f()" + b"\x85" * DEEP + b"\x90.",
    "frozen sets": b"(" * DEEP + b"\x91" * DEEP + b".",
    "tuples": b")" + b"\x85" * DEEP + b".",
    "lists": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "states": b"cbuiltins\nobject\nq\x00)R" + b"h\x00)R" * DEEP + b"b" * DEEP + b".",
}
OVERFLOW = """
import pickle, sys
from unitcorpus.units import pickled
data = sys.stdin.buffer.read()
if sys.argv[1] == "plain":
    pickle._loads(data)
pickled._Counted.left = 10**9  # nesting alone is to be refused, not the number of steps
try:
    pickled.read_kmeans(data, "x")
except pickled.UnitcorpusError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_overflows_no_stack(kind: str) -> None:
    """In a process of its own: an overflow is its end."""
    command = [sys.executable, "-c", OVERFLOW]
    done = subprocess.run([*command, "ours"], input=NESTED[kind], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"x cannot be read as a pickled k-means" in done.stdout
    if kind == "tuple as key":
        plain = subprocess.run([*command, "plain"], input=NESTED[kind], capture_output=True)
        assert plain.returncode < 0, "the attack itself does not work"


def test_a_pickle_in_a_compressed_file_is_as_confined(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    attack = joblibbed(Call(os.system, f"touch {marker}"), compress=3)
    with pytest.raises(UnitcorpusError, match=r"asks for posix\.system"):
        read_kmeans(attack, "x")
    assert not marker.exists()
    joblib.load(BytesIO(attack))
    assert marker.exists(), "the attack itself does not work"


class Chain:
    """Reduces to a call on what another call gives, and sets a state with a call in it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        opened = Call(getattr, Call(importlib.import_module, "os"), "mkdir")
        return Call, (opened, self.marker), {"call": Call(os.system, f"touch {self.marker}")}


@pytest.mark.parametrize("protocol", range(6))
def test_a_chain_of_calls_with_a_state_is_refused_at_its_first_name(
    protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "done"
    model = KMeans(5, n_init=1).fit(ROWS)
    model.extra = [{"inner": Chain(str(marker))}]
    with pytest.raises(UnitcorpusError, match="asks for"):
        read_kmeans(pickle.dumps(model, protocol), "x")
    assert not marker.exists()
    pickle.loads(pickle.dumps(model, protocol))
    assert marker.exists(), "the attack itself does not work"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "path.os.system"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "random.os.system"),
        ("numpy.random", "mtrand.np.save"),
        ("numpy.random", "seed"),
        ("sklearn.cluster._kmeans", "np.save"),
        ("sklearn.cluster._kmeans", "KMeans.__init__.__globals__"),
        ("builtins", "object.__subclasses__"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper.read.__globals__"),
        ("numpy._core.multiarray", "_reconstruct.__self__"),
    ],
)
def test_dotted_names_on_the_stack_are_refused(module: str, name: str) -> None:
    def text(word: str) -> bytes:
        return b"\x8c" + bytes([len(word)]) + word.encode()

    code = b"\x80\x04" + text(module) + text(name) + b"\x93."
    with pytest.raises(UnitcorpusError, match=f"asks for {module}.{name}"):
        read_kmeans(code, "x")


GOOD = {False: pickle.dumps(MODELS["float32"]), True: joblibbed(MODELS["float32"])}


@settings(deadline=None, max_examples=150)
@given(st.data(), st.booleans())
def test_damage_gives_an_array_or_the_one_error(data: Any, in_joblib: bool) -> None:
    damaged = bytearray(GOOD[in_joblib])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    before = dict(vars(builtins))
    with suppress(UnitcorpusError):
        assert isinstance(read_kmeans(bytes(damaged), "x"), np.ndarray)
    assert vars(builtins) == before
