"""A headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
)


class Page:
    """One page: scripts run in it, keys pressed, pictures taken."""

    def __init__(self, socket: Any, session: str) -> None:
        self._socket = socket
        self._session = session
        self._number = 100
        self.errors: list[str] = []
        self.requested: list[str] = []  # addresses of requests and WebSockets
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools method; what the page complains of meanwhile goes to ``errors``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps({**message, "sessionId": self._session}))
        while True:
            answer = json.loads(self._socket.recv(60))
            self._note(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        if message.get("method") == "Network.webSocketCreated":
            self.requested.append(message["params"]["url"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        entry = message.get("params", {}).get("entry", {})
        if message.get("method") == "Log.entryAdded" and entry.get("level") == "error":
            self.errors.append(f"{entry.get('text')} {entry.get('url', '')}")

    def run(self, script: str) -> Any:
        """The value of an expression; promises are awaited."""
        done = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def wait(self, condition: str) -> None:
        """Until a condition holds in the page."""
        while not self.run(f"!!({condition})"):
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, down and up."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def open(self, url: str, width: int = 1200, height: int = 900) -> None:
        """Load a page and wait for it."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def picture(self, path: Path) -> None:
        """Write a PNG of what is seen."""
        data = self.call("Page.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def open_page(folder: Path, microphone: Path) -> Iterator[Page]:
    """A page in a new Chromium whose microphone plays a WAV file once."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *_FLAGS,
        f"--user-data-dir={folder}",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "about:blank",
    ]
    browser = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert browser.stderr is not None
        found = None
        while found is None:
            line = browser.stderr.readline()
            assert line, "Chromium ended"
            found = re.search(r"DevTools listening on (ws://\S+)", line)
        with connect(found[1], compression=None, max_size=None, proxy=None) as socket:
            yield _attach(socket)
    finally:
        browser.terminate()
        browser.wait(30)


def _attach(socket: Any) -> Page:
    def ask(number: int, method: str, **parameters: Any) -> dict[str, Any]:
        socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(socket.recv(60))).get("id") != number:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    target = ask(1, "Target.createTarget", url="about:blank")["targetId"]
    session = ask(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    return Page(socket, session)
