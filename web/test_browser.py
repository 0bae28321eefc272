"""Open the page in headless Chromium, recognise a sound file beside it, print what it shows.

python web/test_browser.py build/web AUDIO.wav    (build/web holds model.dual as well)

Exits with an error if the page reports one, or asks for anything outside its own folder.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

SECONDS = 90.0


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the folder, without a line for each request."""

    def log_message(self, *_: Any) -> None:
        pass


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """A server of the folder on a free port, in a thread."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def debugger(profile: Path, url: str) -> str:
    """The address at which the page with this URL can be driven, once the browser has opened it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.3)
        port_file = profile / "DevToolsActivePort"
        if not port_file.exists():
            continue
        port = port_file.read_text(encoding="utf-8").split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [p for p in json.load(answer) if p["url"] == url]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
    raise SystemExit("the browser did not open the page")


def shown(address: str) -> tuple[str, str, list[str]]:
    """Status, text, and what the page fetched, when it is done or has an error to show."""
    script = (
        "JSON.stringify([document.body.dataset.done || '', "
        "document.getElementById('status').textContent, "
        "document.getElementById('partial').textContent, "
        "performance.getEntriesByType('resource').map(r => r.name)])"
    )
    with connect(address, max_size=None) as socket:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            request = {"id": 1, "method": "Runtime.evaluate", "params": {"expression": script}}
            socket.send(json.dumps(request))
            value = json.loads(socket.recv())["result"]["result"].get("value")
            if value is not None:  # the page is laid out
                done, status, text, fetched = json.loads(value)
                if done or status.startswith("error"):
                    return status, text, fetched
            time.sleep(0.5)
    raise SystemExit("the page did not finish")


def main() -> None:
    """See the module."""
    folder, audio = Path(sys.argv[1]), Path(sys.argv[2])
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("this needs Chromium: apt-get install chromium")
    shutil.copy(audio, folder / "audio.wav")
    server = serve(folder)
    origin = f"http://127.0.0.1:{server.server_port}/"
    url = f"{origin}index.html?audio=audio.wav"
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={profile}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            status, text, fetched = shown(debugger(Path(profile), url))
        finally:
            process.terminate()
            process.wait()
    outside = [name for name in fetched if not name.startswith(origin)]
    if outside or status.startswith("error"):
        raise SystemExit(f"{status} {outside}")
    print(text)
    print(status, file=sys.stderr)


if __name__ == "__main__":
    main()
