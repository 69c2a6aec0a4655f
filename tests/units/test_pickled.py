"""Centroids come out of real k-means pickles; nothing else happens, whatever the pickle says."""

from __future__ import annotations

import builtins
import functools
import importlib
import operator
import os
import pickle
import subprocess
import sys
import tracemalloc
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


def joblibbed(model: object) -> bytes:
    stream = BytesIO()
    joblib.dump(model, stream)
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
        (b"c_codecs\nencode\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "state of a function"),
        (b"cnumpy\nndarray\n}b.", "state of a type"),
        (b"}}b.", "state of a dict"),
        (b"\x82\x01.", "extension codes"),
        (b"Pid\n.", "persistent"),
        (b"N.", "no scikit-learn k-means"),
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
