"""Settings of the service: limits, API keys and allowed origins."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualmode.decoding.stream import Endpointing


@dataclass(frozen=True)
class Limits:
    """Limits of clients and queues.

    Attributes:
        connections: simultaneous WebSocket connections.
        streams: simultaneous streams of a connection.
        stream_seconds: duration of a stream.
        idle_s: time without a message from a client that has an open stream, or without a stream.
        message_bytes: size of a WebSocket message.
        waiting_seconds: audio of a stream waiting for device; above it, the connection is not read
            until the waiting audio is recognised.
        waiting_segments: segments of a stream waiting for server, with the same effect.
        waiting_events: events waiting for a slow client, partials not counted; above it, the
            connection is closed.
        upload_bytes: size of an uploaded file.
        uploads: uploaded files waiting or being recognised.
        drain_s: time for streams to finish after SIGTERM.
    """

    connections: int = 100
    streams: int = 4
    stream_seconds: float = 4 * 3600.0
    idle_s: float = 60.0
    message_bytes: int = 1 << 20
    waiting_seconds: float = 10.0
    waiting_segments: int = 8
    waiting_events: int = 1000
    upload_bytes: int = 1 << 29
    uploads: int = 16
    drain_s: float = 20.0


@dataclass(frozen=True)
class Settings:
    """Configuration of a service.

    Attributes:
        keys: API keys; every request must carry one of them, unless there are none.
        origins: allowed origins of web pages, besides the service's own.
        endpointing: rules by which device ends a segment.
    """

    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    endpointing: Endpointing = field(default_factory=Endpointing)
