"""Codebooks: read from where others publish them, kept ever after as one kind of .npy.

A codebook is identified by the sha256 of its bytes as written here, whatever file it came from. No
code of a file is run (see `pickled`), nothing is believed of it before it is checked, and one from
the network is either plain data or pinned by the recipe.
"""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import HubertUnits, MfccUnits
from unitcorpus.shards.writer import AtomicFile, write_atomic
from unitcorpus.units.pickled import read_kmeans

MAX_BYTES = 1 << 30
MAX_SIDE = 65_536
"""Most units (they are uint16) and widest features."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centroids float32 [K, D], and the sha256 of the .npy that `save_codebook` writes of them."""

    centroids: NDArray[np.float32]
    sha256: str


def load_codebook(section: MfccUnits | HubertUnits) -> Codebook:
    """The codebook that a recipe names. Raises UnitcorpusError."""
    return read_codebook(section.codebook, section.codebook_sha256)


def read_codebook(
    where: str, pin: str | None = None, pin_name: str = "units.codebook_sha256"
) -> Codebook:
    """A codebook: `demo`, a local file or a URL; .npy, .safetensors or a pickled scikit-learn
    k-means, told apart by content.

    Raises UnitcorpusError for one that is missing, has not the sha256 that `pin` (whose name the
    user knows as `pin_name`) says, or holds no usable centroids.
    """
    remote = "://" in where and not where.startswith("file://")
    path = _fetch(where, pin) if remote else _local(where)
    data = _read(path, where)
    found = sha256(data).hexdigest()
    if pin is not None and found != pin.lower():
        raise UnitcorpusError(
            f"codebook {where} has sha256 {found}, {pin_name} asks for {pin}; "
            "find out which is right before using either"
        )
    if remote and pin is None and _format(data) == "pickle":
        raise UnitcorpusError(
            f"codebook {where} is a pickle from the network: set {pin_name} to the hash "
            f"that its authors publish (what is there now has {found})"
        )
    return _parse(data, where)


def load_npy_codebook(path: Path) -> Codebook:
    """The codebook in a local .npy; raises UnitcorpusError."""
    return _checked(_read_npy(_read(path, str(path)), str(path)), str(path))


def save_codebook(path: Path, centroids: NDArray[Any]) -> Codebook:
    """Writes centroids [K, D] as float32 .npy: the same centroids give the same bytes."""
    book = _checked(centroids, str(path))
    write_atomic(path, _npy(book.centroids))
    return book


def check_width(codebook: Codebook, width: int, extractor: str) -> None:
    """Raises UnitcorpusError where features of `width` do not fit the codebook."""
    found = codebook.centroids.shape[1]
    if found != width:
        raise UnitcorpusError(
            f"the codebook is for features of width {found}, extractor {extractor} gives {width}; "
            "give the codebook that was fitted on this extractor and layer"
        )


def _npy(centroids: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    little = np.ascontiguousarray(centroids, dtype="<f4")
    np.lib.format.write_array(stream, little, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _checked(values: NDArray[Any], name: str) -> Codebook:
    _check_shape(values.shape, values.dtype, name)
    with np.errstate(over="ignore"):
        centroids = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(centroids).all():
        raise UnitcorpusError(f"codebook {name} holds NaN or infinity; it cannot be used")
    return Codebook(centroids, sha256(_npy(centroids)).hexdigest())


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if len(shape) != 2 or dtype.kind != "f" or not all(1 <= side <= MAX_SIDE for side in shape):
        raise UnitcorpusError(
            f"codebook {name} holds {dtype} {list(shape)}; "
            f"a codebook is a matrix of floats [units, width], at most {MAX_SIDE} of each"
        )


# --- formats ----------------------------------------------------------------------------------


def _format(data: bytes) -> str:
    """npy, safetensors or pickle, by the first bytes."""
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return "npy"
    # safetensors: the header's length in 8 bytes, then the header, JSON.
    return "safetensors" if data[8:9] == b"{" else "pickle"


def _parse(data: bytes, name: str) -> Codebook:
    readers = {"npy": _read_npy, "safetensors": _read_safetensors, "pickle": _read_pickle}
    return _checked(readers[_format(data)](data, name), name)


def _read_npy(data: bytes, name: str) -> NDArray[Any]:
    """The array of a .npy, after its header has been checked against the bytes that are there."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(stream)
    except Exception as error:  # numpy's parser raises what Python's does, and more
        raise UnitcorpusError(f"codebook {name} is not a .npy of one plain matrix") from error
    _check_shape(shape, dtype, name)
    size = len(data) - stream.tell()
    if size != shape[0] * shape[1] * dtype.itemsize:
        raise UnitcorpusError(
            f"codebook {name} is damaged: {size} bytes follow a header of {dtype} {list(shape)}"
        )
    flat: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_safetensors(data: bytes, name: str) -> NDArray[Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnitcorpusError(f"codebook {name} cannot be read as safetensors: {error}") from error
    if len(tensors) != 1:
        raise UnitcorpusError(
            f"codebook {name} holds {len(tensors)} tensors; a codebook is one matrix [units, width]"
        )
    (values,) = tensors.values()
    return values


def _read_pickle(data: bytes, name: str) -> NDArray[Any]:
    if data.startswith(b"PK"):
        raise UnitcorpusError(
            f"codebook {name} is a zip archive, as torch.save and numpy.savez write them; "
            "save its centroids with numpy.save and give that file"
        )
    return read_kmeans(data, f"codebook {name}")


# --- files and downloads ----------------------------------------------------------------------


def _local(where: str) -> Path:
    if where == "demo":
        return Path(str(files("unitcorpus.units") / "demo_codebook.npy"))
    return Path(where.removeprefix("file://")).expanduser()


def _read(path: Path, name: str) -> bytes:
    try:
        found = path.stat()
        size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            raise UnitcorpusError(f"codebook {name} is not a file")
        if size > MAX_BYTES:
            raise UnitcorpusError(f"codebook {name} has {size} bytes; {MAX_BYTES} is the most")
        return path.read_bytes()
    except OSError as error:
        raise UnitcorpusError(
            f"codebook {name} cannot be read ({error.strerror}); give 'demo', a .npy, .safetensors "
            "or pickled k-means, or the URL of one"
        ) from error


def _fetch(url: str, pin: str | None) -> Path:
    """The local copy of a URL; downloaded again where it is not what the recipe pins."""
    root = os.environ.get("UNITCORPUS_CACHE") or Path("~/.cache/unitcorpus").expanduser()
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(urlsplit(url).path).name)[-80:]
    path = Path(root) / "codebooks" / f"{sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not path.exists() or (
        pin is not None and sha256(path.read_bytes()).hexdigest() != pin.lower()
    ):
        _download(url, path)
    return path


def _download(url: str, path: Path) -> None:
    try:
        with _open(url) as source, AtomicFile(path) as file:
            while block := source.read(1 << 20):
                file.write(block)
                if file.size > MAX_BYTES:
                    raise ValueError(f"it has more than {MAX_BYTES} bytes")
            length = getattr(source, "headers", {}).get("Content-Length")
            if length is not None and int(length) != file.size:
                raise ValueError(f"{file.size} of {length} bytes came through")
    except Exception as error:  # whatever the URL's file system raises
        raise UnitcorpusError(
            f"codebook {url} cannot be downloaded ({error}); download it by other means and give "
            "the file"
        ) from error


def _open(url: str) -> IO[bytes]:
    if urlsplit(url).scheme in ("http", "https"):
        stream: IO[bytes] = urlopen(url, timeout=60)
        return stream
    import fsspec

    opened: IO[bytes] = fsspec.open(url, "rb").open()
    return opened
