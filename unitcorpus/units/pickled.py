"""The centroids of a pickled scikit-learn k-means, without running any of the pickle.

A pickle is a program: it names functions and says on what to call them. Here every name it may use
stands for one of the inert classes and functions below, which only keep what they are given; any
other name is refused before anything happens. Neither scikit-learn nor joblib is imported, and no
function of numpy is within reach of the file. Instructions that no k-means needs are refused as
well, and what is made grows with the file alone: by no more than a few times its size.

Read are KMeans and MiniBatchKMeans as `pickle` (protocols 0 to 5) and `joblib.dump` (compressed or
not) write them, from scikit-learn 0.17 or so to today's.
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
from unitcorpus.units.inflate import inflate

MOST_STEPS = 100_000
RANDOM_MODULE = re.compile(r"numpy\.random(\.(mtrand|bit_generator|_\w+))?")
RANDOM_NAME = re.compile(
    r"__\w+_ctor|__pyx_unpickle_\w+|SeedSequence|RandomState|Generator|MT19937|PCG64(DXSM)?|Philox|SFC64"
)
REFUSED = (
    *(pickle.PERSID, pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EMPTY_SET, pickle.ADDITEMS),
    *(pickle.FROZENSET, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


def read_kmeans(data: bytes, name: str) -> NDArray[Any]:
    """`cluster_centers_` of the k-means pickled in `data`, [K, D] of a float type.

    Raises UnitcorpusError, which calls the file `name`, for anything else.
    """
    try:
        model = _Restricted(io.BytesIO(inflate(data, name))).load()
        if not isinstance(model, _KMeans) or not isinstance(model.state, dict):
            raise pickle.UnpicklingError("it holds no scikit-learn k-means")
        centroids = model.state.get("cluster_centers_")
        if not isinstance(centroids, _Array):
            raise pickle.UnpicklingError("the k-means in it is not fitted")
        return centroids.values()
    except UnitcorpusError:
        raise
    except Exception as error:  # a malformed pickle may raise anything
        raise UnitcorpusError(
            f"{name} cannot be read as a pickled k-means: {_one_line(error)}; "
            "export its cluster_centers_ with numpy.save and give that file"
        ) from error


def _one_line(error: Exception) -> str:
    """What went wrong, whatever the file put into it."""
    return "".join(c if c.isprintable() else "?" for c in str(error)[:200])


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
        self.shape, self.dtype, self.order, self.raw = _shape(shape), dtype, order, raw
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
        size = math.prod(_shape(state["shape"])) * state["dtype"].numpy().itemsize
        raw = stream.read(size)
        return _Array().set(state["shape"], state["dtype"], state["order"], raw)


def _shape(shape: Any) -> tuple[int, ...]:
    """A shape whose product is worth computing."""
    sides = shape if isinstance(shape, tuple) else (shape,)
    if len(sides) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in sides):
        raise pickle.UnpicklingError("an array in it has an impossible shape")
    return sides


def _reconstruct(kind: object, shape: object, dtype: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytes, dtype: object, shape: object, order: str) -> _Array:
    return _Array().set(shape, dtype, order, raw)


def _new_object(kind: Any, *arguments: object) -> _Inert:
    """An object of one of the classes of this module."""
    if not (isinstance(kind, type) and issubclass(kind, _Inert)):
        raise pickle.UnpicklingError(f"it makes an object of a {type(kind).__name__}")
    return kind.__new__(kind, *arguments)


class _Encoder:
    """Stands for codecs.encode, as Python 3 writes bytes in protocols 0 to 2. One short call can
    copy a long string that is written once: copies are counted."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: str, encoding: str) -> bytes:
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it copies one string again and again")
        return codecs.latin_1_encode(text)[0]


def _stand_ins() -> dict[tuple[str, str], Callable[..., Any]]:
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
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


class _Counted(dict[int, Any]):
    """What each instruction does. A k-means has hundreds; of a byte each, millions fill memory."""

    left = MOST_STEPS

    def __getitem__(self, code: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"it has more than {MOST_STEPS:,} instructions")
        if code not in self:
            raise pickle.UnpicklingError(f"byte {code} is no instruction: it is no pickle")
        return super().__getitem__(code)


class _Restricted(pickle._Unpickler):
    """Python's own unpickler in pure Python, whose steps can be replaced."""

    names: ClassVar = _stand_ins()
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream
        self._encoder = _Encoder(stream.getbuffer().nbytes)
        self.dispatch = _Counted(type(self).dispatch)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encoder
        # The state of a random generator, in a k-means that was given one or fitted in parts.
        if RANDOM_MODULE.fullmatch(module) and RANDOM_NAME.fullmatch(name):
            return _Inert
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.names[module, name]

    def load_newobj(self) -> None:
        """As the original, for the classes of this module only."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.append(_new_object(kind, *arguments))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], key, value)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(self.stack[-1], key, value)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(self.stack[-1], key, value)

    @staticmethod
    def _set(target: Any, key: Any, value: Any) -> None:
        """Only names are keys: to hash a tuple in a tuple in a tuple … overflows the stack."""
        if type(target) is not dict or type(key) not in (str, int, bytes):
            raise pickle.UnpicklingError(f"it has a {type(key).__name__} as a key")
        target[key] = value

    def refuse(self) -> None:
        raise pickle.UnpicklingError(
            "it has instructions (persistent ids, extension codes, sets, "
            "old classes or buffers) that no k-means needs"
        )

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
        **dict.fromkeys((code[0] for code in REFUSED), refuse),
        pickle.NEWOBJ[0]: load_newobj,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
