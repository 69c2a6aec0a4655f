"""Data sets through `datasets`: folders in this process; the Hub in a child process, where the real
huggingface_hub and datasets talk to a small server that answers as the Hub does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import HuggingfaceSource
from unitcorpus.sources.base import BadRow, Row
from unitcorpus.sources.huggingface import HuggingfaceRows


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def folder_of(folder: Path, **splits: dict[str, list[Any]]) -> Path:
    folder.mkdir()
    for split, columns in splits.items():
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


def source(folder: Path, **section: Any) -> HuggingfaceRows:
    return HuggingfaceRows(HuggingfaceSource(path=str(folder), **section), 0)


def read(folder: Path, **section: Any) -> list[Row | BadRow]:
    return list(source(folder, **section).rows())


def error_of(folder: Path, **section: Any) -> str:
    with pytest.raises(UnitcorpusError) as caught:
        read(folder, **section)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    return folder_of(
        tmp_path / "data",
        train={"text": ["a", "b", "c"], "id": [10, 11, None]},
        validation={"text": ["d", "e"], "id": [20, 21]},
    )


# --- local folders ----------------------------------------------------------------------------


def test_splits_come_in_the_recipes_order_under_our_names(two_splits: Path) -> None:
    rows = read(two_splits, splits={"validation": "validation", "train": "train"})
    assert rows == [
        Row("d", "validation row 0", "20", "validation"),
        Row("e", "validation row 1", "21", "validation"),
        Row("a", "train row 0", "10", "train"),
        Row("b", "train row 1", "11", "train"),
        Row("c", "train row 2", "", "train"),
    ]
    renamed = read(two_splits, splits={"train": "validation"})
    assert renamed[0] == Row("d", "validation row 0", "20", "train")


def test_the_limit_is_that_of_each_split(two_splits: Path) -> None:
    rows = read(two_splits, splits={"train": "train", "validation": "validation"}, limit=1)
    assert [row.where for row in rows] == ["train row 0", "validation row 0"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_rows_are_those_that_datasets_reads(kind: str, tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict(
        {
            "key": [f"k{i}" for i in range(2500)],
            "story": [f"Story {i},\nof a fox" for i in range(2500)],
        }
    )
    for i in range(3):
        part = data.shard(3, i, contiguous=True)
        path = tmp_path / "data" / f"train-{i}.{kind}"
        path.parent.mkdir(exist_ok=True)
        {"jsonl": part.to_json, "csv": part.to_csv, "parquet": part.to_parquet}[kind](path)
    rows = read(tmp_path / "data", text_column="story", id_column="key")
    assert [(row.id, row.text) for row in rows if isinstance(row, Row)] == list(
        zip(data["key"], data["story"], strict=True)
    )


def test_texts_that_are_null_or_not_utf8_are_bad_rows(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 2)))
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    folder = folder_of(tmp_path / "data", train={"text": ["a", None]}, validation={"text": broken})
    reasons = [
        getattr(row, "reason", "")
        for row in read(folder, splits={"train": "train", "validation": "validation"})
    ]
    assert reasons == ["", "not_text", "", "not_utf8"]


def test_audio_beside_the_text_is_not_decoded(tmp_path: Path) -> None:
    features = {"text": {"dtype": "string", "_type": "Value"}, "audio": {"_type": "Audio"}}
    table = pa.table({"text": ["a"], "audio": [{"bytes": b"no audio", "path": "a.wav"}]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (tmp_path / "data").mkdir()
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "data" / "train.parquet")
    assert read(tmp_path / "data") == [Row("a", "train row 0", "", "train")]


def test_unknown_splits_columns_and_configurations_name_the_known(two_splits: Path) -> None:
    message = error_of(two_splits, splits={"train": "trian"})
    assert "train, validation" in message
    assert "did you mean 'train'" in message
    assert "its columns: text, id" in error_of(two_splits, text_column="story")
    assert "source.id_column" in error_of(two_splits, id_column="key")
    assert "default" in error_of(two_splits, name="wikipedia")


def test_a_split_is_checked_before_any_row_is_read(two_splits: Path) -> None:
    rows = source(two_splits, splits={"train": "train", "validation": "test"}).rows()
    with pytest.raises(UnitcorpusError, match="no split 'test'"):
        next(rows)


def test_missing_empty_and_broken_folders_are_clear_errors(tmp_path: Path) -> None:
    assert "no such folder" in error_of(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "cannot read the data set" in error_of(tmp_path / "empty")
    folder = folder_of(tmp_path / "numbers", train={"text": [1, 2]})
    assert "int64" in error_of(folder)
    (folder / "train.parquet").write_bytes(b"PAR1 no such thing")
    assert "cannot read the data set" in error_of(folder)


def test_the_identity_of_a_folder_is_that_of_its_files(two_splits: Path, tmp_path: Path) -> None:
    first = source(two_splits).identity()
    assert str(tmp_path) not in json.dumps(first)
    moved = two_splits.rename(tmp_path / "moved")
    (moved / ".DS_Store").write_bytes(b"not data")
    assert source(moved).identity() == first
    assert source(moved, limit=1).identity() != first
    (moved / "train.parquet").rename(moved / "test.parquet")
    assert source(moved).identity() != first
    (moved / "test.parquet").rename(moved / "train.parquet")
    assert source(moved).identity() == first
    with (moved / "train.parquet").open("ab") as file:
        file.write(b"\0")
    assert source(moved).identity() != first


# --- the Hub ----------------------------------------------------------------------------------

COMMIT, OLD_COMMIT, REPO = "a1" * 20, "b2" * 20, "org/name"


def _parquet(columns: dict[str, list[str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


FILES = {
    COMMIT: {
        "data/train-00000.parquet": _parquet({"text": ["a", "b"], "id": ["1", "2"]}),
        "data/test-00000.parquet": _parquet({"text": ["c"], "id": ["3"]}),
    },
    OLD_COMMIT: {"data/train-00000.parquet": _parquet({"text": ["old"], "id": ["0"]})},
}


class Hub(BaseHTTPRequestHandler):
    """One data set with two commits, as the Hub answers for it."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        api = f"/api/datasets/{REPO}"
        named = next((commit for commit in FILES if commit in url.path), COMMIT)
        if "/resolve/" in url.path:
            self.send_file(named, url.path.split(f"/resolve/{named}/")[-1])
        elif url.path.startswith(f"{api}/tree/{named}"):
            files = url.path.endswith("/data") or "recursive=true" in url.query.lower()
            self.send_tree(named, files)
        elif url.path in (api, f"{api}/revision/main", f"{api}/revision/{named}"):
            siblings = [{"rfilename": name} for name in FILES[named]]
            self.send_json({"id": REPO, "sha": named, "siblings": siblings, "tags": []})
        elif url.path.startswith(api):
            self.send_json({"error": "Invalid rev id"}, 404, "RevisionNotFound")
        else:
            self.send_json({"error": "Repository not found"}, 404, "RepoNotFound")

    def send_tree(self, commit: str, files: bool) -> None:
        if not files:
            return self.send_json([{"type": "directory", "path": "data", "oid": "0" * 40}])
        return self.send_json(
            [
                {"type": "file", "path": name, "size": len(data), "oid": sha1(data).hexdigest()}
                for name, data in FILES[commit].items()
            ]
        )

    def send_file(self, commit: str, name: str) -> None:
        if name not in FILES[commit]:
            return self.send_json({"error": "Entry not found"}, 404, "EntryNotFound")
        data = FILES[commit][name]
        headers = {"ETag": f'"{sha1(data).hexdigest()}"', "X-Repo-Commit": commit}
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last or len(data)) + 1]
            end = int(first) + len(part) - 1
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            return self.send(part, 206, headers)
        return self.send(data, 200, headers)

    def send_json(self, value: Any, status: int = 200, code: str = "") -> None:
        headers = {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}
        self.send(json.dumps(value).encode(), status, headers | {"X-Error-Code": code})

    def send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the server is not what is tested."""


CHILD = """
import json, sys
from unitcorpus.errors import UnitcorpusError
from unitcorpus.recipe.sources import HuggingfaceSource
from unitcorpus.sources.huggingface import HuggingfaceRows
answers = []
for section in json.loads(sys.argv[1]):
    fill, read = section.pop("fill_cache", False), section.pop("read", True)
    if fill:
        from huggingface_hub import snapshot_download
        snapshot_download(section["path"], repo_type="dataset")
    try:
        source = HuggingfaceRows(HuggingfaceSource(**section), 0)
        rows = [[r.text, r.id, r.split] for r in source.rows()] if read else []
        answers.append([source.identity(), rows])
    except UnitcorpusError as error:
        answers.append(str(error))
print("ANSWERS" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(hub: str, home: Path, *sections: dict[str, Any], offline: bool = False) -> list[Any]:
    """What a process with this Hub as its endpoint gets: [identity, rows] or the error."""
    env = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", CHILD, json.dumps(sections)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=home)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.split("ANSWERS")[1])
    assert isinstance(answers, list)
    return answers


def test_the_hub_is_read_at_the_commit_that_the_identity_names(hub: str, tmp_path: Path) -> None:
    named, pinned, no_repo, no_revision, no_split = ask(
        hub,
        tmp_path,
        {"path": REPO, "splits": {"train": "train", "validation": "test"}, "fill_cache": True},
        {"path": REPO, "revision": OLD_COMMIT},
        {"path": "org/none"},
        {"path": REPO, "revision": "v9"},
        {"path": REPO, "splits": {"train": "dev"}},
    )
    identity, rows = named
    assert identity == {
        "kind": "huggingface",
        "path": REPO,
        "name": None,
        "revision": COMMIT,
        "limit": None,
    }
    assert rows == [["a", "1", "train"], ["b", "2", "train"], ["c", "3", "validation"]]
    assert pinned == [identity | {"revision": OLD_COMMIT}, [["old", "0", "train"]]]
    assert "org/none" in no_repo
    assert "v9" in no_revision
    assert "train, test" in no_split
    assert not any("\n" in message for message in (no_repo, no_revision, no_split))

    cached, exact, tag = ask(
        hub,
        tmp_path,
        {"path": REPO, "read": False},
        {"path": REPO, "revision": COMMIT, "read": False},
        {"path": REPO, "revision": "v9", "read": False},
        offline=True,
    )
    assert cached[0] == exact[0] == identity
    assert "set source.revision to a commit" in tag
