"""The centroids of a pickled scikit-learn k-means, without running any of the pickle.

A pickle is a program: it names functions and says on what to call them. Here every name it may use
stands for one of the inert classes and functions below, which only keep what they are given; any
other name is refused before anything happens. Neither scikit-learn nor joblib is imported, and no
function of numpy is within reach of the file.

Read are KMeans and MiniBatchKMeans as `pickle` (protocols 0 to 5) and `joblib.dump` without
compression write them.
"""

from __future__ import annotations

import codecs
import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import UnitcorpusError


def read_kmeans(data: bytes, name: str) -> NDArray[Any]:
    """`cluster_centers_` of the k-means pickled in `data`, [K, D] of a float type.

    Raises UnitcorpusError, which calls the file `name`, for anything else.
    """
    try:
        model = _Restricted(io.BytesIO(data)).load()
        if not isinstance(model, _KMeans) or not isinstance(model.state, dict):
            raise pickle.UnpicklingError("it holds no scikit-learn k-means")
        centroids = model.state.get("cluster_centers_")
        if not isinstance(centroids, _Array):
            raise pickle.UnpicklingError("the k-means in it is not fitted")
        return centroids.values()
    except Exception as error:  # a malformed pickle may raise anything
        raise UnitcorpusError(
            f"{name} cannot be read as a pickled k-means: {error}; "
            "export its cluster_centers_ with numpy.save and give that file"
        ) from error


class _Inert:
    """Stands for an object of some library: keeps its state, does nothing."""

    state: Any = None

    def __new__(cls, *given: object) -> Self:
        return super().__new__(cls)

    def fill(self, state: Any) -> None:
        self.state = state


class _KMeans(_Inert):
    """Stands for KMeans and MiniBatchKMeans; the state is their attributes."""


class _Dtype(_Inert):
    """Stands for numpy.dtype: its name (`f4`), then as state a tuple with the byte order."""

    def __init__(self, name: str, *flags: object) -> None:
        self.name, self.order = name, "="

    def fill(self, state: Any) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[fiu][1248]", self.name) or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"it holds an array of type {self.name}")
        return np.dtype(self.order + self.name)


class _Array(_Inert):
    """Stands for numpy.ndarray: the raw bytes, made an array only when asked for its values."""

    def set(self, shape: Any, dtype: Any, order: str, raw: bytes) -> _Array:
        self.shape, self.dtype, self.order, self.raw = shape, dtype, order, raw
        return self

    def fill(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.set(shape, dtype, "F" if fortran else "C", raw)

    def values(self) -> NDArray[Any]:
        dtype = self.dtype.numpy()
        if len(self.raw) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError("an array in it is cut off")
        order: Any = self.order
        return np.frombuffer(self.raw, dtype).reshape(self.shape, order=order)


class _JoblibArray(_Inert):
    """Stands for joblib's NumpyArrayWrapper, whose array follows it in the stream."""

    def read(self, stream: io.BytesIO) -> _Array:
        state = self.state
        if state.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        size = math.prod(state["shape"]) * state["dtype"].numpy().itemsize
        raw = stream.read(size)
        return _Array().set(state["shape"], state["dtype"], state["order"], raw)


def _reconstruct(kind: object, shape: object, dtype: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytes, dtype: object, shape: object, order: str) -> _Array:
    return _Array().set(shape, dtype, order, raw)


def _new_object(kind: type[_Inert], base: object, state: object) -> _Inert:
    return kind.__new__(kind)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2."""
    return codecs.latin_1_encode(text)[0]


def _stand_ins() -> dict[tuple[str, str], Callable[..., Any]]:
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }
    for module in ("numpy.core", "numpy._core"):
        names[f"{module}.multiarray", "_reconstruct"] = _reconstruct
        names[f"{module}.multiarray", "scalar"] = _Inert
        names[f"{module}.numeric", "_frombuffer"] = _frombuffer
    for kind in ("KMeans", "MiniBatchKMeans"):
        names["sklearn.cluster._kmeans", kind] = _KMeans
        names["sklearn.cluster.k_means_", kind] = _KMeans
    for module in ("joblib", "sklearn.externals.joblib"):
        names[f"{module}.numpy_pickle", "NumpyArrayWrapper"] = _JoblibArray
    for module in ("copyreg", "copy_reg"):
        names[module, "_reconstructor"] = _new_object
    for module in ("builtins", "__builtin__"):
        names[module, "object"] = _Inert
    return names


class _Restricted(pickle._Unpickler):
    """Python's own unpickler in pure Python, whose steps can be replaced."""

    names: ClassVar = _stand_ins()
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def find_class(self, module: str, name: str) -> Any:
        # The state of a random generator, in a k-means that was given one or fitted in parts.
        if module == "numpy.random" or module.startswith("numpy.random."):
            return _Inert
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.names[module, name]

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("it uses extension codes")

    def load_build(self) -> None:
        """Hands an object its state; only objects of this module take one."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Inert):
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}")
        target.fill(state)
        if isinstance(target, _JoblibArray):
            self.stack[-1] = target.read(self._stream)

    def load_bytearray8(self) -> None:
        """As the original, which reserves the length that is claimed before there are bytes."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
