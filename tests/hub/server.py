"""A small Hub: the HTTP API that huggingface_hub really uses for data sets, kept in memory, with
faults to order.

Repositories have branches; a branch is a list of commits, a commit the files it left.
What was received is recorded, so that a test can tell the order of commits and what was sent twice.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".tar", ".parquet", ".npy")
"""Endings that the Hub keeps as large files, whatever their size."""

PAGE = 7
"""Entries of a page of a listing: small, so that there are several."""

Files = dict[str, bytes]


@dataclass
class Fault:
    """What to do to the `nth` request (from 1) whose "METHOD path" holds `where`: answer with
    `status`; `hang` for some seconds; `cut` the connection once half of the body has come; `kill`
    a process, before (`early`) or after the request is carried out."""

    where: str
    nth: int = 1
    times: int = 1
    status: int = 0
    message: str = ""
    hang: float = 0.0
    cut: bool = False
    kill: str = ""
    seen: int = 0

    def matches(self, request: str) -> bool:
        if self.where not in request:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass
class Repo:
    private: bool
    branches: dict[str, list[tuple[str, Files]]]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def files(self, revision: str = "main") -> Files:
        return self.branches[revision][-1][1]


@dataclass
class State:
    """Everything the server knows. `uploads` counts the large files received whole by sha256,
    `small` the small ones by path; `victim` is who a fault kills."""

    token: str = "hf_secret0123456789"
    user: str = "user"
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    uploads: Counter[str] = field(default_factory=Counter)
    small: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    victim: int = 0
    requests: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Forgets everything; for those who keep the server running."""
        with self.lock:
            for kept in (self.repos, self.large, self.uploads, self.small):
                kept.clear()
            self.faults, self.requests = [], []

    def commits(self, repo: str, revision: str = "main") -> list[tuple[str, Files]]:
        """(message, files afterwards) of every commit after the first."""
        return self.repos[repo].branches[revision][1:]


class CutError(Exception):
    """The connection ends here, by order."""


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece: two would wait for each other's acknowledgement
    state: State

    # --- every request -------------------------------------------------------------------------

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.where = unquote(url.path)  # to match and to show
        self.parts = [unquote(part) for part in url.path.split("/")[1:]]  # a branch may hold a /
        request = f"{self.command} {self.where}"
        with self.state.lock:
            self.state.requests.append(request)
            fault = next((f for f in self.state.faults if f.matches(request)), None)
        try:
            self._body = self._receive(fault)
            if fault and fault.kill == "early":
                self._kill()
            if fault and fault.hang:
                time.sleep(fault.hang)
                raise CutError
            if fault and fault.status:
                return self._fail(fault.status, fault.message or "by order")
            self._late = fault is not None and fault.kill == "late"
            with self.state.lock:
                self._route()
        except (CutError, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _receive(self, fault: Fault | None) -> bytes:
        """The body; half of it where the connection is to be cut, or its sender to be killed."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(self._chunks(fault))
        length = int(self.headers.get("Content-Length") or 0)
        if fault and (fault.cut or fault.kill == "half"):
            self.rfile.read(length // 2)
            self._stop(fault)
        return self.rfile.read(length)

    def _chunks(self, fault: Fault | None) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            data = self.rfile.read(size)
            self.rfile.readline()
            if fault and (fault.cut or fault.kill == "half"):
                self._stop(fault)
            yield data
        self.rfile.readline()

    def _stop(self, fault: Fault) -> None:
        if fault.kill:
            self._kill()
        raise CutError

    def _kill(self) -> None:
        os.kill(self.state.victim, signal.SIGKILL)
        raise CutError

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self._late:
            self._kill()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    _late = False

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        more = {"Content-Type": "application/json", **(headers or {})}
        self._send(json.dumps(value).encode(), status, more)

    def _fail(self, status: int, message: str, code: str = "") -> None:
        self._json({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the server is not what is tested."""

    # --- what it answers -----------------------------------------------------------------------

    def _route(self) -> None:
        said = self.headers.get("Authorization")
        if said is not None and said != f"Bearer {self.state.token}":
            return self._fail(401, "Invalid credentials in Authorization header")
        self.known = said is not None
        where = self.where
        if where.startswith("/storage/"):
            return self._store(self.parts[1])
        if where == "/api/repos/create":
            return self._create()
        if where == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        api = where.startswith("/api/datasets/")
        parts = self.parts[2 if api else 1 :]
        name = "/".join(parts[:2]).removesuffix(".git")
        repo = self.state.repos.get(name)
        if repo is None or (repo.private and not self.known):
            return self._fail(404 if self.known else 401, "Repository not found", "RepoNotFound")
        rest = parts[2:]
        if not api:
            return self._batch() if rest[:2] == ["info", "lfs"] else self._resolve(repo, rest)
        kind = rest[0] if rest else "revision"
        answers: dict[str, Callable[[Repo, list[str]], None]] = {
            "revision": self._info,
            "tree": self._tree,
            "paths-info": self._paths,
            "preupload": self._preupload,
            "commit": self._commit,
            "branch": self._branch,
            "discussions": self._discussions,
        }
        if kind not in answers:
            return self._fail(404, f"no {kind} here")
        self.name = name
        return answers[kind](repo, rest[1:])

    def _create(self) -> None:
        asked = json.loads(self._body)
        owner = asked.get("organization") or self.state.user
        name = f"{owner}/{asked['name']}"
        if not self.known:
            return self._fail(401, "Invalid username or password.")
        if owner != self.state.user:
            return self._fail(403, f"You don't have the rights to create a dataset under {owner}")
        url = {"url": f"{self._base}/datasets/{name}"}
        if name in self.state.repos:
            return self._json({**url, "error": "You already created this dataset repo"}, 409)
        first = [("initial commit", {".gitattributes": b"*.tar filter=lfs\n"})]
        self.state.repos[name] = Repo(asked.get("visibility") == "private", {"main": first})
        return self._json(url)

    @property
    def _base(self) -> str:
        return f"http://{self.headers['Host']}"

    def _at(self, repo: Repo, revision: str) -> tuple[str, Files] | None:
        """(commit id, files) of a branch or commit; None, and the answer is sent, for no such."""
        for name, commits in repo.branches.items():
            for number, (_, files) in enumerate(commits):
                ident = sha1(f"{name} {number}".encode()).hexdigest()
                if revision == ident or (revision == name and number == len(commits) - 1):
                    return ident, files
        self._fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return None

    def _info(self, repo: Repo, rest: list[str]) -> None:
        if (found := self._at(repo, rest[0] if rest else "main")) is None:
            return None
        ident, files = found
        siblings = [{"rfilename": path} for path in files]
        said = {"id": self.name, "sha": ident, "private": repo.private, "siblings": siblings}
        return self._json({**said, "tags": [], "cardData": {}})

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        if path.endswith(LARGE) and data:
            oid = sha256(data).hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\n".encode()
            lfs = {"oid": oid, "size": len(data), "pointerSize": len(pointer)}
            return {**entry, "oid": git_oid(pointer), "lfs": lfs}
        return {**entry, "oid": git_oid(data)}

    def _tree(self, repo: Repo, rest: list[str]) -> None:
        revision, folder = rest[0], "/".join(rest[1:])
        if (found := self._at(repo, revision)) is None:
            return None
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, data in sorted(found[1].items()):
            inside, slash, _ = path.removeprefix(prefix).partition("/")
            if not path.startswith(prefix):
                continue
            if slash:
                where = prefix + inside
                entries[where] = {"type": "directory", "path": where, "oid": "0" * 40, "size": 0}
            if not slash or self.query.get("recursive", "").lower() == "true":
                entries[path] = self._entry(path, data)
        if folder and not entries:
            return self._fail(404, f"{folder} does not exist", "EntryNotFound")
        start = int(self.query.get("cursor", 0))
        page = list(entries.values())[start : start + PAGE]
        headers = {}
        if start + PAGE < len(entries):
            more = f"recursive={self.query.get('recursive', 'False')}&cursor={start + PAGE}"
            headers = {"Link": f'<{self._base}{urlsplit(self.path).path}?{more}>; rel="next"'}
        return self._json(page, 200, headers)

    def _paths(self, repo: Repo, rest: list[str]) -> None:
        if (found := self._at(repo, rest[0])) is None:
            return None
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(self._body)["paths"]
        else:
            asked = parse_qs(self._body.decode()).get("paths", [])
        files, answer = found[1], []
        for path in asked:
            if path in files:
                answer.append(self._entry(path, files[path]))
            elif any(name.startswith(f"{path.rstrip('/')}/") for name in files):
                answer.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return self._json(answer)

    def _may_write(self) -> bool:
        if not self.known:
            self._fail(401, "Invalid username or password.")
        elif not self.name.startswith(f"{self.state.user}/"):
            self._fail(403, "you have only read access to this repository")
        else:
            return True
        return False

    def _preupload(self, repo: Repo, rest: list[str]) -> None:
        if not self._may_write() or (found := self._at(repo, rest[0])) is None:
            return None
        answer = []
        for file in json.loads(self._body)["files"]:
            large = file["path"].endswith(LARGE)
            said = {"path": file["path"], "uploadMode": "lfs" if large else "regular"}
            said |= {"shouldIgnore": False}
            if file["path"] in found[1]:
                entry = self._entry(file["path"], found[1][file["path"]])
                said["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
            answer.append(said)
        return self._json({"files": answer})

    def _batch(self) -> None:
        objects = []
        for asked in json.loads(self._body)["objects"]:
            said = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.state.large:
                href = f"{self._base}/storage/{asked['oid']}"
                said["actions"] = {"upload": {"href": href}}
            objects.append(said)
        return self._json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> None:
        if sha256(self._body).hexdigest() != oid:
            return self._fail(400, "the content is not of this sha256")
        self.state.large[oid] = self._body
        self.state.uploads[oid] += 1
        return self._send(b"")

    def _commit(self, repo: Repo, rest: list[str]) -> None:
        revision = rest[0]
        if not self._may_write() or (found := self._at(repo, revision)) is None:
            return None
        files, message = dict(found[1]), ""
        for line in self._body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
                self.state.small[value["path"]] += 1
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.state.large:
                    return self._fail(400, f"{value['path']} was never uploaded")
                files[value["path"]] = self.state.large[value["oid"]]
            elif item["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                return self._fail(404, "A file with this name doesn't exist", "EntryNotFound")
        repo.branches[revision].append((message, files))
        ident = sha1(f"{revision} {len(repo.branches[revision]) - 1}".encode()).hexdigest()
        url = f"{self._base}/datasets/{self.name}/commit/{ident}"
        return self._json({"commitUrl": url, "commitOid": ident})

    def _branch(self, repo: Repo, rest: list[str]) -> None:
        name = rest[0]
        if not self._may_write():
            return None
        if name in repo.branches:
            return self._fail(409, "Reference already exists")
        repo.branches[name] = list(repo.branches["main"])
        return self._json({})

    def _discussions(self, repo: Repo, rest: list[str]) -> None:
        if rest[1:] == ["status"]:
            status = json.loads(self._body)["status"]
            repo.requests[int(rest[0]) - 1]["status"] = status
            event = {"id": "1", "type": "status-change", "createdAt": "2026-01-01T00:00:00.000Z"}
            return self._json({"newStatus": {**event, "data": {"status": status}}})
        if rest:
            return self._json(repo.requests[int(rest[0]) - 1])
        if self.command == "GET":
            found = repo.requests
            return self._json({"count": len(found), "start": 0, "discussions": found})
        number = len(repo.requests) + 1
        repo.branches[f"refs/pr/{number}"] = list(repo.branches["main"])
        opened = {"num": number, "title": json.loads(self._body)["title"], "status": "draft"}
        opened |= {"author": {"name": self.state.user}, "createdAt": "2026-01-01T00:00:00.000Z"}
        opened |= {"repo": {"name": self.name, "type": "dataset"}, "isPullRequest": True}
        opened |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "events": []}
        repo.requests.append(opened)
        return self._json(opened)

    def _resolve(self, repo: Repo, rest: list[str]) -> None:
        if rest[:1] != ["resolve"]:
            return self._fail(404, f"no {self.where} here")
        revision, path = rest[1], "/".join(rest[2:])
        if (found := self._at(repo, revision)) is None:
            return None
        ident, files = found
        if path not in files:
            return self._fail(404, "Entry not found", "EntryNotFound")
        data = files[path]
        entry = self._entry(path, data)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": ident, "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last or len(data)) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            return self._send(part, 206, headers)
        return self._send(data, 200, headers)


def git_oid(data: bytes) -> str:
    return sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(state: State) -> Iterator[str]:
    """Runs the server in this process; gives its address."""
    handler = type("Handler", (Hub,), {"state": state})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
