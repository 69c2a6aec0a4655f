"""One codebook whatever file it comes from, and a clear error for what is none."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints_hubert import make_kmeans_pickle
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.models import MfccUnits
from unitcorpus.units.codebook import (
    Codebook,
    check_width,
    load_codebook,
    load_npy_codebook,
    save_codebook,
)
from unitcorpus.units.mfcc import MfccExtractor

CENTROIDS = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)


def load(where: Path | str, pin: str | None = None) -> Codebook:
    return load_codebook(MfccUnits(codebook=str(where), codebook_sha256=pin))


def npy(values: Any, **options: Any) -> bytes:
    stream = BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def test_a_saved_codebook_is_a_plain_npy_named_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "new" / "codebook.npy"
    book = save_codebook(path, CENTROIDS)
    assert np.array_equal(np.load(path), CENTROIDS)
    assert book.sha256 == sha256(path.read_bytes()).hexdigest()
    assert path.read_bytes()[6:8] == b"\x01\x00"
    loaded = load_npy_codebook(path)
    assert loaded.sha256 == book.sha256
    assert loaded.centroids.dtype == np.float32


def test_the_same_centroids_are_the_same_codebook_in_every_format(tmp_path: Path) -> None:
    wide = CENTROIDS.astype(np.float64)
    save_file({"centroids": CENTROIDS}, tmp_path / "a.safetensors")
    np.save(tmp_path / "c.npy", CENTROIDS)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(CENTROIDS))
    np.save(tmp_path / "big.npy", wide.astype(">f8"))
    make_kmeans_pickle(tmp_path / "a.bin", CENTROIDS)
    make_kmeans_pickle(tmp_path / "b.bin", wide, "joblib")
    books = [load(path) for path in sorted(tmp_path.iterdir())]
    assert len(books) == 6
    assert {book.sha256 for book in books} == {sha256(npy(CENTROIDS)).hexdigest()}
    assert all(np.array_equal(book.centroids, CENTROIDS) for book in books)


def test_the_pin_is_the_hash_of_the_file(tmp_path: Path) -> None:
    path = make_kmeans_pickle(tmp_path / "a.bin", CENTROIDS)
    pin = sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(load(path, pin.upper()).centroids, CENTROIDS)
    with pytest.raises(UnitcorpusError, match=f"(?s){pin}.*{'0' * 64}"):
        load(path, "0" * 64)


def npy_header(shape: tuple[int, int]) -> bytes:
    stream = BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def test_the_packaged_codebook_fits_the_default_mfcc() -> None:
    section = MfccUnits()
    book = load_codebook(section)
    check_width(book, MfccExtractor.resolve(section)["width"], "mfcc")
    assert book.sha256 == sha256(npy(book.centroids)).hexdigest()


BAD: dict[str, tuple[bytes, str]] = {
    "nan": (npy(np.where(CENTROIDS > 2, np.nan, CENTROIDS)), "NaN or infinity"),
    "overflow": (npy(np.full((2, 2), 1e300)), "NaN or infinity"),
    "vector": (npy(np.ones(5)), r"float64 \[5\]; a codebook is a matrix"),
    "integers": (npy(np.ones((5, 5), int)), r"int64 \[5, 5\]; a codebook is a matrix"),
    "empty": (npy(np.ones((0, 5))), r"\[0, 5\]; a codebook is a matrix"),
    "too many": (npy(np.ones((65_537, 1))), r"\[65537, 1\].*at most 65536"),
    "objects": (npy(np.array([[{}]]), allow_pickle=True), "object"),
    "fields": (npy(np.zeros((2, 2), [("a", "f4")])), "a codebook is a matrix"),
    "cut off": (npy(CENTROIDS)[:-1], r"damaged: 479 bytes follow .* \[20, 6\]"),
    "longer": (npy(CENTROIDS) + b"x", "damaged: 481 bytes"),
    "bomb": (npy_header((65_536, 65_536)), "damaged: 0 bytes follow"),
    "header": (npy(CENTROIDS)[:40], "not a .npy of one plain matrix"),
    "version": (b"\x93NUMPY\x09\x00" + npy(CENTROIDS)[8:], "not a .npy of one plain matrix"),
    "zip": (b"PK\x03\x04rest", "zip archive"),
    "safetensors": (b"\x02\0\0\0\0\0\0\0{}", "holds 0 tensors"),
    "bad safetensors": (b"\xff\0\0\0\0\0\0\0{", "cannot be read as safetensors"),
    "text": (b"no codebook at all", "cannot be read as a pickled k-means"),
    "nothing": (b"", "cannot be read as a pickled k-means"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_codebook_is_refused_by_name_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(BAD[kind][0])
    with pytest.raises(UnitcorpusError, match=BAD[kind][1]) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UnitcorpusError, match=r"none\.npy cannot be read \(No such file"):
        load(tmp_path / "none.npy")


def test_a_codebook_of_another_width_is_refused_with_both_widths(tmp_path: Path) -> None:
    book = save_codebook(tmp_path / "a.npy", CENTROIDS)
    check_width(book, 6, "hubert")
    with pytest.raises(UnitcorpusError, match="width 6, extractor hubert gives 768"):
        check_width(book, 768, "hubert")


# --- URLs ---------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Serves `content`; says `length` bytes will come where that is set."""

    content: ClassVar[bytes] = b""
    length: ClassVar[int | None] = None
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200 if self.content else 404)
        self.send_header("Content-Length", str(self.length or len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("UNITCORPUS_CACHE", str(tmp_path / "cache"))
    Server.content, Server.length, Server.requests = npy(CENTROIDS), None, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/books/km.npy?download=1"
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_url_is_downloaded_once_and_kept(url: str, tmp_path: Path) -> None:
    first, again = load(url), load(url)
    assert np.array_equal(first.centroids, CENTROIDS)
    assert again.sha256 == first.sha256
    assert len(Server.requests) == 1
    assert [name.endswith("-km.npy") for name in cached(tmp_path)] == [True]


def test_a_kept_copy_that_is_not_what_is_pinned_is_downloaded_again(url: str) -> None:
    load(url)
    Server.content = npy(CENTROIDS + 1)
    book = load(url, sha256(Server.content).hexdigest())
    assert np.array_equal(book.centroids, CENTROIDS + 1)


def test_a_pickle_from_the_network_must_be_pinned(url: str, tmp_path: Path) -> None:
    Server.content = make_kmeans_pickle(tmp_path / "a.bin", CENTROIDS).read_bytes()
    pin = sha256(Server.content).hexdigest()
    with pytest.raises(UnitcorpusError, match=f"set units.codebook_sha256 .*{pin}"):
        load(url)
    assert np.array_equal(load(url, pin).centroids, CENTROIDS)


def test_a_download_that_breaks_off_leaves_nothing_behind(url: str, tmp_path: Path) -> None:
    Server.length = len(Server.content) + 10
    with pytest.raises(UnitcorpusError, match=r"cannot be downloaded \(608 of 618 bytes came"):
        load(url)
    assert cached(tmp_path) == []
    Server.content = b""
    with pytest.raises(UnitcorpusError, match=r"cannot be downloaded \(HTTP Error 404"):
        load(url)


def test_a_download_that_is_too_large_is_stopped(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unitcorpus.units.codebook.MAX_BYTES", 600)
    with pytest.raises(UnitcorpusError, match="more than 600 bytes"):
        load(url)
    (tmp_path / "big.npy").write_bytes(Server.content)
    with pytest.raises(UnitcorpusError, match="has 608 bytes; 600 is the most"):
        load(tmp_path / "big.npy")


def test_other_urls_go_through_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITCORPUS_CACHE", str(tmp_path))
    with fsspec.open("memory://books/km.npy", "wb") as file:
        file.write(npy(CENTROIDS))
    assert np.array_equal(load("memory://books/km.npy").centroids, CENTROIDS)
    with pytest.raises(UnitcorpusError, match=r"none\.npy cannot be downloaded"):
        load("memory://books/none.npy")


def test_a_file_url_is_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "km.bin"
    path.write_bytes(pickle.dumps("no k-means"))
    with pytest.raises(UnitcorpusError, match="it holds no scikit-learn k-means"):
        load(path.as_uri())
