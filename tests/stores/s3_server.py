"""A small S3: the requests that s3fs makes to list, read, write and delete, kept in memory, with
faults to order. Objects appear whole, as S3 has it.

    with serve(State()) as url: …            # AWS_ENDPOINT_URL=url
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
WHEN = "2026-01-01T00:00:00.000Z"


@dataclass
class State:
    """`objects` by key. The process `victim` is killed before (or, with `late`, after) the request
    whose "METHOD key" is the nth to match `kill`. Requests that match `deny` get a 403."""

    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    kill: str = ""
    nth: int = 1
    late: bool = False
    victim: int = 0
    deny: str = ""
    seen: int = 0

    def is_fatal(self, request: str) -> bool:
        if not self.kill or not re.search(self.kill, request):
            return False
        self.seen += 1
        return self.seen == self.nth


class Handler(BaseHTTPRequestHandler):
    state: State
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self._body()
        request = f"{self.command} {key}"
        self.state.requests.append(request)
        fatal = self.state.is_fatal(request)
        if fatal and not self.state.late:
            self._kill()
            return
        if self.state.deny and re.search(self.state.deny, request):
            self._error(403, "AccessDenied", "Access Denied")
        elif bucket != BUCKET:
            self._error(404, "NoSuchBucket", "The specified bucket does not exist")
        else:
            self._answer(key, query, body, fatal)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def _answer(self, key: str, query: dict[str, str], body: bytes, fatal: bool) -> None:
        objects = self.state.objects
        if self.command == "PUT":
            objects[key] = body
            if fatal:
                self._kill()
                return
            self._send(200, b"", ETag=f'"{md5(body).hexdigest()}"')
        elif self.command == "POST" and "delete" in query:
            for found in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                objects.pop(found, None)
            self._send(200, b"<DeleteResult/>")
        elif self.command == "DELETE":
            objects.pop(key, None)
            self._send(204, b"")
        elif not key:
            self._send(200, self._listing(query))
        elif key in objects:
            self._get(objects[key])
        else:
            self._error(404, "NoSuchKey", "The specified key does not exist.")

    def _get(self, data: bytes) -> None:
        headers = {
            "ETag": f'"{md5(data).hexdigest()}"',
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        }
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self._send(206, data[start:stop], **headers)
        else:
            self._send(200, data, **headers)

    def _listing(self, query: dict[str, str]) -> bytes:
        """A page of a listing: small, so that there are several."""
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        delimiter = query.get("delimiter", "")
        found = sorted(k for k in self.state.objects if k.startswith(prefix) and k > after)
        folders = set[str]()
        if delimiter:
            rest = {k: k[len(prefix) :] for k in found}
            folders = {prefix + r.split("/")[0] + "/" for r in rest.values() if "/" in r}
            page = [k for k, r in rest.items() if "/" not in r]
        else:
            page = found[:20]
        more = not delimiter and len(page) < len(found)
        entries = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.state.objects[k])}</Size>"
            f"<LastModified>{WHEN}</LastModified><ETag>x</ETag></Contents>"
            for k in page
        )
        entries += "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        ).encode()

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        data, rest = b"", body
        while True:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size.split(b";")[0], 16)
            if not count:
                return data
            data, rest = data + rest[:count], rest[count + 2 :]

    def _kill(self) -> None:
        os.kill(self.state.victim, signal.SIGKILL)
        self.close_connection = True

    def _error(self, status: int, code: str, message: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._send(status, text.encode())

    def _send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serve(state: State) -> Iterator[str]:
    """Its address, for as long as the block lasts."""
    handler = type("Bound", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
