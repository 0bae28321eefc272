"""A WebSocket connection with its streams, reader and writer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from itertools import count
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from dualmode.errors import DualmodeError
from dualmode.serving import protocol
from dualmode.serving.live import LiveStream
from dualmode.serving.metrics import Metrics
from dualmode.serving.models import Models
from dualmode.serving.protocol import ProtocolError
from dualmode.serving.security import key_is_right
from dualmode.serving.settings import Settings

log = logging.getLogger("dualmode.serving")
_numbers = count(1)


class Connection:
    """Serves one accepted WebSocket until it closes.

    Args:
        authorised: whether the upgrade request carried a key; otherwise the first ``start`` must.
    """

    def __init__(
        self,
        socket: WebSocket,
        models: Models,
        settings: Settings,
        metrics: Metrics,
        *,
        authorised: bool,
    ) -> None:
        self._socket = socket
        self._models = models
        self._settings = settings
        self._limits = settings.limits
        self._metrics = metrics
        self._authorised = authorised
        self._number = next(_numbers)
        self._streams: dict[str, LiveStream] = {}
        self._chosen: LiveStream | None = None
        self._outbox = Outbox(self._limits.waiting_events)
        self._draining = asyncio.Event()
        self._code = 1000

    async def serve(self) -> None:
        """Read and write until the client leaves, violates the protocol, or is drained."""
        began = time.monotonic()
        self._metrics.connections.inc()
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        overflow = asyncio.create_task(self._outbox.overflow.wait())
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait({reader, writer, overflow}, return_when=first)
            await self._close(reader, writer)
        finally:
            tasks = (reader, writer, overflow)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            seconds = sum(stream.seconds for stream in self._streams.values())
            for stream in self._streams.values():
                stream.close()
            self._metrics.connections.dec()
            self._metrics.closed.labels(str(self._code)).inc()
            log.info(
                "connection closed",
                extra={
                    "fields": {
                        "connection": self._number,
                        "code": self._code,
                        "open_s": round(time.monotonic() - began, 1),
                        "audio_s": round(seconds, 1),
                    }
                },
            )

    def drain(self) -> None:
        """End all streams as if the client had ended them, then close."""
        self._draining.set()
        for stream in self._streams.values():
            if not stream.done.is_set():
                stream.finish()

    async def drained(self) -> None:
        """Wait until every stream has sent its last event."""
        for stream in list(self._streams.values()):
            await stream.done.wait()
        self._outbox.end(protocol.GOING_AWAY)

    async def _close(self, reader: asyncio.Task[None], writer: asyncio.Task[None]) -> None:
        """Send the reason, let the writer send the remaining events, and close."""
        failure = reader.exception() if reader.done() and not reader.cancelled() else None
        if isinstance(failure, ProtocolError):
            self._code = failure.code
            self._outbox.put(protocol.error(failure.code, str(failure)))
            self._outbox.end(failure.code)
        elif isinstance(failure, WebSocketDisconnect):
            self._code = failure.code
            return
        elif failure is not None:
            self._code = protocol.INTERNAL
            log.error("connection failed", exc_info=failure)
            self._outbox.end(protocol.INTERNAL)
        elif self._outbox.code is not None:
            self._code = self._outbox.code
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.shield(writer), 2.0)
        if self._socket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._socket.close(self._code), 2.0)

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if (text := message.get("text")) is not None:
                await self._control(text)
            else:
                await self._audio(message.get("bytes") or b"")

    async def _receive(self) -> Any:
        while True:
            try:
                return await asyncio.wait_for(self._socket.receive(), self._limits.idle_s)
            except TimeoutError:
                # A client that waits for the last events of its streams is not idle.
                if any(s.finished and not s.done.is_set() for s in self._streams.values()):
                    continue
                raise ProtocolError(
                    protocol.IDLE, f"no message for {self._limits.idle_s:g} s"
                ) from None

    async def _control(self, text: str) -> None:
        message = protocol.parse_control(text)
        if isinstance(message, protocol.Start):
            await self._start(message)
            return
        stream = self._streams.get(message.stream)
        if stream is None or stream.done.is_set():
            if isinstance(message, protocol.Finish) and stream is not None:
                return  # the stream was drained meanwhile
            raise ProtocolError(protocol.BAD_MESSAGE, f"stream {message.stream!r} is not open")
        if isinstance(message, protocol.Select):
            self._chosen = stream
        else:
            stream.finish()

    async def _start(self, start: protocol.Start) -> None:
        if not self._authorised:
            if not key_is_right(start.key, self._settings.keys):
                raise ProtocolError(protocol.NO_KEY, "an API key is needed")
            self._authorised = True
        if self._draining.is_set():
            raise ProtocolError(protocol.GOING_AWAY, "the service is shutting down")
        model = self._models.get(start.model)
        if model is None:
            raise ProtocolError(protocol.BAD_MESSAGE, f"no model {start.model!r}")
        before = self._streams.get(start.stream)
        if before is not None and not before.done.is_set():
            raise ProtocolError(protocol.BAD_MESSAGE, f"stream {start.stream!r} is open already")
        if sum(not s.done.is_set() for s in self._streams.values()) >= self._limits.streams:
            raise ProtocolError(
                protocol.TOO_MANY, f"at most {self._limits.streams} streams per connection"
            )
        if len(self._streams) > 100:  # names of streams that ended long ago
            self._streams = {n: s for n, s in self._streams.items() if not s.done.is_set()}
        stream = LiveStream(start, model, self._limits, self._metrics, self._outbox.put)
        try:
            await stream.open()
        except DualmodeError as error:
            raise ProtocolError(protocol.BAD_MESSAGE, str(error)) from None
        self._streams[start.stream] = self._chosen = stream
        self._outbox.put(protocol.ready(start.stream, model.name, model.describe()))

    async def _audio(self, data: bytes) -> None:
        stream = self._chosen
        if stream is None:
            raise ProtocolError(protocol.BAD_MESSAGE, "audio before a start message")
        if len(data) > self._limits.message_bytes:
            raise ProtocolError(
                protocol.TOO_LONG, f"a message has at most {self._limits.message_bytes} bytes"
            )
        if self._draining.is_set():
            return
        if stream.finished:
            raise ProtocolError(protocol.BAD_MESSAGE, f"stream {stream.name!r} has been finished")
        stream.push(protocol.decode_samples(data, stream.encoding))
        if stream.seconds > self._limits.stream_seconds:
            raise ProtocolError(
                protocol.TOO_LONG, f"a stream is at most {self._limits.stream_seconds:g} s long"
            )
        await stream.room()

    async def _write(self) -> None:
        async for event in self._outbox:
            await self._socket.send_json(event)


class Outbox:
    """Queue of events to send. A new partial replaces a queued one of the same stream, so that a
    slow client receives fewer partials; at most ``most`` other events are queued."""

    def __init__(self, most: int) -> None:
        self._events: deque[protocol.Event] = deque()
        self._more = asyncio.Event()
        self._most = most
        self._ended = False
        self.overflow = asyncio.Event()
        self.code: int | None = None

    def put(self, event: protocol.Event) -> None:
        """Queue an event."""
        if self._ended:
            return
        if event["type"] == "partial":
            for index in range(len(self._events) - 1, -1, -1):
                waiting = self._events[index]
                if waiting["stream"] == event["stream"]:
                    if waiting["type"] == "partial":
                        self._events[index] = event
                        return
                    break
        self._events.append(event)
        if len(self._events) > self._most:
            self._events.clear()
            self.end(protocol.SLOW_READER)
            self.overflow.set()
        self._more.set()

    def end(self, code: int) -> None:
        """Close the connection with ``code`` after the queued events."""
        self._ended = True
        self.code = self.code or code
        self._more.set()

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> protocol.Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._events.popleft()
