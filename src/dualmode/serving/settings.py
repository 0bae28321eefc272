"""What a service is started with: its limits, its keys, whom it serves."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualmode.decoding.stream import Endpointing


@dataclass(frozen=True)
class Limits:
    """What one client may ask of a service, and how much work may wait.

    Attributes:
        connections: WebSocket connections at a time.
        streams: streams at a time of one connection.
        stream_seconds: length of one stream.
        idle_s: time without any message of a client that has an open stream, or without a stream.
        message_bytes: size of one WebSocket message.
        waiting_seconds: audio of one stream that waits for device; beyond it, nothing more is
            read from the connection until the waiting audio is recognised.
        waiting_segments: segments of one stream that wait for server, with the same effect.
        waiting_events: events that wait for a slow reader, partials not counted; beyond it, the
            connection is closed.
        upload_bytes: size of an uploaded file.
        uploads: uploaded files that wait or are being recognised.
        drain_s: time that streams have to finish after SIGTERM.
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
    """A service's configuration.

    Attributes:
        keys: API keys, one of which every request must carry; none are asked for if empty.
        origins: origins of pages, besides the service's own, that browsers may call it from.
        endpointing: when device ends a segment, which server then hears again.
    """

    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    endpointing: Endpointing = field(default_factory=Endpointing)
