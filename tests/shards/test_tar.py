"""Archives: what is written is USTAR that others read, and nothing else is read."""

from __future__ import annotations

import contextlib
import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from unitcorpus.shards import tar
from unitcorpus.shards.format import DamagedError
from unitcorpus.shards.writer import AtomicFile, ShardWriter

NAMES = st.lists(
    st.sampled_from(["json", "units.npy", "durations.npy", "flac"]), min_size=1, unique=True
)
SAMPLES = st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=6)


def archive(samples: list[tuple[str, dict[str, bytes]]]) -> bytes:
    stream = io.BytesIO()
    for key, members in samples:
        tar.write_sample(stream, key, members)
    return stream.getvalue() + tar.end(len(stream.getvalue()))


def keyed(samples: list[tuple[list[str], bytes]]) -> list[tuple[str, dict[str, bytes]]]:
    return [(f"train-000000-{i:06d}", dict.fromkeys(n, d)) for i, (n, d) in enumerate(samples)]


@given(SAMPLES)
def test_scan_gives_back_what_was_written(samples: list[tuple[list[str], bytes]]) -> None:
    written = keyed(samples)
    found = [(k, {n: bytes(v) for n, v in m.items()}) for k, m in tar.scan(archive(written))]
    assert found == written


@given(SAMPLES)
def test_tarfile_reads_the_same_and_would_write_the_same_bytes(
    samples: list[tuple[list[str], bytes]],
) -> None:
    data = archive(keyed(samples))
    again = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=again, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in source:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            target.addfile(member, source.extractfile(member))
    assert again.getvalue() == data


def test_webdataset_reads_the_same_samples(tmp_path: Path) -> None:
    written = keyed([(["json", "units.npy"], b"{}"), (["json", "units.npy"], b"[1]")])
    path = tmp_path / "train-000000.tar"
    path.write_bytes(archive(written))
    found = [
        (s["__key__"], {n: s[n] for n in ("json", "units.npy")})
        for s in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert found == written


def _foreign(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as target:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
        target.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        _foreign("../escape.json"),
        _foreign("/etc/x.json"),
        _foreign("a/b.json"),
        _foreign("a.json", tarfile.SYMTYPE),
        _foreign("a.json", tarfile.LNKTYPE),
        _foreign("a.json", tarfile.CHRTYPE),
        _foreign("a.json", tarfile.DIRTYPE),
        _foreign("a.json", tarfile.FIFOTYPE),
        _foreign("a.json", tarfile.BLKTYPE),
        _foreign("a" * 60 + "/" + "b" * 60 + ".json"),  # a prefix in the header
        _foreign(".."),
        _foreign(".json"),
        _foreign("a\\b.json"),
        _foreign("a\x1b[2J.json"),
        _foreign("no-member"),
        b"",
        b"\x00" * 100,
        b"not a tar" * 100,
    ],
)
def test_what_a_shard_cannot_hold_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        list(tar.scan(data))


def test_an_archive_cut_anywhere_is_refused() -> None:
    data = archive(keyed([(["json"], b"x" * 700), (["json"], b"y" * 10)]))
    content = data.rstrip(b"\x00")
    for stop in range(0, len(content), 97):
        with pytest.raises(DamagedError):
            list(tar.scan(data[:stop]))


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train-000000.tar"
    with contextlib.suppress(RuntimeError), ShardWriter(path) as writer:
        writer.sample("train-000000-000000", {"json": b"{}"})
        assert not path.exists()
        raise RuntimeError("a stage failed")
    assert list(path.parent.iterdir()) == []
    with ShardWriter(path) as writer:
        assert not path.exists()
    assert path.exists()


def test_the_digest_of_a_written_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    with AtomicFile(tmp_path / "f") as file:
        file.write(b"abc")
        file.write(b"def")
    assert file.sha256 == sha256((tmp_path / "f").read_bytes()).hexdigest()
    assert file.size == 6
