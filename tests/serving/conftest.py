"""A service that runs in a thread, over a model that babbles."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dualmode.recognizer import Recognizer, load

pytest.importorskip("starlette", reason="needs the extra [serve]")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")
pytest.importorskip("websockets", reason="needs the extra [serve]")
pytest.importorskip("prometheus_client", reason="needs the extra [serve]")

from dualmode.decoding.stream import Endpointing
from dualmode.serving.app import Service
from dualmode.serving.browser import BrowserEngine
from dualmode.serving.server import DrainingServer, make_server
from dualmode.serving.settings import Settings

# The model babbles in silence as well: its segments are cut by length.
SHORT = Endpointing(silence_s=0.4, longest_s=2.0)


@dataclass(frozen=True)
class Running:
    """A service and where it listens."""

    service: Service
    server: DrainingServer
    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the service's event loop."""
        assert self.server._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.server._loop).result(30)

    def metric(self, name: str, labels: dict[str, str] | None = None) -> float:
        """The value of a metric now."""
        value = self.service.metrics.registry.get_sample_value(f"dualmode_{name}", labels or {})
        return value or 0.0


@contextmanager
def run_service(
    recognizer: Recognizer,
    settings: Settings = Settings(endpointing=SHORT),
    live: Recognizer | None = None,
    browser: BrowserEngine | None = None,
) -> Iterator[Running]:
    lives = {} if live is None else {"babbler": live}
    service = Service([("babbler", recognizer)], settings, lives, browser)
    server = make_server(service, "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(service, server, port)
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def recognizer(talkative_model: Path) -> Recognizer:
    return load(talkative_model)


@pytest.fixture(scope="module")
def running(recognizer: Recognizer, one_thread: None) -> Iterator[Running]:
    with run_service(recognizer) as running:
        yield running


@pytest.fixture(scope="session")
def start_service() -> Callable[..., Any]:
    """Start another service, with other settings: a context manager."""
    return run_service


def wait_until(true: Callable[[], bool]) -> None:
    """Poll until something is so; a test that waits for ever fails by its timeout."""
    while not true():
        time.sleep(0.01)
