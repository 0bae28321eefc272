"""A client of the WebSocket, for programs and tests.

with CaptionClient("ws://127.0.0.1:8000") as client:
    client.start(sample_rate_hz=16000)
    client.send(samples)            # float or int16, any number of them
    client.finish()
    for event in client.events():   # until the stream is done
        print(event["type"], event.get("text", ""))
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.errors import DualmodeError

Event = dict[str, Any]


class ServiceError(DualmodeError):
    """The service closed the connection; ``code`` is the close code of the WebSocket."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (close code {code})")
        self.code = code


class CaptionClient:
    """A connection with one or more named streams.

    Args:
        url: address of the service, such as ``ws://127.0.0.1:8000``.
        key: API key.
        timeout_s: timeout of connecting.

    Raises:
        DualmodeError: the package websockets is missing, or no service answers.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 10.0) -> None:
        try:
            from websockets.exceptions import WebSocketException
            from websockets.sync.client import connect
        except ImportError:
            raise DualmodeError("the client needs websockets: pip install websockets") from None
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._socket = connect(
                f"{url.rstrip('/')}/v1/listen",
                additional_headers=headers,
                open_timeout=timeout_s,
                compression=None,
                proxy=None,
            )
        except (OSError, WebSocketException) as error:
            raise DualmodeError(f"no service at {url}: {error}") from None

    def __enter__(self) -> CaptionClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(
        self,
        stream: str = "",
        *,
        sample_rate_hz: int = 16000,
        model: str | None = None,
        revise: bool = True,
        phrases: Sequence[str] | None = None,
        hotwords: Mapping[str, float] | Sequence[str] | None = None,
        threshold: float | None = None,
        written: bool = False,
    ) -> None:
        """Open a stream and select it for :meth:`send`.

        Args:
            model: name of a model of the service; None is the first.
            revise: whether server recognises each segment again.
            phrases: the only possible texts: phrases, or lines of a grammar.
            hotwords: words and phrases to prefer, with their strength in nats per token.
            threshold: least margin of a phrase; see ``Transcript.margin``.
            written: whether segments also have the written form.
        """
        message = {
            "type": "start",
            "stream": stream,
            "sample_rate_hz": sample_rate_hz,
            "encoding": "pcm_s16le",
            "revise": revise,
            "written": written,
            "model": model,
            "phrases": None if phrases is None else list(phrases),
            "hotwords": dict(hotwords) if isinstance(hotwords, Mapping) else hotwords,
            "threshold": threshold,
        }
        self._say({name: value for name, value in message.items() if value is not None})

    def select(self, stream: str) -> None:
        """Select the stream that :meth:`send` sends to."""
        self._say({"type": "select", "stream": stream})

    def send(self, samples: npt.NDArray[np.floating] | npt.NDArray[np.int16]) -> None:
        """Send samples (S,) of one channel: int16, or floats in [-1, 1]."""
        if not np.issubdtype(samples.dtype, np.integer):
            samples = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
        data = samples.astype("<i2").tobytes()
        size = 1 << 18
        for start in range(0, len(data), size):
            self._send(data[start : start + size])

    def finish(self, stream: str = "") -> None:
        """Mark the end of ``stream``."""
        self._say({"type": "finish", "stream": stream})

    def receive(self, timeout_s: float | None = None) -> Event:
        """Wait for the next event.

        Raises:
            ServiceError: the service closed the connection.
            TimeoutError: there was no event within ``timeout_s``.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            event: Event = json.loads(self._socket.recv(timeout_s))
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            raise ServiceError(code, "the connection was closed") from None
        if event["type"] == "error":
            raise ServiceError(event["code"], event["message"])
        return event

    def events(self, stream: str = "", timeout_s: float | None = 60.0) -> Iterator[Event]:
        """Yield the events of all streams until ``stream`` is done."""
        while True:
            event = self.receive(timeout_s)
            yield event
            if event["type"] == "done" and event["stream"] == stream:
                return

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _say(self, message: Event) -> None:
        self._send(json.dumps(message))

    def _send(self, data: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(data)
        except ConnectionClosed:
            # An event that the service sent before it closed explains the failure better.
            while True:
                self.receive(1.0)
