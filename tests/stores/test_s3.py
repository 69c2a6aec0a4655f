"""A corpus on S3, by s3fs and a server of our own: bytes, kills between two requests, refusals."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unitcorpus
from s3_server import State, serve
from unitcorpus.build.status import status
from unitcorpus.errors import UnitcorpusError
from unitcorpus.shards.store import Store
from unitcorpus.shards.verify import verify
from url_builds import SETTINGS, build, local_files, promised

pytest.importorskip("s3fs", reason="needs s3fs: pip install 'unitcorpus[s3]'")

URL = "s3://bucket/deep/corpus"
SECRET = "verysecret0123456789"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    state = State()
    with serve(state) as address:
        point_to(address, monkeypatch)
        yield state


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def there(state: State) -> dict[str, bytes]:
    return {key.removeprefix("deep/corpus/"): data for key, data in state.objects.items()}


def command(state: State) -> subprocess.CompletedProcess[str]:
    """The build as a command; the server may kill it."""
    words = [sys.executable, "-m", "unitcorpus", "build", "demo/stinystories", "--out", URL]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    state.victim = process.pid
    out, errors = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def test_the_objects_of_a_bucket_are_the_files_of_a_folder(
    store: State, small_corpus: Path
) -> None:
    build(URL)
    assert promised(there(store)) == promised(local_files(small_corpus))
    assert verify(URL) == []
    assert status(URL)["state"] == "finished"
    puts = [request for request in store.requests if request.startswith("PUT")]
    order = [p.removeprefix("PUT deep/corpus/") for p in puts]
    assert order[-1] == "corpus.json"
    assert order.index("plan/plan.json") < order.index("data/train-000000.tar")
    for shard in ("train-000000", "validation-000000"):
        assert order.index(f"receipts/{shard}.json") > order.index(f"rejects/{shard}.jsonl")
        assert order.index(f"receipts/{shard}.json") > order.index(f"data/{shard}.tar")


@pytest.mark.parametrize(
    ("match", "nth", "late"),
    [
        (r"PUT .*/plan/", 2, True),
        (r"PUT .*/data/", 2, True),
        (r"PUT .*/receipts/", 2, False),
        (r"PUT .*/corpus\.json", 1, False),
    ],
)
def test_killed_at_a_request_and_run_again_the_objects_are_the_same(
    store: State, small_corpus: Path, match: str, nth: int, late: bool
) -> None:
    store.kill, store.nth, store.late = match, nth, late
    assert command(store).returncode == -9
    store.kill = ""
    with pytest.raises(UnitcorpusError, match="is not a finished corpus"):
        unitcorpus.open(URL)
    build(URL)
    assert promised(there(store)) == promised(local_files(small_corpus))
    assert verify(URL) == []


def test_overwriting_leaves_nothing_of_the_old_corpus(store: State, small_corpus: Path) -> None:
    build(URL, "source.count=30")
    store.objects["deep/other"] = b"mine"
    build(URL, overwrite=True)
    assert store.objects.pop("deep/other") == b"mine"
    assert promised(there(store)) == promised(local_files(small_corpus))


def test_what_is_wrong_with_a_bucket_is_one_line_without_the_keys(
    store: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.deny = "PUT .*/data/"
    done = command(store)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot write to s3://bucket/deep/corpus: " in done.stderr
    assert "check its keys and permissions" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    with pytest.raises(UnitcorpusError, match="there is no such bucket or folder"):
        build("s3://other/corpus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(UnitcorpusError, match=r"cannot list s3://bucket/deep/corpus: .*onnect"):
        build(URL)


def test_a_key_that_leads_out_of_the_corpus_is_not_followed(store: State) -> None:
    store.objects |= {"deep/corpus//etc/passwd": b"x", "deep/corpus/corpus.json": b"{}"}
    with pytest.raises(UnitcorpusError, match="a name that leads out of it"):
        Store(URL).sizes()
