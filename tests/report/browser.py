"""A headless Chromium, told what to do over the DevTools protocol through a pipe: nothing to
install but the browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from select import select
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The browser of the environment variable CHROMIUM, else one on the path, else None."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of one browser. `events` collects what it reported: requests, errors, dialogs."""

    def __init__(self, command: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._number, self._buffer, self._session = 0, b"", ""
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        os.set_inheritable(to_read, True)
        os.set_inheritable(to_write, True)
        # Chromium reads descriptor 3 and writes descriptor 4, answers ended by NUL.
        words = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--autoplay-policy=no-user-gesture-required",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        shell = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, command, *words],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer. Raises RuntimeError where the browser refuses."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") != self._number:
                self._take(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event.get("method") == "Page.javascriptDialogOpening":
            self._number += 1  # closed, or nothing else would be answered
            closing = {"id": self._number, "method": "Page.handleJavaScriptDialog"}
            closing |= {"params": {"accept": True}, "sessionId": self._session}
            os.write(self._to, json.dumps(closing).encode() + b"\0")

    def _next(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._from], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._from, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("the browser does not answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, url: str, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        """Loads a page in a window of this size, in this colour scheme."""
        self.resize(width, height)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + 60
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self._take(self._next(deadline - time.monotonic()))
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def resize(self, width: int, height: int) -> None:
        mobile = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )

    def evaluate(self, code: str) -> Any:
        """The value of an expression (of a promise: what it comes to)."""
        answer = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Presses and releases a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "Home": 36}
        text = {"Enter": "\r", " ": " "}.get(name, "")
        key = {"key": name, "windowsVirtualKeyCode": codes[name]}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **key
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def screenshot(self, path: Path, clip: tuple[float, float, float, float] | None = None) -> None:
        """The window as a PNG, or `clip` (x, y, width, height) of the page."""
        more: dict[str, Any] = {}
        if clip is not None:
            box = dict(zip(("x", "y", "width", "height"), clip, strict=True))
            more = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        data = self.call("Page.captureScreenshot", format="png", **more)["data"]
        path.write_bytes(b64decode(data))

    def requests(self) -> list[str]:
        """Every address that the page asked for since it was opened."""
        sent = (e for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [str(e["params"]["request"]["url"]) for e in sent]

    def problems(self) -> list[str]:
        """Exceptions, console errors and dialogs since the page was opened."""
        kinds = ("Runtime.exceptionThrown", "Page.javascriptDialogOpening")
        found = [str(e["params"]) for e in self.events if e.get("method") in kinds]
        logged = (e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded")
        return found + [str(entry["text"]) for entry in logged if entry["level"] == "error"]

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
